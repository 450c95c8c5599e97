//! A dump, restored into another database, while Kafka has dropped a part of what came after it.

use crate::{
    support::{self, World},
    topic::{self, read, stored},
};

use super::{
    MINUTE, QUICK, announcement, assert_computed, audit, beside, checks, dump, dump_but, node,
    number, restore, start,
};

/// A world whose consumer has stored the first `minutes` of a site.
async fn begun(name: &str, site: &str, start: i64, minutes: i64) -> World {
    let world = World::new(name).await;
    world.create_topic(1).await;
    world.produce_keyed([announcement(site, start)]);
    world.produce_keyed(checks(site, start, 0..minutes));
    let mut consumer = world.node("consumer", QUICK);
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("the first rows", rows, minutes).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world
}

#[actix_rt::test]
async fn what_kafka_no_longer_has_is_a_gap_and_the_rest_is_complete() {
    let start = start();
    let world = begun("gone", "a", start, 70).await;
    let kept = node(world.folder.path(), &world.database_url, &["housekeep"]);
    assert!(kept.status.success(), "{kept:?}");
    let backup = dump(&world, &world.database_url);

    // Stored after the backup, and lost with the database. Of these 80 messages Kafka drops the first 30.
    world.produce_keyed(checks("a", start, 70..150));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.expire_before(1 + 100).await;

    let url = beside(&world).await;
    restore(&backup, &url, &["--no-owner"]);
    // Right after it: what is there is told with how much of it that is.
    let (since, until) = (super::instant(start), super::instant(start + 150 * MINUTE));
    let arguments = [
        "report", "--from", &since, "--to", &until, "--format", "json",
    ];
    let report = node(world.folder.path(), &url, &arguments);
    assert!(report.status.success(), "{report:?}");
    let told: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let coverage = told["sites"][0]["coverage"].as_f64().unwrap();
    assert!((coverage - 100.0 * 70.0 / 150.0).abs() < 0.01, "{told}");

    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    consumer.wait_for_log("reading").await;
    let db = support::connect(&url).await;
    let rows = "SELECT count(*) FROM checks";
    world
        .wait_until("the rest", async || number(&db, rows).await >= 120)
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());

    let gap = "SELECT reason, from_offset, to_offset FROM kafka_gap";
    let gap = db.query_one(gap, &[]).await.unwrap();
    assert_eq!(
        (gap.get(0), gap.get(1), gap.get(2)),
        ("retention", 1 + 70_i64, 1 + 100_i64)
    );
    let (code, told) = audit(&world, &url, start, start + 150 * MINUTE);
    assert_eq!(code, Some(1), "{told}");
    let total = &told["total"];
    assert_eq!(
        (&total["expected"], &total["stored"], &total["missing"]),
        (&150.into(), &120.into(), &30.into()),
        "{told}"
    );
    assert_eq!(
        told["sites"][0]["missing_slots"][0],
        super::instant(start + 70 * MINUTE)
    );
    // All but these is there, and says what the messages said.
    let stored = stored(&db).await;
    for (identity, content) in topic::checks(&read(&world.topic, 1)) {
        assert_eq!(stored.get(&identity), Some(&content), "{identity:?}");
    }
    assert_eq!(stored.len(), 120);
    assert_computed(&world, &url).await;
}

/// A dump without a partition says that more is stored than there is.
#[actix_rt::test]
async fn what_was_left_out_of_a_dump_comes_back_once_the_offsets_are_forgotten() {
    let start = start();
    let mut world = begun("left_out", "a", start, 120).await;
    let kept = node(world.folder.path(), &world.database_url, &["housekeep"]);
    assert!(kept.status.success(), "{kept:?}");
    let less = [
        "--exclude-table=check_result_*",
        "--exclude-table-data=rollup_hour*",
        "--exclude-table-data=rollup_day*",
        "--exclude-table-data=rollup_month*",
    ];
    let backup = dump_but(&world, &world.database_url, &less);
    let url = beside(&world).await;
    restore(&backup, &url, &["--no-owner"]);
    world.database_url = url;
    world.reconnect().await;
    let (code, told) = audit(&world, &world.database_url, start, start + 120 * MINUTE);
    assert_eq!((code, &told["total"]["missing"]), (Some(1), &120.into()));

    let forget = format!("DELETE FROM kafka_offset WHERE topic = '{}'", world.topic);
    world.db.batch_execute(&forget).await.unwrap();
    let mut consumer = world.node("consumer", QUICK);
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let (code, told) = audit(&world, &world.database_url, start, start + 120 * MINUTE);
    assert_eq!((code, &told["total"]["stored"]), (Some(0), &120.into()));
    let anew = "UPDATE rollup_state SET rolled_until = raw_since";
    world.db.batch_execute(anew).await.unwrap();
    assert_computed(&world, &world.database_url).await;
}

/// Kafka divides the partitions between all consumers of a group, whatever database they store in.
#[actix_rt::test]
async fn what_a_consumer_of_the_old_database_takes_is_read_again_when_it_is_gone() {
    let (mut world, start) = (World::new("both").await, start());
    world.create_topic(2).await;
    let sites: Vec<_> = (0..8).map(|n| format!("site-{n}")).collect();
    let send = |minutes: std::ops::Range<i64>| {
        for site in &sites {
            world.produce_keyed(checks(site, start, minutes.clone()));
        }
    };
    world.produce_keyed(sites.iter().map(|site| announcement(site, start)));
    send(0..20);
    let mut old = world.node("consumer", QUICK);
    world.wait_until_stored().await;
    let backup = dump(&world, &world.database_url);
    let url = beside(&world).await;
    restore(&backup, &url, &["--no-owner"]);

    let mut new = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    new.wait_for_log("reading").await;
    send(20..60);
    // Each has stored what the other has not.
    let stored_by = "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset";
    let ends = world.topic_ends();
    let db = support::connect(&url).await;
    world
        .wait_until("both to store", async || {
            number(&world.db, stored_by).await + number(&db, stored_by).await >= ends + 8 * (1 + 20)
        })
        .await;
    assert!(number(&db, stored_by).await < ends, "it has read all alone");
    assert_eq!(old.stop(), Some(0), "{}", old.log());
    world.database_url = url;
    world.reconnect().await;
    world.wait_until_stored().await;
    assert_eq!(new.stop(), Some(0), "{}", new.log());
    assert_eq!(
        stored(&world.db).await,
        topic::checks(&read(&world.topic, 2))
    );
    let (code, told) = audit(&world, &world.database_url, start, start + 60 * MINUTE);
    assert_eq!((code, &told["total"]["stored"]), (Some(0), &480.into()));
}
