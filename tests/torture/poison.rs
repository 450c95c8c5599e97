//! Messages that others put into the topic: such as can't be stored, and valid ones that come twice.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use serde_json::{Value, json};

use crate::{
    Failure,
    kafka::{PARTITIONS, TOPIC, client},
};

/// The header by which the judges know that a message can't be stored. The node does not look at headers.
pub(crate) const HEADER: &str = "torture";
/// Where the doubled messages say that they come from.
pub(crate) const LOCATION: &str = "elsewhere";

/// Puts `count` messages that can't be stored into the topic, each with its header. Blocks.
pub(crate) fn poison(inside: &str, seed: u64, count: u32) -> Result<(), Failure> {
    let mut rng = Rng::with_seed(seed);
    let producer = producer(inside)?;
    for _ in 0..count {
        let payload = unstorable(&mut rng);
        send(&producer, rng.i32(0..PARTITIONS), payload.as_deref(), true)?;
    }
    Ok(producer.flush(Duration::from_secs(120))?)
}

/// Puts `count` valid messages into the topic, each two to four times. Blocks.
pub(crate) fn doubles(inside: &str, seed: u64, count: u32) -> Result<(), Failure> {
    let mut rng = Rng::with_seed(seed);
    let producer = producer(inside)?;
    for n in 0..count {
        let payload = valid(&format!("double {}", n % 7), n)
            .to_string()
            .into_bytes();
        let partition = rng.i32(0..PARTITIONS);
        for _ in 0..rng.u8(2..=4) {
            // Also in another partition, so that two consumers may have it at once.
            let partition = if rng.bool() {
                partition
            } else {
                rng.i32(0..PARTITIONS)
            };
            send(&producer, partition, Some(&payload), false)?;
        }
    }
    Ok(producer.flush(Duration::from_secs(120))?)
}

/// Puts a message that can't be stored into the topic four times a second, until `stop`: whatever is read twice, there is
/// one of these in it, and no key absorbs it. Blocks.
pub(crate) fn trickle(inside: &str, seed: u64, stop: &AtomicBool) -> Result<(), Failure> {
    let mut rng = Rng::with_seed(seed);
    let producer = producer(inside)?;
    while !stop.load(Ordering::Relaxed) {
        let payload = with("v", json!(rng.u32(2..9)));
        send(&producer, rng.i32(0..PARTITIONS), payload.as_deref(), true)?;
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(producer.flush(Duration::from_secs(120))?)
}

fn producer(inside: &str) -> Result<ThreadedProducer<DefaultProducerContext>, Failure> {
    let mut config = client(inside);
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "120000");
    Ok(config.create()?)
}

fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    partition: i32,
    payload: Option<&[u8]>,
    poisonous: bool,
) -> Result<(), Failure> {
    let mut record = BaseRecord::<str, [u8]>::to(TOPIC)
        .partition(partition)
        .key("k\0ey");
    if let Some(payload) = payload {
        record = record.payload(payload);
    }
    if poisonous {
        let header = Header {
            key: HEADER,
            value: Some("poison"),
        };
        record = record.headers(OwnedHeaders::new().insert(header));
    }
    producer.send(record).map_err(|(problem, _)| problem.into())
}

fn valid(site: &str, n: u32) -> Value {
    let now = SystemTime::now() - Duration::from_secs(60) + Duration::from_millis(n.into());
    let slot = jiff::Timestamp::try_from(now).unwrap_or_default();
    json!({
        "v": 1, "site": site, "url": "http://elsewhere/", "location": LOCATION, "slot": format!("{slot:.6}"),
        "lateness_us": 10, "outcome": "up", "status": 200, "total_us": 1234, "attempts": 1, "config_hash": "0"
    })
}

fn with(field: &str, value: Value) -> Option<Vec<u8>> {
    let mut message = valid("poison", 0);
    message[field] = value;
    Some(message.to_string().into_bytes())
}

/// A message that no consumer of this version may store. `None`: no payload at all.
fn unstorable(rng: &mut Rng) -> Option<Vec<u8>> {
    match rng.u8(0..16) {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(
            (0..rng.usize(1..300))
                .map(|_| rng.u8(..))
                .chain([0xff])
                .collect(),
        ),
        3 => Some(b"{\"v\":1".to_vec()),
        4 => Some(format!("{}1{}", "[".repeat(5000), "]".repeat(5000)).into_bytes()),
        5 => with("v", json!(rng.u32(2..9))),
        6 => with("site", json!("nul\u{0}in a name")),
        7 => with("slot", json!("1970-01-01T00:00:00.000000Z")),
        8 => with("slot", json!("9999-12-31T23:59:59.000000Z")),
        9 => with("slot", json!("yesterday")),
        10 => with("status", json!(70_000)),
        11 => with("total_us", json!(u64::MAX)),
        12 => with("site", json!("x".repeat(5_000))),
        13 => with("outcome", json!("splendid")),
        // As large as Kafka takes it.
        14 => with("error_detail", json!("x".repeat(900_000))),
        _ => with("kind", json!("zebra")),
    }
}
