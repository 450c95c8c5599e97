//! `/healthz` as a watchdog: what stands still is named; what waits is well.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Web, World, free_port, message, page, wait_for_metric};

/// Status and body of `/healthz`.
fn health(port: u16) -> (bool, String) {
    let answer = page(port, "/healthz");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.contains(" 200 "), body.trim_end().to_owned())
}

/// Waits until something stands still, and returns what is said of it.
async fn stands_still(port: u16) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let (false, body) = health(port) {
            return body;
        }
        assert!(Instant::now() < deadline, "nothing stands still");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn settings(web: &Web, port: u16) -> String {
    let (up, named) = (web.url("/up"), web.url("/text"));
    format!(
        "node: {{ listen: '127.0.0.1:{port}', workers: 2, drain_timeout: 1s }}
defaults: {{ interval: 1s, timeout: 900ms }}
sites: [{{ name: steady, url: '{up}' }}, {{ name: failing, url: '{named}' }}]\n"
    )
}

async fn names(point: &str, role: &str, seen: &str, named: &[&str]) {
    let name = point.split("::").next().unwrap();
    let (world, web, port) = (World::new(name).await, Web::start(), free_port());
    world.create_topic(1).await;
    world.produce([message("a", 1).to_string().into_bytes()]);
    let blocked = [("FAILPOINTS", &*format!("{point}=pause"))];
    let node = world.node_with(role, &settings(&web, port), &blocked);
    node.wait_for_log("serving /metrics").await;
    wait_for_metric(port, seen, 1).await;
    let body = stands_still(port).await;
    for name in named {
        let told = format!("{name} since 20");
        assert!(
            body.starts_with("standing still: ") && body.contains(&told),
            "{body}"
        );
    }
    assert_eq!(body.matches(" since ").count(), named.len(), "{body}");
}

#[actix_rt::test]
async fn a_worker_that_is_blocked_is_named() {
    let body = ["worker 2"];
    names(
        "site::check::named",
        "producer",
        "sitewatch_checks_total",
        &body,
    )
    .await;
}

#[actix_rt::test]
async fn a_disk_that_does_not_answer_is_the_publisher_that_stands_still() {
    names(
        "publisher::turn",
        "producer",
        "sitewatch_sites",
        &["publisher"],
    )
    .await;
}

#[actix_rt::test]
async fn a_reader_that_is_blocked_is_named() {
    names(
        "consumer::turn",
        "consumer",
        "sitewatch_postgres_up",
        &["reader of Kafka"],
    )
    .await;
}

#[actix_rt::test]
async fn a_writer_that_is_blocked_is_named() {
    let in_work = "sitewatch_intake_permits_in_use{actor=\"writer\"}";
    names("writer::store", "consumer", in_work, &["writer 1"]).await;
}

/// Who waits for PostgreSQL or Kafka comes round, also with a batch in hand and at work on a disk that is full.
#[actix_rt::test]
async fn who_waits_does_not_stand_still() {
    let (world, web) = (World::new("waits").await, Web::start());
    world.create_topic(1).await;
    world.produce([message("a", 1).to_string().into_bytes()]);
    let nowhere = format!("127.0.0.1:{}", free_port());
    let database = format!("postgres://sitewatch@{nowhere}/none");
    let (producing, consuming, storing) = (free_port(), free_port(), free_port());
    let full = [
        ("KAFKA_SERVER", nowhere.as_str()),
        ("FAILPOINTS", "publisher::commit=return(full)"),
    ];
    let _producer = world.node_with("producer", &settings(&web, producing), &full);
    let no_kafka = [("KAFKA_SERVER", nowhere.as_str())];
    let consumer = world.node_with("consumer", &settings(&web, consuming), &no_kafka);
    let no_database = [("POSTGRES_URL", database.as_str())];
    let storer = world.node_with("consumer", &settings(&web, storing), &no_database);
    consumer.wait_for_log("connected to PostgreSQL").await;
    storer.wait_for_log("PostgreSQL can't be used").await;
    // Longer than a loop may stand still: nothing else shows that none does.
    let end = Instant::now() + Duration::from_secs(35);
    while Instant::now() < end {
        for port in [producing, consuming, storing] {
            assert_eq!(health(port), (true, "ok".to_owned()), "{}", world.logs());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
