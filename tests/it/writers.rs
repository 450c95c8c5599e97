//! A consumer with several writers: each partition has one of them, and what happens to one holds up its partitions only.

use std::collections::BTreeMap;

use crate::support::{World, message};

const ROWS: &str = "SELECT count(*) FROM check_result";
const THREE: &str = "node: { restart: { base: 10ms, cap: 100ms } }
postgres: { writers: 3, batch: { max_rows: 200, max_age: 50ms } }\n";

/// Messages of many sites, so that every partition gets some.
fn messages(from: i64, count: i64) -> impl Iterator<Item = (String, Vec<u8>)> {
    (from..from + count).map(|n| {
        let site = format!("site {}", n % 60);
        let payload = message(&site, n).to_string().into_bytes();
        (site, payload)
    })
}

#[actix_rt::test]
async fn each_partition_is_stored_once_by_its_own_writer_though_one_panics() {
    let world = World::new("writers").await;
    world.create_topic(7).await;
    world.produce_keyed(messages(0, 20_000));
    let failing = [("FAILPOINTS", "writer::store=20*off->1*panic(boom)->off")];
    let mut consumer = world.node_with("consumer", THREE, &failing);
    world.wait_for("rows", ROWS, 20_000).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    // One for each writer, and the housekeeper's.
    let sessions = world.number(sessions).await;
    assert!(
        (3..=4).contains(&sessions),
        "{sessions}\n{}",
        consumer.log()
    );
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let log = consumer.log();
    assert_eq!(log.matches("actor failed, restarting").count(), 1, "{log}");
    assert_eq!(world.number(ROWS).await, 20_000);
    for (what, sql, wanted) in [
        (
            "offsets",
            "SELECT sum(next)::int8 FROM kafka_offset",
            20_000,
        ),
        ("partitions", "SELECT count(*) FROM kafka_offset", 7),
        ("gaps", "SELECT count(*) FROM kafka_gap", 0),
        ("dead letters", "SELECT count(*) FROM dead_letter", 0),
    ] {
        assert_eq!(world.number(sql).await, wanted, "{what}\n{log}");
    }
}

#[actix_rt::test]
async fn a_writer_that_waits_for_a_lock_holds_up_its_own_partitions_only() {
    let world = World::new("writer_locked").await;
    world.create_topic(6).await;
    world.produce_keyed(messages(0, 600));
    let mut consumer = world.node("consumer", THREE);
    world.wait_for("rows", ROWS, 600).await;
    let offsets = async || {
        let rows = world
            .query("SELECT partition, next FROM kafka_offset")
            .await;
        rows.iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect::<BTreeMap<i32, i64>>()
    };
    let before = offsets().await;

    let mut locker = crate::support::connect(&world.database_url).await;
    let lock = locker.transaction().await.unwrap();
    lock.execute(
        "SELECT FROM kafka_offset WHERE partition = 0 FOR UPDATE",
        &[],
    )
    .await
    .unwrap();
    // More than the writer of partition 0 and its lane can hold: its partitions are paused.
    world.produce_keyed(messages(600, 12_000));
    consumer
        .wait_for_log("the writer has no room, pausing")
        .await;
    // Partitions 0 and 3 have the same writer. The same keys come again, so each partition gets as much for each message
    // of the first 600 as the others.
    let wanted: i64 = before
        .iter()
        .filter(|(partition, _)| *partition % 3 != 0)
        .map(|(_, next)| next * 20)
        .sum();
    let others = "SELECT sum(next)::int8 FROM kafka_offset WHERE partition % 3 <> 0";
    world
        .wait_for("the others", others, wanted + wanted / 20)
        .await;
    assert_eq!(
        offsets().await[&0],
        before[&0],
        "the lock does not hold partition 0"
    );

    lock.rollback().await.unwrap();
    world.wait_for("all rows", ROWS, 12_600).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert!(
        consumer.log().contains("the writer has room again"),
        "{}",
        consumer.log()
    );
    assert_eq!(world.number(ROWS).await, 12_600);
    assert_eq!(world.number("SELECT count(*) FROM kafka_gap").await, 0);
}
