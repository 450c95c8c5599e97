//! What the person meets who runs a node: health pages, signals, reloads of everything.

use std::time::Duration;

use crate::support::{Web, World, free_port, message};

/// Status line and body of a page of the node.
fn page(port: u16, path: &str) -> (String, String) {
    let answer = crate::support::page(port, path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// The value of a metric.
fn metric(port: u16, name: &str) -> f64 {
    let text = page(port, "/metrics").1;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.trim().parse().unwrap()
}

fn sites(web: &Web, node: &str, kafka: &str) -> String {
    format!(
        "node: {{ {node} }}\nkafka: {{ {kafka} }}\ndefaults: {{ interval: 1s, timeout: 800ms }}\nsites:
  - {{ name: up, url: '{}' }}\n  - {{ name: broken, url: '{}' }}\n",
        web.url("/up"),
        web.url("/500")
    )
}

#[actix_rt::test]
async fn the_pages_tell_how_a_node_is() {
    let (world, web) = (World::new("pages").await, Web::start());
    let (produces, consumes) = (free_port(), free_port());
    let node = |port| format!("listen: '127.0.0.1:{port}'");
    let mut producer = world.node("producer", &sites(&web, &node(produces), ""));
    let mut consumer = world.node("consumer", &format!("node: {{ {} }}\n", node(consumes)));
    world
        .wait_for("rows", "SELECT count(*) FROM checks", 6)
        .await;
    for port in [produces, consumes] {
        assert!(page(port, "/healthz").0.contains("200"));
        let (status, body) = page(port, "/readyz");
        assert!(status.contains("200"), "{status} {body}");
    }
    assert!(
        metric(
            produces,
            "sitewatch_checks_total{error=\"\",outcome=\"up\"}"
        ) >= 3.0
    );
    let broken = "sitewatch_checks_total{error=\"status_mismatch\",outcome=\"down\"}";
    assert!(metric(produces, broken) >= 3.0);
    assert!(metric(produces, "sitewatch_messages_delivered_total") >= 6.0);
    assert!(metric(consumes, "sitewatch_rows_written_total") >= 6.0);
    assert!(metric(consumes, "sitewatch_batch_rows_sum") >= 6.0);
    assert_eq!(metric(consumes, "sitewatch_duplicates_absorbed_total"), 0.0);

    // A second node on the same port says so and starts nothing.
    let mut second = world.node("consumer", &format!("node: {{ {} }}\n", node(consumes)));
    assert_eq!(second.wait().code(), Some(69));
    let said = format!("node.listen: can't serve on 127.0.0.1:{consumes}");
    assert!(second.log().contains(&said), "{}", second.log());
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
}

#[actix_rt::test]
async fn a_node_that_is_not_ready_says_why() {
    let world = World::new("not_ready").await;
    let port = free_port();
    let nowhere = format!("127.0.0.1:{}", free_port());
    let database = format!("postgres://sitewatch@{nowhere}/none");
    let environment = [
        ("KAFKA_SERVER", nowhere.as_str()),
        ("POSTGRES_URL", &database),
    ];
    let settings = format!("node: {{ listen: '127.0.0.1:{port}', drain_timeout: 1s }}\n");
    let node = world.node_with("consumer", &settings, &environment);
    node.wait_for_log("PostgreSQL can't be used").await;
    node.wait_for_log("Kafka can't be reached").await;
    let (status, body) = page(port, "/readyz");
    assert!(status.contains("503"), "{status}");
    assert_eq!(
        body,
        "not ready: the consumer has no answer from Kafka; no connection to PostgreSQL\n"
    );
    assert!(page(port, "/healthz").0.contains("200"), "it lives");
}

#[actix_rt::test]
async fn a_second_signal_ends_a_node_at_once() {
    let (world, web) = (World::new("second_signal").await, Web::start());
    let nowhere = format!("127.0.0.1:{}", free_port());
    let settings = sites(&web, "drain_timeout: 50s", "");
    // What is neither on the disk nor in Kafka is worth the whole time.
    let environment = [
        ("KAFKA_SERVER", nowhere.as_str()),
        ("FAILPOINTS", "publisher::commit=return"),
    ];
    let mut node = world.node_with("producer", &settings, &environment);
    node.wait_for_log("the spool can't be written").await;
    node.signal("TERM");
    node.wait_for_log("stopping: draining in order").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(node.runs(), "it drains");
    let begun = std::time::Instant::now();
    node.signal("INT");
    // As shells have it: 128 and the number of SIGINT.
    assert_eq!(node.wait().code(), Some(130), "{}", node.log());
    assert!(begun.elapsed() < Duration::from_secs(5), "not at once");
}

#[actix_rt::test]
async fn a_node_that_has_not_drained_in_time_says_so_with_its_code() {
    let (world, web) = (World::new("undone").await, Web::start());
    let nowhere = format!("127.0.0.1:{}", free_port());
    let settings = sites(&web, "drain_timeout: 1s", "");
    let environment = [
        ("KAFKA_SERVER", nowhere.as_str()),
        ("FAILPOINTS", "publisher::commit=return"),
    ];
    let mut node = world.node_with("producer", &settings, &environment);
    node.wait_for_log("the spool can't be written").await;
    assert_eq!(node.stop(), Some(75), "{}", node.log());
    let told = "not everything was done within node.drain_timeout (1s)";
    assert!(node.log().contains(told), "{}", node.log());
}

#[actix_rt::test]
async fn settings_of_kafka_batches_and_the_log_apply_without_a_restart() {
    let (world, web) = (World::new("reload_all").await, Web::start());
    let (old, new) = (world.topic.clone(), format!("{}_new", world.topic));
    let producing = |topic: &str| sites(&web, "", &format!("topic: {topic}"));
    let consuming = |topic: &str, log: &str, rows: u32| {
        format!(
            "node: {{ log: {{ {log} }} }}\nkafka: {{ topic: {topic} }}\npostgres: {{ batch: {{ max_rows: {rows}, max_age: 200ms }} }}\n"
        )
    };
    // Without KAFKA_TOPIC in the environment, which would rank over the file.
    let unset = ["KAFKA_TOPIC"];
    let mut producer = world.node_but("producer", &producing(&old), &[], &unset);
    let mut consumer = world.node_but(
        "consumer",
        &consuming(&old, "level: info", 5000),
        &[],
        &unset,
    );
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("rows", rows, 4).await;
    assert!(
        !consumer.log().contains("batch stored"),
        "that is for debug"
    );
    std::fs::write(&producer.file, producing(&new)).unwrap();
    std::fs::write(
        &consumer.file,
        consuming(&new, "level: debug, format: json", 1),
    )
    .unwrap();
    producer.signal("HUP");
    // The consumer first reads what stands in the old topic, which it leaves behind.
    producer.wait_for_log("settings reloaded").await;
    world.wait_until_stored().await;
    consumer.signal("HUP");
    let moved =
        format!("SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset WHERE topic = '{new}'");
    world.wait_for("rows by the new topic", &moved, 6).await;
    consumer.wait_for_log("batch stored").await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored_from(&new).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
    let stored = consumer
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|line| line["msg"] == "batch stored");
    let stored = stored.unwrap_or_else(|| panic!("{}", consumer.log()));
    assert_eq!(
        (&stored["rows"], &stored["level"]),
        (&1.into(), &"DEBUG".into())
    );
}

#[actix_rt::test]
async fn messages_that_expired_unread_are_recorded_and_reading_goes_on() {
    let world = World::new("retention").await;
    world.create_topic(1).await;
    let payload = |n| message("a", n).to_string().into_bytes();
    world.produce((0..10).map(payload));
    let mut consumer = world.node("consumer", "node: {}\n");
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("rows", rows, 10).await;
    assert_eq!(consumer.stop(), Some(0));
    world.produce((10..20).map(payload));
    world.expire_before(15).await;
    let mut consumer = world.node("consumer", "node: {}\n");
    world.wait_for("the rest", rows, 15).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let gaps = world
        .query("SELECT reason, from_offset, to_offset FROM kafka_gap")
        .await;
    let gaps: Vec<(String, i64, i64)> = gaps
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(gaps, [("retention".to_owned(), 10, 15)]);
    assert!(
        consumer
            .log()
            .contains("the topic's offsets do not go on where the database left off")
    );
}
