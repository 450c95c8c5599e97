//! Encrypted and authenticated links, as managed services want them: who is let in, who is refused, and what is said.

use std::{
    fs,
    io::ErrorKind,
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::support::{Node, Web, World, allow, required, scram_password};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Each producer has a spool of its own.
fn settings(web: &Web, kafka: &str) -> String {
    static NUMBER: AtomicU16 = AtomicU16::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!(
        "spool: {{ dir: spool-{number} }}\nkafka: {{ {kafka} }}\ndefaults: {{ interval: 1s }}\nsites: [{{ name: up, url: '{}' }}]\n",
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
    world.bring(&["ca.pem", "service.cert", "service.key"]);
    let kafka = "ca: ca.pem, cert: service.cert, key: service.key";
    let (mut producer, mut consumer) = both(&world, &web, kafka, "SITEWATCH_TEST_KAFKA_MTLS");
    world.wait_for("rows over TLS", ROWS, 3).await;
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
}

#[actix_rt::test]
async fn a_locked_key_is_opened_by_its_password() {
    let (world, web) = (World::new("locked").await, Web::start());
    world.bring(&["ca.pem", "service.cert", "locked.key"]);
    let kafka = |password| {
        format!("ca: ca.pem, cert: service.cert, key: locked.key, key_password: {password}")
    };
    let listener = "SITEWATCH_TEST_KAFKA_MTLS";
    let (mut wrong, _) = both(&world, &web, &kafka("guessed-canary"), listener);
    assert_eq!(wrong.wait().code(), Some(78));
    let log = wrong.log();
    assert!(
        log.contains("the Kafka client can't be made") && !log.contains("canary"),
        "{log}"
    );
    let (_producer, _consumer) = both(&world, &web, &kafka("sitewatch"), listener);
    world.wait_for("rows", ROWS, 3).await;
}

#[actix_rt::test]
async fn kafka_refuses_who_has_none_and_is_refused_with_a_foreign_authority() {
    let (world, web) = (World::new("mtls_refused").await, Web::start());
    world.bring(&["ca.pem", "foreign-ca.pem", "service.cert", "service.key"]);
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
    assert_eq!(world.number_so_far(ROWS).await, 0);
    // What could not be sent is lost, and that is said too.
    assert_eq!((bare.stop(), deceived.stop()), (Some(0), Some(0)));
}

#[actix_rt::test]
async fn kafka_lets_in_who_knows_the_password() {
    let (world, web) = (World::new("sasl").await, Web::start());
    world.bring(&["ca.pem"]);
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
    assert_eq!(world.number_so_far(ROWS).await, 0);
    drop((wrong, _consumer));
    let (mut producer, mut consumer) = both(&world, &web, &kafka("sitewatch"), listener);
    world.wait_for("rows over SASL", ROWS, 3).await;
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
}

const SAID: &str = "Kafka can't be reached, trying on";

/// Refused and let in by the broker alone: nobody touches the node.
async fn scram(mechanism: &str) {
    let (world, web) = (World::new("scram").await, Web::start());
    world.bring(&["ca.pem"]);
    let user = &world.topic;
    scram_password(mechanism, user, "another");
    let kafka = format!(
        "ca: ca.pem, sasl: {{ mechanism: {mechanism}, username: {user}, password: canary-{user} }}"
    );
    let (mut producer, mut consumer) = both(&world, &web, &kafka, "SITEWATCH_TEST_KAFKA_SASL");
    for node in [&producer, &consumer] {
        node.wait_for_log(SAID).await;
        assert!(node.log().contains("uthentication"), "{}", node.log());
    }
    assert_eq!(world.number_so_far(ROWS).await, 0);
    scram_password(mechanism, user, &format!("canary-{user}"));
    for node in [&producer, &consumer] {
        node.wait_for_log("Kafka answers again").await;
    }
    world.wait_for("rows over SCRAM", ROWS, 3).await;
    for node in [&producer, &consumer] {
        let log = node.log();
        assert_eq!(log.matches(SAID).count(), 1, "said once\n{log}");
        assert!(!log.contains("canary-"), "{log}");
    }
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn kafka_lets_in_by_scram_sha_256_as_soon_as_the_password_is_right() {
    scram("SCRAM-SHA-256").await;
}

#[actix_rt::test]
async fn kafka_lets_in_by_scram_sha_512_as_soon_as_the_password_is_right() {
    scram("SCRAM-SHA-512").await;
}

#[actix_rt::test]
async fn a_broker_of_a_wrong_name_is_refused_unless_that_is_turned_off() {
    let (world, web) = (World::new("name").await, Web::start());
    world.bring(&["ca.pem"]);
    // The same address by a name that its certificate is not for.
    let broker = required("SITEWATCH_TEST_KAFKA_SASL").replace("localhost", "127.1");
    let sasl = "sasl: { mechanism: PLAIN, username: sitewatch, password: sitewatch }";
    let start = |role, more: &str| {
        let kafka = format!("ca: ca.pem, {sasl}{more}");
        world.node_with(role, &settings(&web, &kafka), &[("KAFKA_SERVER", &broker)])
    };
    let strict = start("producer", "");
    strict.wait_for_log(SAID).await;
    let log = strict.log();
    assert!(log.contains("certificate verify failed"), "{log}");
    drop(strict);
    let off = ", options: { ssl.endpoint.identification.algorithm: none }";
    let (producer, consumer) = (start("producer", off), start("consumer", off));
    world.wait_for("rows", ROWS, 3).await;
    for node in [producer, consumer] {
        let told = "ssl.endpoint.identification.algorithm is none";
        assert!(node.log().contains(told), "{}", node.log());
    }
}

#[actix_rt::test]
async fn without_a_ca_the_authorities_of_the_system_are_trusted() {
    let (world, web) = (World::new("system").await, Web::start());
    let kafka = "tls: true, sasl: { mechanism: PLAIN, username: sitewatch, password: sitewatch }";
    let broker = required("SITEWATCH_TEST_KAFKA_SASL");
    let (stranger, _) = both(&world, &web, kafka, "SITEWATCH_TEST_KAFKA_SASL");
    stranger.wait_for_log("certificate verify failed").await;
    // OpenSSL's own variable for where the system's authorities are.
    let store = format!("{}/ca.pem", required("SITEWATCH_TEST_TLS"));
    let environment = [("KAFKA_SERVER", broker.as_str()), ("SSL_CERT_FILE", &store)];
    let _producer = world.node_with("producer", &settings(&web, kafka), &environment);
    let _consumer = world.node_with("consumer", &settings(&web, kafka), &environment);
    world.wait_for("rows", ROWS, 3).await;
}

/// The rules of docs/security.md, and each of them is needed.
#[actix_rt::test]
async fn the_least_that_brokers_have_to_allow_is_enough() {
    let (world, web) = (World::new("rules").await, Web::start());
    world.bring(&["ca.pem"]);
    world.create_topic(3).await;
    let topic = world.topic.as_str();
    let broker = required("SITEWATCH_TEST_KAFKA_SASL");
    let users = [format!("{topic}_p"), format!("{topic}_c")];
    let start = |role, user: &String| {
        let sasl = format!("mechanism: SCRAM-SHA-256, username: {user}, password: p");
        let kafka = settings(&web, &format!("ca: ca.pem, sasl: {{ {sasl} }}"));
        world.node_with(role, &kafka, &[("KAFKA_SERVER", &broker)])
    };
    for user in &users {
        scram_password("SCRAM-SHA-256", user, "p");
    }
    let describe = format!("--operation Describe --topic {topic}");
    allow(&users[1], &describe);
    allow(&users[1], &format!("--operation Describe --group {topic}"));
    const FORBIDDEN: &str = "Kafka does not allow this client to do its work";
    let mut consumer = start("consumer", &users[1]);
    consumer.wait_for_log(FORBIDDEN).await;
    allow(&users[1], &format!("--operation Read --topic {topic}"));
    allow(&users[1], &format!("--operation Read --group {topic}"));
    allow(&users[0], &describe);
    allow(&users[0], &format!("--operation Write --topic {topic}"));
    let mut producer = start("producer", &users[0]);
    world.wait_for("rows", ROWS, 3).await;
    // Neither may do the other's work.
    let other = start("consumer", &users[0]);
    other.wait_for_log(FORBIDDEN).await;
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
    world.assert_complete(1.0).await;
}

/// A token without a signature, as the broker of the tests takes it.
fn token(expires_in: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let head = part(serde_json::json!({"alg": "none"}));
    let claims = serde_json::json!({"sub": "sitewatch", "iat": now - 60, "exp": now + expires_in});
    format!("{head}.{}.", part(claims))
}

#[actix_rt::test]
async fn kafka_lets_in_who_has_a_token_as_soon_as_there_is_one() {
    let (world, web) = (World::new("token").await, Web::start());
    world.bring(&["ca.pem"]);
    let file = world.folder.path().join("token");
    let kafka = "ca: ca.pem, sasl: { mechanism: OAUTHBEARER, token_file: token }";
    let (mut producer, mut consumer) = both(&world, &web, kafka, "SITEWATCH_TEST_KAFKA_SASL");
    for node in [&producer, &consumer] {
        node.wait_for_log("no token for Kafka, trying on").await;
        assert!(node.log().contains("No such file"), "{}", node.log());
    }
    fs::write(&file, token(-10)).unwrap();
    producer.wait_for_log("gave a token that expired at").await;
    let good = token(3600);
    fs::write(&file, &good).unwrap();
    for node in [&producer, &consumer] {
        node.wait_for_log("there is a token for Kafka again").await;
        node.wait_for_log("connected to Kafka").await;
    }
    world.wait_for("rows by token", ROWS, 3).await;
    for node in [&producer, &consumer] {
        let log = node.log();
        assert_eq!(log.matches("No such file").count(), 1, "said once\n{log}");
        assert!(!log.contains(SAID) && !log.contains(&good), "{log}");
    }
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
    world.assert_complete(1.0).await;
}

/// Makes tokens of ten seconds, and counts them; not for who hands on the node's own secrets.
const MINT: &str = r#"#!/bin/sh
[ -z "$POSTGRES_URL$SITEWATCH__KAFKA__GROUP" ] || exit 1
echo x >> minted
part() { printf %s "$1" | base64 | tr -d '=\n' | tr /+ _-; }
claims="{\"sub\":\"$1\",\"exp\":$(($(date +%s) + 10))}"
echo "{\"token\": \"$(part '{"alg":"none"}').$(part "$claims").\", \"principal\": \"$1\"}"
"#;

#[actix_rt::test]
async fn a_token_is_made_anew_before_it_expires_and_nothing_stops() {
    let (world, web) = (World::new("refresh").await, Web::start());
    world.bring(&["ca.pem"]);
    fs::write(world.folder.path().join("mint"), MINT).unwrap();
    let kafka =
        "ca: ca.pem, sasl: { mechanism: OAUTHBEARER, token_command: [sh, mint, sitewatch] }";
    let (mut producer, mut consumer) = both(&world, &web, kafka, "SITEWATCH_TEST_KAFKA_SASL");
    // More than two lives of a token: the broker ends a session whose token has expired.
    world.wait_for("rows by tokens", ROWS, 25).await;
    let minted = fs::read_to_string(world.folder.path().join("minted")).unwrap();
    assert!(minted.lines().count() >= 4, "{minted}");
    for node in [&producer, &consumer] {
        let log = node.log();
        assert!(!log.contains("no token"), "{log}");
    }
    assert_eq!((producer.stop(), consumer.stop()), (Some(0), Some(0)));
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn a_producer_needs_no_database_and_connects_to_none() {
    let (world, web) = (World::new("no_database").await, Web::start());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("postgres://u:canary@{}/d", listener.local_addr().unwrap());
    let text = || settings(&web, "topic: t");
    let mut with = world.node_with("producer", &text(), &[("POSTGRES_URL", &url)]);
    let mut without = world.node_but("producer", &text(), &[], &["POSTGRES_URL"]);
    let _consumer = world.node("consumer", &text());
    world.wait_for("rows", ROWS, 4).await;
    assert!(
        with.log()
            .contains("postgres.url is not needed by a producer"),
        "{}",
        with.log()
    );
    assert_eq!((with.stop(), without.stop()), (Some(0), Some(0)));
    let nobody = listener
        .accept()
        .map(|(_, who)| who)
        .map_err(|error| error.kind());
    assert_eq!(nobody, Err(ErrorKind::WouldBlock));
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
    // The writer's, and the housekeeper's, if it has one already.
    let encrypted = "SELECT count(*) FILTER (WHERE ssl) - 100 * count(*) FILTER (WHERE NOT ssl)
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'sitewatch-node' AND datname = current_database()";
    let encrypted = world.number(encrypted).await;
    assert!((1..=2).contains(&encrypted), "{encrypted}");
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
