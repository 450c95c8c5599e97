//! Kafka and PostgreSQL are killed and come back.

use crate::services::Services;
use crate::support::{Web, World};

#[actix_rt::test]
async fn outages_of_kafka_and_of_postgresql_are_survived_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let services = Services::start(folder.path().join("services"));
    let mut world = World::on("outage", &services.kafka(), &services.postgres_url()).await;
    let web = Web::start();
    world.create_topic(2).await;
    let settings = format!(
        "defaults: {{ interval: 1s, timeout: 800ms, allow_private: true }}\nsites: [{{ name: a, url: '{0}' }}, {{ name: b, url: '{0}' }}]",
        web.url("/up")
    );
    services.run(&["kill", "kafka"]);
    // Kafka is away at the start already.
    let mut consumer = world.node("consumer", "");
    let mut producer = world.node("producer", &settings);
    producer.wait_for_log("Kafka can't be reached").await;
    web.wait_for_requests(6).await;
    services.run(&["start", "kafka"]);
    world
        .wait_for("rows after Kafka came up", "SELECT count(*) FROM checks", 6)
        .await;

    services.run(&["kill", "postgres"]);
    consumer.wait_for_log("PostgreSQL can't be used").await;
    web.wait_for_requests(6).await;
    services.run(&["start", "postgres"]);
    world.reconnect().await;
    let before = world.number("SELECT count(*) FROM checks").await;
    world
        .wait_for(
            "rows after PostgreSQL came back",
            "SELECT count(*) FROM checks",
            before + 8,
        )
        .await;

    services.run(&["kill", "kafka"]);
    web.wait_for_requests(6).await;
    services.run(&["start", "kafka"]);
    let before = world.number("SELECT count(*) FROM checks").await;
    world
        .wait_for(
            "rows after Kafka came back",
            "SELECT count(*) FROM checks",
            before + 8,
        )
        .await;

    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
    let told = producer.log().matches("Kafka can't be reached").count();
    assert!(
        told <= 3,
        "one line an outage, not one a message: {told}\n{}",
        producer.log()
    );
}
