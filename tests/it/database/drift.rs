//! Tables that somebody has changed or dropped.

use super::{QUICK, ROWS, migrated, payloads};
use crate::support::message;

#[actix_rt::test]
async fn what_is_missing_is_made_again_at_the_start_and_while_running() {
    let world = migrated("drift_heals").await;
    let drop_some = "DROP TABLE kafka_gap; ALTER TABLE check_detail DROP COLUMN facts CASCADE;
        DROP FUNCTION make_partition(text, timestamptz, timestamptz); DROP TRIGGER rollup_day_changed ON rollup_day";
    world.db.batch_execute(drop_some).await.unwrap();
    world.produce(payloads("a", 0..100));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 100).await;
    for told in [
        "kafka_gap: found no such table",
        "check_detail.facts: found no such column; right would be jsonb",
        "checks: found nothing of this name",
        "make_partition: found nothing",
        "rollup_day_added, rollup_day_changed: found nothing of this name; right would be triggers",
        "schema applied",
    ] {
        assert!(consumer.log().contains(told), "{told}\n{}", consumer.log());
    }
    let checks = "SELECT count(*) FROM checks";
    assert_eq!(world.number(checks).await, 100, "the view is back");

    let drop_table = "DROP TABLE check_detail, dead_letter CASCADE";
    world.db.batch_execute(drop_table).await.unwrap();
    world.produce([b"{".to_vec()]);
    world.produce(payloads("b", 0..100));
    world.wait_for("rows after the drop", ROWS, 200).await;
    let letters = "SELECT count(*) FROM dead_letter";
    assert_eq!(world.number(letters).await, 1);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn what_can_not_be_mended_stops_the_process_and_is_named() {
    let world = migrated("drift_stops").await;
    let wider = "DROP VIEW checks; ALTER TABLE check_result ALTER lateness_ms TYPE int8";
    for (change, told, undo) in [
        (
            wider,
            "check_result.lateness_ms: found the type bigint; right would be integer",
            "ALTER TABLE check_result ALTER lateness_ms TYPE int4",
        ),
        (
            "ALTER TABLE check_result ADD COLUMN region text NOT NULL",
            "check_result.region: found a column of another's that must not be null",
            "ALTER TABLE check_result DROP COLUMN region",
        ),
        (
            "ALTER TABLE check_result DROP CONSTRAINT check_result_pkey",
            "right would be a primary key or unique index on (site_id, location_id, slot)",
            "ALTER TABLE check_result ADD PRIMARY KEY (site_id, location_id, slot)",
        ),
        (
            "CREATE TABLE rest PARTITION OF check_result DEFAULT",
            "found the default partition rest, which stands in the way of new ones",
            "DROP TABLE rest",
        ),
    ] {
        world.db.batch_execute(change).await.unwrap();
        let mut consumer = world.node("consumer", QUICK);
        assert_eq!(consumer.wait().code(), Some(78), "{}", consumer.log());
        assert!(consumer.log().contains(told), "{told}\n{}", consumer.log());
        world.db.batch_execute(undo).await.unwrap();
    }
    // In groups of their own: those that stopped are waited for in the first one.
    let in_group =
        |group| world.node_with("consumer", QUICK, &[("SITEWATCH__KAFKA__GROUP", group)]);
    let group = format!("{}_running", world.topic);
    let mut consumer = in_group(&group);
    consumer.wait_for_log("connected to PostgreSQL").await;

    // While it runs: no row may become a dead letter because of it.
    world.db.batch_execute(wider).await.unwrap();
    world.produce(payloads("a", 0..100));
    assert_eq!(consumer.wait().code(), Some(78), "{}", consumer.log());
    let letters = "SELECT count(*) FROM dead_letter";
    assert_eq!(world.number(letters).await, 0);
    let undo = "ALTER TABLE check_result ALTER lateness_ms TYPE int4";
    world.db.batch_execute(undo).await.unwrap();
    let group = format!("{}_mended", world.topic);
    let _consumer = in_group(&group);
    world.wait_for("rows after the mend", ROWS, 100).await;
}

#[actix_rt::test]
async fn partitions_that_were_dropped_or_detached_are_made_again() {
    let world = migrated("partitions").await;
    let failing = |site: &str, numbers: std::ops::Range<i64>| {
        let made: Vec<_> = numbers
            .map(|n| {
                let mut failed = message(site, n);
                failed["outcome"] = "down".into();
                failed["error"] = "ttfb_timeout".into();
                failed["error_detail"] = "too late".into();
                failed.to_string().into_bytes()
            })
            .collect();
        made
    };
    world.produce(failing("a", 0..50));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 50).await;
    let drop_details = "DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'check_detail'::regclass LOOP
            EXECUTE 'DROP TABLE ' || name; END LOOP; END $$";
    world.db.batch_execute(drop_details).await.unwrap();
    world.produce(failing("b", 0..50));
    world
        .wait_for("details", "SELECT count(*) FROM check_detail", 50)
        .await;
    let detach = drop_details
        .replace("check_detail", "check_result")
        .replace(
            "DROP TABLE ' || name",
            "ALTER TABLE check_result DETACH PARTITION ' || name",
        );
    world.db.batch_execute(&detach).await.unwrap();
    assert_eq!(world.number(ROWS).await, 0);
    world.produce(failing("c", 0..50));
    // What was detached keeps its name and its rows.
    world
        .wait_for("rows beside what was detached", ROWS, 50)
        .await;
    // Somebody's partition, open on both sides, is left and used.
    world.db.batch_execute(&detach).await.unwrap();
    let all =
        "CREATE TABLE somebodys PARTITION OF check_result FOR VALUES FROM (MINVALUE) TO (MAXVALUE)";
    world.db.batch_execute(all).await.unwrap();
    world.produce(failing("d", 0..50));
    world
        .wait_for("rows in it", "SELECT count(*) FROM somebodys", 50)
        .await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
