//! What a node holds is bounded in bytes, also where each result has a capture of 64 kB.

use std::time::Duration;

use crate::support::{PATIENCE, Web, World, free_port, message, peak};
use tokio::time::{Instant, sleep};

/// What a process may have in RAM.
const MOST: u64 = 300 << 20;

/// So many captures are half a gigabyte in memory, as messages and as rows.
const CAPTURES: i64 = 4000;

#[actix_rt::test]
async fn a_consumer_of_a_backlog_of_captures_keeps_within_its_memory() {
    let world = World::new("memory_backlog").await;
    world.create_topic(3).await;
    let page = "lorem ipsum ".repeat(5461);
    world.produce((0..CAPTURES).map(|n| {
        let mut message = message(&format!("site {}", n % 300), n);
        message["outcome"] = "down".into();
        message["error"] = "status_mismatch".into();
        message["error_detail"] = "status 500".into();
        message["capture"] = serde_json::json!({ "headers": [], "body": page, "truncated": true });
        message.to_string().into_bytes()
    }));
    let mut consumer = world.node("consumer", "postgres: { writers: 2 }\n");
    let rows = "SELECT count(*) FROM check_result";
    world.wait_for("rows", rows, CAPTURES).await;
    let held = peak(consumer.id());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    println!("a consumer of {CAPTURES} captures held {} MB", held >> 20);
    assert!(held <= MOST, "{} MB", held >> 20);
}

#[actix_rt::test]
async fn a_producer_with_a_full_spool_and_no_kafka_keeps_within_its_memory() {
    let (world, web) = (World::new("memory_spool").await, Web::start());
    let mut settings = String::from(
        "node: { data_dir: data, drain_timeout: 2s }\nspool: { max_bytes: 16MiB }
defaults: { interval: 1s, timeout: 900ms, allow_private: true, capture_bytes: 65536 }\nsites:\n",
    );
    for n in 0..150 {
        settings += &format!("  - {{ name: site-{n}, url: '{}' }}\n", web.url("/control"));
    }
    let away = format!("127.0.0.1:{}", free_port());
    let mut producer = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    producer.wait_for_log("the spool is full").await;
    // The queue is full when all sites wait for room in it: nothing is asked any more.
    let (deadline, mut asked) = (Instant::now() + PATIENCE, usize::MAX);
    loop {
        let now = web.paths.lock().unwrap().len();
        if now == asked {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "sites are still checked\n{}",
            producer.log()
        );
        asked = now;
        sleep(Duration::from_secs(3)).await;
    }
    let held = peak(producer.id());
    producer.kill();
    println!("a producer with a full spool held {} MB", held >> 20);
    assert!(held <= MOST, "{} MB", held >> 20);
}
