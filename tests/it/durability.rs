//! The look at the topic's durability, the one warning that follows from it, and the gauge.

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
};

use crate::support::{Web, World, free_port, page, required};

const RISK: &str = "Kafka may lose results that it has acknowledged";

#[actix_rt::test]
async fn a_topic_on_one_broker_is_told_of_once_by_each_and_holds_up_nothing() {
    let (world, web) = (World::new("durability").await, Web::start());
    // The producer makes the topic: a broker makes it with one replica.
    let port = free_port();
    let settings = format!(
        "node: {{ data_dir: data, listen: '127.0.0.1:{port}', log: {{ level: debug }} }}\n\
         sites: [{{ name: a, url: '{}', interval: 1s }}]\n",
        web.url("/up")
    );
    let mut producer = world.node("producer", &settings);
    let mut consumer = world.node("consumer", "node: { log: { level: debug } }");
    producer.wait_for_log(RISK).await;
    consumer.wait_for_log(RISK).await;
    world
        .wait_for("rows", "SELECT count(*) FROM checks", 5)
        .await;
    let metrics = page(port, "/metrics");
    assert!(
        metrics.contains("sitewatch_kafka_topic_at_risk{role=\"producer\"} 1"),
        "{metrics}"
    );
    for node in [&producer, &consumer] {
        let log = node.log();
        assert_eq!(log.matches(RISK).count(), 1, "{log}");
        for words in [
            "replication factor 1",
            "for development one is enough",
            "min_insync: 1",
            "unclean_election: false",
        ] {
            assert!(log.contains(words), "{words}\n{log}");
        }
    }
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());

    // What the topic says of itself is what is read.
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", required("KAFKA_SERVER"))
        .create()
        .unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(&world.topic))
        .set("min.insync.replicas", "2")
        .set("unclean.leader.election.enable", "true");
    let done = admin.alter_configs([&change], &AdminOptions::new()).await;
    assert!(done.unwrap().iter().all(Result::is_ok));
    let again = world.node("consumer", "node: { log: { level: debug } }");
    again
        .wait_for_log("min_insync: 2, unclean_election: true")
        .await;
}

/// The client that looks can't be given a token: nothing is known, which is not 0.
#[actix_rt::test]
async fn a_topic_that_is_not_looked_at_has_no_gauge() {
    let world = World::new("durability_token").await;
    world.bring(&["ca.pem"]);
    let port = free_port();
    let settings = format!(
        "node: {{ listen: '127.0.0.1:{port}', log: {{ level: debug }} }}\n\
         kafka: {{ ca: ca.pem, sasl: {{ mechanism: OAUTHBEARER, token_file: token }} }}\n"
    );
    let consumer = world.node("consumer", &settings);
    consumer
        .wait_for_log("the durability of the topic is not looked at")
        .await;
    let metrics = page(port, "/metrics");
    assert!(metrics.contains("sitewatch_kafka_up"), "{metrics}");
    assert!(!metrics.contains("kafka_topic_at_risk{"), "{metrics}");
}
