//! Reloads: the last one wins and reaches an actor that waits; what the node can't work with is refused by name; none ends a
//! process that works.

use std::fs;

use crate::cluster::Cluster;
use crate::support::{Node, Web, World, assert_told, free_port, message, wait_for_metric};

const RELOADED: &str = "settings reloaded";

/// The settings of a consumer, with a database that the environment does not name.
fn consuming(port: u16, url: &str, more: &str) -> String {
    format!(
        "node: {{ listen: '127.0.0.1:{port}', drain_timeout: 2s }}\npostgres: {{ url: '{url}', batch: {{ max_age: 100ms }} }}\n{more}"
    )
}

fn consumer(world: &World, settings: &str) -> Node {
    world.node_but("consumer", settings, &[], &["POSTGRES_URL"])
}

fn reload(node: &Node, settings: &str) {
    fs::write(&node.file, settings).unwrap();
    node.signal("HUP");
}

/// Puts ten more messages into the topic.
fn produce(world: &World, from: i64) {
    world.produce((from..from + 10).map(|n| message("a", n).to_string().into_bytes()));
}

/// Waits until that many rows are in a server's database.
async fn stored(db: &tokio_postgres::Client, rows: i64, node: &Node) {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let found = db.query_one("SELECT count(*) FROM check_result", &[]).await;
        let found = found.map_or(0, |row| row.get::<_, i64>(0));
        if found == rows {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{found} rows, not {rows}\n{}",
            node.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Waits until a writer has a batch in its hands.
async fn batch_held(port: u16) {
    let held = "sitewatch_intake_permits_in_use{actor=\"writer\"}";
    wait_for_metric(port, held, 1).await;
}

#[actix_rt::test]
async fn a_writer_with_a_batch_in_hand_goes_over_to_another_server() {
    let world = World::new("moved").await;
    world.create_topic(1).await;
    let (old, new, third) = (
        Cluster::new("moved_old").await,
        Cluster::new("moved_new").await,
        Cluster::new("moved_third").await,
    );
    let port = free_port();
    let mut node = consumer(&world, &consuming(port, &old.url("sitewatch"), ""));
    produce(&world, 0);
    stored(&old.connect().await, 10, &node).await;
    // It dies, with a batch on its way.
    old.kill();
    produce(&world, 10);
    node.wait_for_log("PostgreSQL can't be used").await;
    batch_held(port).await;
    reload(&node, &consuming(port, &new.url("sitewatch"), ""));
    node.wait_for_log(RELOADED).await;
    let db = new.connect().await;
    stored(&db, 20, &node).await;

    // The server answers, and a lock holds up the transaction.
    db.batch_execute("BEGIN; LOCK TABLE kafka_offset IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    produce(&world, 20);
    batch_held(port).await;
    reload(&node, &consuming(port, &third.url("sitewatch"), ""));
    node.wait_for_log_times(RELOADED, 2).await;
    stored(&third.connect().await, 30, &node).await;
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}

#[actix_rt::test]
async fn a_password_that_was_changed_reaches_a_writer_with_a_batch_in_hand() {
    let world = World::new("password").await;
    world.create_topic(1).await;
    let server = Cluster::new("password").await;
    let db = server.connect().await;
    db.batch_execute("CREATE ROLE app LOGIN PASSWORD 'old'; ALTER DATABASE sitewatch OWNER TO app")
        .await
        .unwrap();
    server
        .let_in("host all sitewatch all trust\nhost all app all scram-sha-256\n")
        .await;
    let port = free_port();
    let url = |password: &str| {
        server
            .url("sitewatch")
            .replace("sitewatch@", &format!("app:{password}@"))
    };
    let mut node = consumer(&world, &consuming(port, &url("old"), ""));
    produce(&world, 0);
    stored(&db, 10, &node).await;
    db.batch_execute(
        "ALTER ROLE app PASSWORD 'new';
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
    )
    .await
    .unwrap();
    produce(&world, 10);
    node.wait_for_log("password authentication failed").await;
    batch_held(port).await;
    reload(&node, &consuming(port, &url("new"), ""));
    stored(&db, 20, &node).await;
    node.wait_for_log(RELOADED).await;
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}

#[actix_rt::test]
async fn the_last_of_many_reloads_is_the_one_in_force() {
    let world = World::new("many").await;
    world.create_topic(1).await;
    let server = Cluster::new("many").await;
    let port = free_port();
    let version = |n: u32| {
        let url = format!("{}?application_name=v{n}", server.url("sitewatch"));
        consuming(port, &url, "")
    };
    let mut node = consumer(&world, &version(0));
    produce(&world, 0);
    stored(&server.connect().await, 10, &node).await;
    server.stop();
    produce(&world, 10);
    node.wait_for_log("PostgreSQL can't be used").await;
    for n in 1..=8 {
        reload(&node, &version(n));
    }
    node.wait_for_log(RELOADED).await;
    server.start();
    let db = server.connect().await;
    stored(&db, 20, &node).await;
    // Those of the writers, and housekeeping's.
    let names =
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE 'v%'";
    let names: Vec<String> = db
        .query(names, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(names, ["v8"], "{}", node.log());
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}

#[actix_rt::test]
async fn a_reload_that_can_not_work_changes_nothing() {
    let (world, web) = (World::new("refused").await, Web::start());
    world.create_topic(1).await;
    let settings = |options: &str| {
        format!(
            "kafka: {{ options: {{ {options} }} }}\ndefaults: {{ interval: 1s }}\nsites: [{{ name: a, url: '{}' }}]\n",
            web.url("/up")
        )
    };
    let mut producer = world.node("producer", &settings(""));
    let mut consumer = world.node("consumer", &settings(""));
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("rows", rows, 2).await;
    let refused = "settings not reloaded, nothing has changed";
    let bad = [
        ("max.in.flight: 10", "kafka.options.max.in.flight: found"),
        (
            "max.in.flight.requests.per.connection: 6",
            "kafka.options.max.in.flight.requests.per.connection: found",
        ),
        (
            "message.send.max.retries: 0",
            "kafka.options.message.send.max.retries: found",
        ),
        ("retries: 0", "kafka.options.retries: found"),
        ("topic.acks: 1", "kafka.options.topic.acks: found"),
        (
            "transactional.id: t",
            "kafka.options.transactional.id: found",
        ),
        (
            "partition.assignment.strategy: range",
            "kafka.options.partition.assignment.strategy: found",
        ),
        // What only the clients themselves know.
        (
            "session.timeout.ms: 40000, max.poll.interval.ms: 1000",
            "max.poll.interval.ms",
        ),
        ("batch.size: 0", "batch.size"),
    ];
    for (number, (options, says)) in bad.iter().enumerate() {
        for node in [&producer, &consumer] {
            reload(node, &settings(options));
            node.wait_for_log_times(refused, number + 1).await;
            assert!(node.log().contains(says), "{options}\n{}", node.log());
        }
        let file = producer.file.to_str().unwrap();
        let output = world
            .program(&["--config", file, "validate"])
            .output()
            .unwrap();
        assert_told(&output, 78, says);
    }
    let so_far = world.number(rows).await;
    world.wait_for("more rows", rows, so_far + 2).await;
    // What a client of one kind takes is for that kind only.
    for node in [&producer, &consumer] {
        reload(
            node,
            &settings(
                "enable.gapless.guarantee: true, queue.buffering.max.ms: 20, fetch.min.bytes: 1",
            ),
        );
        node.wait_for_log(RELOADED).await;
    }
    let so_far = world.number(rows).await;
    world.wait_for("more rows", rows, so_far + 2).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn a_client_that_can_not_be_made_leaves_the_one_before_at_work() {
    let (world, web) = (World::new("no_client").await, Web::start());
    world.create_topic(1).await;
    let (produces, consumes) = (free_port(), free_port());
    let settings = |port: u16, options: &str| {
        format!(
            "node: {{ listen: '127.0.0.1:{port}', restart: {{ max: 1, base: 10ms }} }}
kafka: {{ options: {{ {options} }} }}\ndefaults: {{ interval: 1s }}\nsites: [{{ name: a, url: '{}' }}]\n",
            web.url("/up")
        )
    };
    // The first one is that of the start.
    let points = [(
        "FAILPOINTS",
        "publisher::client=1*off->1*return->off;consumer::client=1*off->1*return->off",
    )];
    let mut producer = world.node_with("producer", &settings(produces, ""), &points);
    let mut consumer = world.node_with("consumer", &settings(consumes, ""), &points);
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("rows", rows, 2).await;
    for (node, port) in [(&producer, produces), (&consumer, consumes)] {
        reload(node, &settings(port, "socket.timeout.ms: 30000"));
        node.wait_for_log("settings not reloaded in whole").await;
        let log = node.log();
        assert!(log.contains("with those before; see kafka.*"), "{log}");
        wait_for_metric(port, "sitewatch_reloads_total{result=\"refused\"}", 1).await;
        assert!(!log.contains(RELOADED), "{log}");
    }
    let so_far = world.number(rows).await;
    world.wait_for("more rows", rows, so_far + 2).await;
    // Without another change: what was refused is offered again.
    for node in [&producer, &consumer] {
        node.signal("HUP");
        node.wait_for_log(RELOADED).await;
    }
    let so_far = world.number(rows).await;
    world.wait_for("more rows", rows, so_far + 2).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn a_reload_to_a_database_that_can_not_be_used_ends_no_consumer() {
    let world = World::new("unusable").await;
    world.create_topic(1).await;
    let (server, newer) = (Cluster::new("usable").await, Cluster::new("newer").await);
    let newer_url = newer.url("sitewatch");
    let migrated = world
        .program(&["migrate"])
        .env("POSTGRES_URL", &newer_url)
        .status();
    assert!(migrated.unwrap().success());
    let later = "INSERT INTO schema_version (version, usable_from) SELECT max(version) + 1, max(version) + 1 FROM schema_version";
    newer.connect().await.batch_execute(later).await.unwrap();
    let (port, url) = (free_port(), server.url("sitewatch"));
    let mut node = consumer(&world, &consuming(port, &url, ""));
    produce(&world, 0);
    let db = server.connect().await;
    stored(&db, 10, &node).await;

    let absent = format!("{url}?sslrootcert=absent.pem");
    reload(&node, &consuming(port, &absent, ""));
    node.wait_for_log("settings not reloaded, nothing has changed")
        .await;
    assert!(
        node.log().contains("postgres.url: ") && node.log().contains("absent.pem"),
        "{}",
        node.log()
    );
    produce(&world, 10);
    stored(&db, 20, &node).await;

    reload(&node, &consuming(port, &newer_url, ""));
    node.wait_for_log("use a newer sitewatch-node").await;
    produce(&world, 20);
    batch_held(port).await;
    assert!(node.runs());
    reload(&node, &consuming(port, &url, ""));
    stored(&db, 30, &node).await;
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}

#[actix_rt::test]
async fn reloaded_is_said_when_every_actor_uses_the_settings() {
    let world = World::new("confirmed").await;
    world.create_topic(1).await;
    let server = Cluster::new("confirmed").await;
    let (port, url) = (free_port(), server.url("sitewatch"));
    // So long a consumer waits for what it has read to be stored.
    let settings = |rows: u32| {
        consuming(port, &url, "")
            .replace("drain_timeout: 2s", "drain_timeout: 10min")
            .replace("batch: {", &format!("batch: {{ max_rows: {rows},"))
    };
    let mut node = consumer(&world, &settings(100));
    produce(&world, 0);
    stored(&server.connect().await, 10, &node).await;
    server.stop();
    produce(&world, 10);
    batch_held(port).await;
    reload(&node, &settings(200));
    node.wait_for_log("an actor does not use the reloaded settings yet")
        .await;
    let log = node.log();
    assert!(
        log.contains("actor: consumer") && !log.contains(RELOADED),
        "{log}"
    );
    assert_eq!(
        crate::support::metric(port, "sitewatch_reloads_total{result=\"ok\"}"),
        0
    );
    // A second one takes the place of the first.
    reload(&node, &settings(300));
    server.start();
    node.wait_for_log(RELOADED).await;
    wait_for_metric(port, "sitewatch_reloads_total{result=\"ok\"}", 1).await;
    stored(&server.connect().await, 20, &node).await;
    assert_eq!(node.log().matches(RELOADED).count(), 1, "{}", node.log());
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}
