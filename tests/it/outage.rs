//! Kafka and PostgreSQL are killed and come back. One test: the services are shared, so nothing else may run meanwhile.

use std::{process::Command, time::Duration};

use crate::support::{Web, World, required};

fn service(action: &str, name: &str) {
    let status = Command::new(required("SITEWATCH_TEST_SERVICES"))
        .args([action, name])
        .status()
        .unwrap();
    assert!(status.success(), "{action} {name}");
}

#[actix_rt::test]
async fn outages_of_kafka_and_of_postgresql_are_survived_and_told_once() {
    let (mut world, web) = (World::new("outage").await, Web::start());
    world.create_topic(2).await;
    let settings = format!(
        "defaults: {{ interval: 1s, timeout: 800ms, allow_private: true }}\nsites: [{{ name: a, url: '{0}' }}, {{ name: b, url: '{0}' }}]",
        web.url("/up")
    );
    service("kill", "kafka");
    // Kafka is away at the start already.
    let mut consumer = world.node("consumer", "");
    let mut producer = world.node("producer", &settings);
    producer.wait_for_log("Kafka can't be reached").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    service("start", "kafka");
    world
        .wait_for("rows after Kafka came up", "SELECT count(*) FROM checks", 6)
        .await;

    service("kill", "postgres");
    consumer.wait_for_log("PostgreSQL can't be used").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    service("start", "postgres");
    world.reconnect().await;
    let before = world.number("SELECT count(*) FROM checks").await;
    world
        .wait_for(
            "rows after PostgreSQL came back",
            "SELECT count(*) FROM checks",
            before + 8,
        )
        .await;

    service("kill", "kafka");
    tokio::time::sleep(Duration::from_secs(3)).await;
    service("start", "kafka");
    let before = world.number("SELECT count(*) FROM checks").await;
    world
        .wait_for(
            "rows after Kafka came back",
            "SELECT count(*) FROM checks",
            before + 8,
        )
        .await;

    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
    let told = producer.log().matches("Kafka can't be reached").count();
    assert!(
        told <= 3,
        "one line an outage, not one a message: {told}\n{}",
        producer.log()
    );
}
