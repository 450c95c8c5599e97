//! Locks and sessions that hold up the consumer.

use std::time::Duration;

use super::{QUICK, ROWS, migrated, number, payloads, wait_for};
use crate::support::{connect, required};

#[actix_rt::test]
async fn a_lock_of_another_session_is_waited_out_and_told() {
    let mut world = migrated("locked").await;
    world.produce(payloads("a", 0..10));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 10).await;
    let url = world.database_url.clone();
    let lock = world.db.transaction().await.unwrap();
    lock.execute("SELECT FROM kafka_offset FOR UPDATE", &[])
        .await
        .unwrap();
    world_produce(&world.topic, payloads("b", 0..10));
    consumer.wait_for_log("postgres.lock_timeout").await;
    let other = connect(&url).await;
    assert_eq!(number(&other, ROWS).await, 10);
    lock.rollback().await.unwrap();
    wait_for(&other, &consumer, ROWS, 20).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// As [`World::produce`], while the world itself is in a transaction.
fn world_produce(topic: &str, payloads: impl Iterator<Item = Vec<u8>>) {
    use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
    let producer: ThreadedProducer<_> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", required("KAFKA_SERVER"))
        .create()
        .unwrap();
    for payload in payloads {
        let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(topic).key("k").payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

#[actix_rt::test]
async fn a_process_that_stands_still_in_its_transaction_does_not_hold_up_its_successor() {
    let world = migrated("stands_still").await;
    world.produce(payloads("a", 0..10));
    let still = [("FAILPOINTS", "writer::before_commit=1*sleep(5000)->off")];
    let mut consumer = world.node_with("consumer", QUICK, &still);
    // Its row of kafka_offset is locked, and let go after a second though it stands still for five.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    world
        .wait_for("a transaction that stands still", waiting, 1)
        .await;
    let touch = "SET lock_timeout = '4s'; UPDATE kafka_offset SET updated_at = now()";
    world.db.batch_execute(touch).await.unwrap();
    world.wait_for("rows", ROWS, 10).await;
    let log = consumer.log();
    assert!(
        log.contains("idle_in_transaction_timeout") || log.contains("lost"),
        "{log}"
    );
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(world.number(ROWS).await, 10);
}

#[actix_rt::test]
async fn a_session_left_in_the_middle_of_a_copy_is_ended() {
    let world = migrated("left_copy").await;
    world.produce(payloads("a", 0..10));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 10).await;
    let url = format!("{}?application_name=sitewatch-node", world.database_url);
    let mut left = connect(&url).await;
    let transaction = left.transaction().await.unwrap();
    transaction
        .execute("UPDATE kafka_offset SET updated_at = now()", &[])
        .await
        .unwrap();
    let copy = "COPY check_result FROM STDIN BINARY";
    let _sink = transaction.copy_in::<_, bytes::Bytes>(copy).await.unwrap();
    world.produce(payloads("b", 0..10));
    consumer.wait_for_log("left in the middle of a COPY").await;
    world.wait_for("rows", ROWS, 20).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
