//! What is in a topic, read by a plain consumer, and whether the rows say the same: contents, not only identities.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::Value;
use tokio_postgres::Client;

use crate::support::required;

/// A message as Kafka holds it.
pub struct Held {
    pub partition: i32,
    pub offset: i64,
    pub payload: Vec<u8>,
}

/// All messages that the topic holds.
pub fn read(topic: &str, partitions: i32) -> Vec<Held> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", required("KAFKA_SERVER"))
        .set("group.id", "reads-all")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let (mut list, mut ends) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in 0..partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, Duration::from_secs(10))
            .unwrap();
        if low < high {
            list.add_partition_offset(topic, partition, Offset::Offset(low))
                .unwrap();
            ends.insert(partition, high);
        }
    }
    consumer.assign(&list).unwrap();
    let (mut held, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(30));
    while !ends.is_empty() {
        assert!(Instant::now() < deadline, "not read to the end: {ends:?}");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let message = message.unwrap();
        let (partition, offset) = (message.partition(), message.offset());
        if ends.get(&partition).is_some_and(|end| offset + 1 >= *end) {
            ends.remove(&partition);
        }
        let payload = message.payload().unwrap_or_default().to_vec();
        held.push(Held {
            partition,
            offset,
            payload,
        });
    }
    held
}

/// A check's identity: site, location, slot.
pub type Identity = (String, String, String);

/// What is stored of a check: outcome, error, status, total time in microseconds, lateness in milliseconds, detail.
pub type Content = (
    String,
    Option<String>,
    Option<i64>,
    Option<i64>,
    i64,
    Option<String>,
);

/// The checks among the messages. One that is there twice must say the same.
pub fn checks(held: &[Held]) -> BTreeMap<Identity, Content> {
    let mut checks = BTreeMap::new();
    for message in held {
        let Ok(told) = serde_json::from_slice::<Value>(&message.payload) else {
            continue;
        };
        if told["v"] != 1 || told["kind"].as_str().is_some_and(|kind| kind != "check") {
            continue;
        }
        let text = |field: &str| told[field].as_str().map(str::to_owned);
        let identity = ["site", "location", "slot"].map(|field| text(field).unwrap());
        let [site, location, slot] = identity;
        let content = (
            text("outcome").unwrap(),
            text("error"),
            told["status"].as_i64(),
            told["total_us"].as_i64(),
            told["lateness_us"].as_i64().unwrap() / 1000,
            text("error_detail"),
        );
        let before = checks.insert((site, location, slot), content.clone());
        assert!(before.is_none_or(|before| before == content), "{told}");
    }
    checks
}

/// The checks in a database.
pub async fn stored(db: &Client) -> BTreeMap<Identity, Content> {
    let sql = "SELECT site, location, to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), outcome, error,
                      status::int8, (total_ms * 1000)::int8, lateness_ms::int8, detail FROM checks";
    let rows = db.query(sql, &[]).await.unwrap();
    let read = rows.iter().map(|row| {
        let content = (
            row.get(3),
            row.get(4),
            row.get(5),
            row.get(6),
            row.get(7),
            row.get(8),
        );
        ((row.get(0), row.get(1), row.get(2)), content)
    });
    let stored: BTreeMap<_, _> = read.collect();
    // No row without its site and location, none twice.
    let all: i64 = db
        .query_one("SELECT count(*) FROM check_result", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(stored.len() as i64, all, "rows that the view does not show");
    stored
}
