//! Encrypted and authenticated links, as managed services want them: who is let in, who is refused, and what is said.

mod support;

use std::{fs, path::Path};

use support::{Node, Web, World, required};

/// Copies certificates beside the settings file, as Aiven's users do.
fn bring(world: &World, files: &[&str]) {
    let from = required("SITEWATCH_TEST_TLS");
    for file in files {
        fs::copy(Path::new(&from).join(file), world.folder.path().join(file)).unwrap();
    }
}

fn settings(web: &Web, kafka: &str) -> String {
    format!(
        "kafka: {{ {kafka} }}\ndefaults: {{ interval: 1s }}\nsites: [{{ name: up, url: '{}' }}]\n",
        web.url("/up")
    )
}

/// Both roles with the same Kafka settings, through the broker's listener at `$listener`.
fn both(world: &World, web: &Web, kafka: &str, listener: &str) -> (Node, Node) {
    let broker = required(listener);
    let environment = [("KAFKA_SERVER", broker.as_str())];
    (
        world.node_with("producer", &settings(web, kafka), &environment),
        world.node_with("consumer", &settings(web, kafka), &environment),
    )
}

const ROWS: &str = "SELECT count(*) FROM checks WHERE outcome = 'up'";

#[actix_rt::test]
async fn kafka_lets_in_who_has_a_client_certificate() {
    let (world, web) = (World::new("mtls").await, Web::start());
    bring(&world, &["ca.pem", "service.cert", "service.key"]);
    let kafka = "ca: ca.pem, cert: service.cert, key: service.key";
    let (mut producer, mut consumer) = both(&world, &web, kafka, "SITEWATCH_TEST_KAFKA_MTLS");
    world.wait_for("rows over TLS", ROWS, 3).await;
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
}

#[actix_rt::test]
async fn kafka_refuses_who_has_none_and_is_refused_with_a_foreign_authority() {
    let (world, web) = (World::new("mtls_refused").await, Web::start());
    bring(
        &world,
        &["ca.pem", "foreign-ca.pem", "service.cert", "service.key"],
    );
    let listener = "SITEWATCH_TEST_KAFKA_MTLS";
    let (mut bare, _consumer) = both(&world, &web, "ca: ca.pem", listener);
    bare.wait_for_log("Kafka can't be reached, trying on").await;
    let foreign = "ca: foreign-ca.pem, cert: service.cert, key: service.key";
    let (mut deceived, _consumer) = both(&world, &web, foreign, listener);
    deceived.wait_for_log("certificate verify failed").await;
    assert!(
        bare.runs() && deceived.runs(),
        "a refusal may be mended at the other side"
    );
    assert_eq!(world.number(ROWS).await, 0);
    // What could not be sent is lost, and that is said too.
    assert_eq!((bare.stop(), deceived.stop()), (Some(0), Some(0)));
}

#[actix_rt::test]
async fn kafka_lets_in_who_knows_the_password() {
    let (world, web) = (World::new("sasl").await, Web::start());
    bring(&world, &["ca.pem"]);
    let listener = "SITEWATCH_TEST_KAFKA_SASL";
    let kafka = |password| {
        format!(
            "ca: ca.pem, sasl: {{ mechanism: PLAIN, username: sitewatch, password: '{password}' }}"
        )
    };
    let (wrong, _consumer) = both(&world, &web, &kafka("guessed-canary"), listener);
    wrong
        .wait_for_log("Kafka can't be reached, trying on")
        .await;
    assert!(
        wrong.log().to_lowercase().contains("authentication"),
        "{}",
        wrong.log()
    );
    assert!(!wrong.log().contains("guessed-canary"), "{}", wrong.log());
    assert_eq!(world.number(ROWS).await, 0);
    drop((wrong, _consumer));
    let (mut producer, mut consumer) = both(&world, &web, &kafka("sitewatch"), listener);
    world.wait_for("rows over SASL", ROWS, 3).await;
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
}

/// The world's database by the host's name or address, with `parameters`.
fn database(world: &World, host: &str, parameters: &str) -> String {
    let url = world.database_url.replacen("127.0.0.1", host, 1);
    let folder = required("SITEWATCH_TEST_TLS");
    format!("{url}?{}", parameters.replace("TLS", &folder))
}

fn consumer(world: &World, url: &str) -> Node {
    world.node_with("consumer", "node: {}\n", &[("POSTGRES_URL", url)])
}

#[actix_rt::test]
async fn postgresql_is_verified_in_full() {
    let world = World::new("verify_full").await;
    let authority = "sslmode=verify-full&sslrootcert=TLS/ca.pem";
    let mut node = consumer(&world, &database(&world, "localhost", authority));
    node.wait_for_log("connected to PostgreSQL").await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE ssl AND application_name = 'sitewatch-node' AND datname = current_database()";
    assert_eq!(world.number(encrypted).await, 1);
    assert_eq!(node.stop(), Some(0));
}

#[actix_rt::test]
async fn postgresql_of_a_foreign_authority_or_a_wrong_name_is_refused() {
    let world = World::new("verify_refused").await;
    let foreign = "sslmode=verify-full&sslrootcert=TLS/foreign-ca.pem";
    let node = consumer(&world, &database(&world, "localhost", foreign));
    node.wait_for_log("PostgreSQL can't be used, trying on")
        .await;
    assert!(node.log().contains("UnknownIssuer"), "{}", node.log());
    let name = "sslmode=verify-full&sslrootcert=TLS/ca.pem";
    let node = consumer(&world, &database(&world, "127.0.0.1", name));
    node.wait_for_log("PostgreSQL can't be used, trying on")
        .await;
    assert!(node.log().contains("not valid for"), "{}", node.log());
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(world.number(tables).await, 0);
    // What `verify-ca` does not ask for.
    let lenient = "sslmode=verify-ca&sslrootcert=TLS/ca.pem";
    let node = consumer(&world, &database(&world, "127.0.0.1", lenient));
    node.wait_for_log("connected to PostgreSQL").await;
}
