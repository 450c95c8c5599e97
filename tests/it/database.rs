//! PostgreSQL as it is in real life: changed by hand, locked, failed over, picky about who comes in.

use std::{path::Path, process::Command, time::Duration};

use crate::cluster::{Cluster, run};
use crate::support::{Node, World, connect, message, required};
use tokio_postgres::Client;

const ROWS: &str = "SELECT count(*) FROM check_result";
const QUICK: &str = "postgres: { lock_timeout: 500ms, statement_timeout: 2s, idle_in_transaction_timeout: 1s, batch: { max_age: 50ms } }\n";

fn payloads(site: &str, numbers: std::ops::Range<i64>) -> impl Iterator<Item = Vec<u8>> {
    numbers.map(move |n| message(site, n).to_string().into_bytes())
}

/// A world with one partition, and its tables made.
async fn migrated(name: &str) -> World {
    let world = World::new(name).await;
    world.create_topic(1).await;
    migrate(&world.database_url);
    world
}

fn migrate(url: &str) {
    run(Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .arg("migrate")
        .env("POSTGRES_URL", url)
        .current_dir(std::env::temp_dir()));
}

async fn number(db: &Client, sql: &str) -> i64 {
    match db.query_one(sql, &[]).await {
        Ok(row) => row.get(0),
        Err(_) => 0,
    }
}

async fn wait_for(db: &Client, node: &Node, sql: &str, wanted: i64) {
    for _ in 0..1200 {
        if number(db, sql).await >= wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} of {wanted}\n{}", number(db, sql).await, node.log());
}

#[actix_rt::test]
async fn what_is_missing_is_made_again_at_the_start_and_while_running() {
    let world = migrated("drift_heals").await;
    let drop_some = "DROP TABLE kafka_gap; ALTER TABLE check_detail DROP COLUMN facts CASCADE;
        DROP FUNCTION make_partition(text, timestamptz, timestamptz); DROP TRIGGER rollup_day_changed ON rollup_day";
    world.db.batch_execute(drop_some).await.unwrap();
    world.produce(payloads("a", 0..100));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 100).await;
    for told in [
        "kafka_gap: found no such table",
        "check_detail.facts: found no such column; right would be jsonb",
        "checks: found nothing of this name",
        "make_partition: found nothing",
        "rollup_day_added, rollup_day_changed: found nothing of this name; right would be triggers",
        "schema applied",
    ] {
        assert!(consumer.log().contains(told), "{told}\n{}", consumer.log());
    }
    let checks = "SELECT count(*) FROM checks";
    assert_eq!(world.number(checks).await, 100, "the view is back");

    let drop_table = "DROP TABLE check_detail, dead_letter CASCADE";
    world.db.batch_execute(drop_table).await.unwrap();
    world.produce([b"{".to_vec()]);
    world.produce(payloads("b", 0..100));
    world.wait_for("rows after the drop", ROWS, 200).await;
    let letters = "SELECT count(*) FROM dead_letter";
    assert_eq!(world.number(letters).await, 1);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn what_can_not_be_mended_stops_the_process_and_is_named() {
    let world = migrated("drift_stops").await;
    let wider = "DROP VIEW checks; ALTER TABLE check_result ALTER lateness_ms TYPE int8";
    for (change, told, undo) in [
        (
            wider,
            "check_result.lateness_ms: found the type bigint; right would be integer",
            "ALTER TABLE check_result ALTER lateness_ms TYPE int4",
        ),
        (
            "ALTER TABLE check_result ADD COLUMN region text NOT NULL",
            "check_result.region: found a column of another's that must not be null",
            "ALTER TABLE check_result DROP COLUMN region",
        ),
        (
            "ALTER TABLE check_result DROP CONSTRAINT check_result_pkey",
            "right would be a primary key or unique index on (site_id, location_id, slot)",
            "ALTER TABLE check_result ADD PRIMARY KEY (site_id, location_id, slot)",
        ),
        (
            "CREATE TABLE rest PARTITION OF check_result DEFAULT",
            "found the default partition rest, which stands in the way of new ones",
            "DROP TABLE rest",
        ),
    ] {
        world.db.batch_execute(change).await.unwrap();
        let mut consumer = world.node("consumer", QUICK);
        assert_eq!(consumer.wait().code(), Some(78), "{}", consumer.log());
        assert!(consumer.log().contains(told), "{told}\n{}", consumer.log());
        world.db.batch_execute(undo).await.unwrap();
    }
    // In groups of their own: those that stopped are waited for in the first one.
    let in_group =
        |group| world.node_with("consumer", QUICK, &[("SITEWATCH__KAFKA__GROUP", group)]);
    let group = format!("{}_running", world.topic);
    let mut consumer = in_group(&group);
    consumer.wait_for_log("connected to PostgreSQL").await;

    // While it runs: no row may become a dead letter because of it.
    world.db.batch_execute(wider).await.unwrap();
    world.produce(payloads("a", 0..100));
    assert_eq!(consumer.wait().code(), Some(78), "{}", consumer.log());
    let letters = "SELECT count(*) FROM dead_letter";
    assert_eq!(world.number(letters).await, 0);
    let undo = "ALTER TABLE check_result ALTER lateness_ms TYPE int4";
    world.db.batch_execute(undo).await.unwrap();
    let group = format!("{}_mended", world.topic);
    let _consumer = in_group(&group);
    world.wait_for("rows after the mend", ROWS, 100).await;
}

#[actix_rt::test]
async fn partitions_that_were_dropped_or_detached_are_made_again() {
    let world = migrated("partitions").await;
    let failing = |site: &str, numbers: std::ops::Range<i64>| {
        let made: Vec<_> = numbers
            .map(|n| {
                let mut failed = message(site, n);
                failed["outcome"] = "down".into();
                failed["error"] = "ttfb_timeout".into();
                failed["error_detail"] = "too late".into();
                failed.to_string().into_bytes()
            })
            .collect();
        made
    };
    world.produce(failing("a", 0..50));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 50).await;
    let drop_details = "DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'check_detail'::regclass LOOP
            EXECUTE 'DROP TABLE ' || name; END LOOP; END $$";
    world.db.batch_execute(drop_details).await.unwrap();
    world.produce(failing("b", 0..50));
    world
        .wait_for("details", "SELECT count(*) FROM check_detail", 50)
        .await;
    let detach = drop_details
        .replace("check_detail", "check_result")
        .replace(
            "DROP TABLE ' || name",
            "ALTER TABLE check_result DETACH PARTITION ' || name",
        );
    world.db.batch_execute(&detach).await.unwrap();
    assert_eq!(world.number(ROWS).await, 0);
    world.produce(failing("c", 0..50));
    // What was detached keeps its name and its rows.
    world
        .wait_for("rows beside what was detached", ROWS, 50)
        .await;
    // Somebody's partition, open on both sides, is left and used.
    world.db.batch_execute(&detach).await.unwrap();
    let all =
        "CREATE TABLE somebodys PARTITION OF check_result FOR VALUES FROM (MINVALUE) TO (MAXVALUE)";
    world.db.batch_execute(all).await.unwrap();
    world.produce(failing("d", 0..50));
    world
        .wait_for("rows in it", "SELECT count(*) FROM somebodys", 50)
        .await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn a_lock_of_another_session_is_waited_out_and_told() {
    let mut world = migrated("locked").await;
    world.produce(payloads("a", 0..10));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 10).await;
    let url = world.database_url.clone();
    let lock = world.db.transaction().await.unwrap();
    lock.execute("SELECT FROM kafka_offset FOR UPDATE", &[])
        .await
        .unwrap();
    world_produce(&world.topic, payloads("b", 0..10));
    consumer.wait_for_log("postgres.lock_timeout").await;
    let other = connect(&url).await;
    assert_eq!(number(&other, ROWS).await, 10);
    lock.rollback().await.unwrap();
    wait_for(&other, &consumer, ROWS, 20).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// As [`World::produce`], while the world itself is in a transaction.
fn world_produce(topic: &str, payloads: impl Iterator<Item = Vec<u8>>) {
    use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
    let producer: ThreadedProducer<_> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", required("KAFKA_SERVER"))
        .create()
        .unwrap();
    for payload in payloads {
        let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(topic).key("k").payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

#[actix_rt::test]
async fn a_process_that_stands_still_in_its_transaction_does_not_hold_up_its_successor() {
    let world = migrated("stands_still").await;
    world.produce(payloads("a", 0..10));
    let still = [("FAILPOINTS", "writer::before_commit=1*sleep(5000)->off")];
    let mut consumer = world.node_with("consumer", QUICK, &still);
    // Its row of kafka_offset is locked, and let go after a second though it stands still for five.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    world
        .wait_for("a transaction that stands still", waiting, 1)
        .await;
    let touch = "SET lock_timeout = '4s'; UPDATE kafka_offset SET updated_at = now()";
    world.db.batch_execute(touch).await.unwrap();
    world.wait_for("rows", ROWS, 10).await;
    let log = consumer.log();
    assert!(
        log.contains("idle_in_transaction_timeout") || log.contains("lost"),
        "{log}"
    );
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(world.number(ROWS).await, 10);
}

#[actix_rt::test]
async fn a_session_left_in_the_middle_of_a_copy_is_ended() {
    let world = migrated("left_copy").await;
    world.produce(payloads("a", 0..10));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", ROWS, 10).await;
    let url = format!("{}?application_name=sitewatch-node", world.database_url);
    let mut left = connect(&url).await;
    let transaction = left.transaction().await.unwrap();
    transaction
        .execute("UPDATE kafka_offset SET updated_at = now()", &[])
        .await
        .unwrap();
    let copy = "COPY check_result FROM STDIN BINARY";
    let _sink = transaction.copy_in::<_, bytes::Bytes>(copy).await.unwrap();
    world.produce(payloads("b", 0..10));
    consumer.wait_for_log("left in the middle of a COPY").await;
    world.wait_for("rows", ROWS, 20).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

fn pair(one: &Cluster, two: &Cluster) -> String {
    format!(
        "postgres://sitewatch:canary-password@127.0.0.1:{},127.0.0.1:{}/sitewatch?target_session_attrs=read-write&connect_timeout=2",
        one.port, two.port
    )
}

#[actix_rt::test]
async fn a_failover_to_a_synchronous_standby_loses_and_doubles_nothing() {
    let world = World::new("failover").await;
    world.create_topic(1).await;
    let primary = Cluster::new("primary").await;
    let standby = primary.standby("standby");
    let db = primary.connect().await;
    for statement in [
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ] {
        db.batch_execute(statement).await.unwrap();
    }
    // The standby comes first: it is passed over.
    let url = pair(&standby, &primary);
    let settings = format!("node: {{ log: {{ level: debug }} }}\n{QUICK}");
    let mut consumer = world.node_with("consumer", &settings, &[("POSTGRES_URL", &url)]);
    world.produce(payloads("a", 0..1000));
    wait_for(&db, &consumer, ROWS, 500).await;
    primary.kill();
    world.produce(payloads("b", 0..1000));
    consumer.wait_for_log("PostgreSQL can't be used").await;
    // The first reason may be the connection that broke; each server's own is told at the tries after it.
    for told in ["does not allow writes", "Connection refused"] {
        consumer.wait_for_log(told).await;
    }
    standby.promote();
    world.produce(payloads("c", 0..1000));
    let db = standby.connect().await;
    wait_for(&db, &consumer, ROWS, 3000).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(number(&db, ROWS).await, 3000);
    assert_eq!(number(&db, "SELECT next FROM kafka_offset").await, 3000);
    assert_eq!(number(&db, "SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(number(&db, "SELECT count(*) FROM kafka_gap").await, 0);
    assert!(
        !consumer.log().contains("canary-password"),
        "{}",
        consumer.log()
    );
}

#[actix_rt::test]
async fn servers_that_hang_or_have_another_name_are_passed_over() {
    let world = World::new("passed_over").await;
    // Connections to it come up, and nobody ever answers.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = hangs.local_addr().unwrap().port();
    let (shared, tls) = (required("POSTGRES_URL"), required("SITEWATCH_TEST_TLS"));
    let (_, port) = shared.rsplit_once(':').unwrap();
    let (port, _) = port.split_once('/').unwrap();
    let url = format!(
        "postgres://sitewatch@localhost:{hangs},127.0.0.1:{port},localhost:{port}/{}?sslmode=verify-full&sslrootcert={tls}/ca.pem&connect_timeout=1",
        world.topic
    );
    let consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    consumer.wait_for_log("PostgreSQL server in use").await;
    for told in [
        "takes connections, but has not answered within 2s".to_owned(),
        format!("server: localhost:{hangs}"),
        "not valid for".to_owned(),
        format!("server: 127.0.0.1:{port}"),
        format!("server: localhost:{port}"),
    ] {
        assert!(consumer.log().contains(&told), "{told}\n{}", consumer.log());
    }
}

#[actix_rt::test]
async fn what_an_asynchronous_standby_had_not_got_is_read_from_kafka_again() {
    let world = World::new("async_failover").await;
    world.create_topic(1).await;
    let primary = Cluster::new("async-primary").await;
    let standby = primary.standby("async-standby");
    let db = primary.connect().await;
    let url = pair(&primary, &standby);
    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    world.produce(payloads("a", 0..1000));
    wait_for(&db, &consumer, ROWS, 1000).await;
    let replica = standby.connect().await;
    wait_for(&replica, &consumer, ROWS, 1000).await;
    // From here on the standby hears nothing more.
    standby.stop();
    world.produce(payloads("b", 0..1000));
    wait_for(&db, &consumer, ROWS, 2000).await;
    primary.kill();
    standby.start();
    standby.promote();
    let db = standby.connect().await;
    assert_eq!(number(&db, ROWS).await, 1000, "rows are lost");
    assert_eq!(
        number(&db, "SELECT next FROM kafka_offset").await,
        1000,
        "and the offset with them"
    );
    // The next message makes the consumer notice: what it follows on is not stored.
    world.produce(payloads("c", 0..1));
    wait_for(&db, &consumer, ROWS, 2001).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(number(&db, ROWS).await, 2001);
    assert_eq!(number(&db, "SELECT next FROM kafka_offset").await, 2001);
    assert_eq!(number(&db, "SELECT count(*) FROM kafka_gap").await, 0);
}

#[actix_rt::test]
async fn certificates_and_passwords_let_in_who_has_them() {
    let world = World::new("let_in").await;
    let cluster = Cluster::new("tls").await;
    let tls = required("SITEWATCH_TEST_TLS");
    let file = |name: &str| Path::new(&tls).join(name);
    for name in ["ca.pem", "postgres.cert", "postgres.key"] {
        cluster.give(&file(name), name);
    }
    let db = cluster.connect().await;
    for statement in [
        "CREATE ROLE scram SUPERUSER LOGIN PASSWORD 'right-canary'",
        "ALTER SYSTEM SET ssl_ca_file = 'ca.pem'",
        "ALTER SYSTEM SET ssl_cert_file = 'postgres.cert'",
        "ALTER SYSTEM SET ssl_key_file = 'postgres.key'",
        "ALTER SYSTEM SET ssl = on",
    ] {
        db.batch_execute(statement).await.unwrap();
    }
    cluster
        .let_in(
            "hostssl sitewatch scram 127.0.0.1/32 scram-sha-256\n\
             hostssl sitewatch sitewatch 127.0.0.1/32 cert clientcert=verify-full\n",
        )
        .await;
    let keys = world.folder.path();
    let copy = |name: &str, mode: &str| {
        run(Command::new("install")
            .args(["-m", mode])
            .arg(file(name))
            .arg(keys.join(name)));
    };
    copy("service.cert", "644");
    copy("service.key", "600");
    let url = |user: &str, more: &str| {
        format!(
            "postgres://{user}@localhost:{}/sitewatch?sslmode=verify-full&sslrootcert={}&hostaddr=127.0.0.1{more}",
            cluster.port,
            file("ca.pem").display()
        )
    };
    let node = |url: String| world.node_with("consumer", "node: {}\n", &[("POSTGRES_URL", &url)]);

    let refused = node(url("sitewatch", ""));
    refused.wait_for_log("PostgreSQL can't be used").await;
    for told in ["28000", "sslcert of postgres.url"] {
        assert!(refused.log().contains(told), "{told}\n{}", refused.log());
    }
    drop(refused);
    let both = "&sslcert=service.cert&sslkey=service.key";
    let known = node(url("sitewatch", both));
    known.wait_for_log("connected to PostgreSQL").await;
    assert!(!known.log().contains("others can read"), "{}", known.log());
    // A renewed certificate under the same name is a change; the same once more is none.
    known.signal("HUP");
    known.wait_for_log("settings reloaded").await;
    assert!(!known.log().contains("connecting anew"), "{}", known.log());
    let cert = std::fs::read_to_string(file("service.cert")).unwrap();
    std::fs::write(keys.join("service.cert"), format!("{cert}\n")).unwrap();
    known.signal("HUP");
    known.wait_for_log("connecting anew").await;
    drop(known);
    copy("service.key", "644");
    let exposed = node(url("sitewatch", both));
    exposed
        .wait_for_log("others can read the private key")
        .await;
    drop(exposed);
    run(Command::new("cp")
        .arg(file("kafka.key"))
        .arg(keys.join("service.key")));
    let other = node(url("sitewatch", both));
    other
        .wait_for_log("can't be used with the certificate")
        .await;
    assert!(other.log().contains("service.key"), "{}", other.log());
    drop(other);
    std::fs::write(
        keys.join("service.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let locked = node(url("sitewatch", both));
    locked.wait_for_log("the key is encrypted").await;
    drop(locked);

    let wrong = node(url("scram:guessed-canary", "&channel_binding=require"));
    wrong.wait_for_log("28P01").await;
    assert!(
        wrong.log().contains("see user and password"),
        "{}",
        wrong.log()
    );
    let right = node(url("scram:right-canary", "&channel_binding=require"));
    right.wait_for_log("connected to PostgreSQL").await;
    for log in [wrong.log(), right.log()] {
        assert!(!log.contains("-canary"), "{log}");
    }
}

fn make_roles(world: &World, consumer: &str, web: &str) {
    run(Command::new("psql")
        .args(["-v", &format!("consumer={consumer}")])
        .args(["-v", &format!("web={web}")])
        .args(["-qX", "-f"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/roles.sql"))
        .arg(&world.database_url));
}

#[actix_rt::test]
async fn a_right_that_was_taken_away_is_told_once_and_tried_for_with_growing_delays() {
    let world = migrated("revoked").await;
    let (role, web) = (format!("{}_c", world.topic), format!("{}_w", world.topic));
    make_roles(&world, &role, &web);
    let url = world
        .database_url
        .replacen("sitewatch:sitewatch@", &format!("{role}@"), 1);
    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    world.produce(payloads("a", 0..10));
    world.wait_for("rows", ROWS, 10).await;
    let revoke = format!("REVOKE INSERT ON check_result FROM {role}");
    world.db.batch_execute(&revoke).await.unwrap();
    world.produce(payloads("b", 0..10));
    consumer
        .wait_for_log("the owner of the tables can grant it (scripts/roles.sql)")
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log = consumer.log();
    let (told, connected) = (
        log.matches("PostgreSQL can't be used").count(),
        log.matches("connected to PostgreSQL").count(),
    );
    assert_eq!(told, 1, "{log}");
    // Undelayed it would be fifty.
    assert!((2..=12).contains(&connected), "{connected}\n{log}");
    let grant = format!("GRANT INSERT ON check_result TO {role}");
    world.db.batch_execute(&grant).await.unwrap();
    world.wait_for("rows", ROWS, 20).await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let clean = format!("DROP OWNED BY {role}, {web}; DROP ROLE {role}, {web}");
    world.db.batch_execute(&clean).await.unwrap();
}

#[actix_rt::test]
async fn each_role_has_what_it_needs_and_no_more() {
    let world = migrated("roles").await;
    let (consumer_role, web_role) = (format!("{}_c", world.topic), format!("{}_w", world.topic));
    for _ in 0..2 {
        make_roles(&world, &consumer_role, &web_role);
    }
    // As it is from PostgreSQL 15 on.
    let own_tables = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    let rule = "ALTER TABLE check_result ADD CONSTRAINT somebodys CHECK (status <> 599)";
    for statement in [own_tables, rule] {
        world.db.batch_execute(statement).await.unwrap();
    }
    let (_, host) = world.database_url.split_once('@').unwrap();
    let as_role = |role: &str| format!("postgres://{role}@{host}");

    // The schema is old: the consumer says so, and goes on when the owner has mended it.
    let old = "DELETE FROM schema_version WHERE version > 2; INSERT INTO schema_version VALUES (2) ON CONFLICT DO NOTHING";
    world.db.batch_execute(old).await.unwrap();
    let url = as_role(&consumer_role);
    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    consumer
        .wait_for_log("run `sitewatch-node migrate` as the owner")
        .await;
    assert!(
        consumer
            .log()
            .contains("has version 2, this program needs 9"),
        "{}",
        consumer.log()
    );
    migrate(&world.database_url);

    // New rows, twice the same, unreadable and refused ones, and slots that need partitions.
    let mut refused = message("a", 200);
    refused["status"] = 599.into();
    let first: Vec<_> = payloads("a", 0..100).collect();
    world.produce(first.clone());
    world.produce(first);
    world.produce([b"{".to_vec(), refused.to_string().into_bytes()]);
    world.produce(payloads("a", -3_000_000..-2_999_990));
    world.wait_for("rows", ROWS, 110).await;
    world
        .wait_for("dead letters", "SELECT count(*) FROM dead_letter", 2)
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let owners = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE pg_get_userbyid(c.relowner) <> 'sitewatch'";
    assert_eq!(
        world.number(owners).await,
        0,
        "the partitions are the owner's"
    );

    // It keeps house, but what is to be dropped, also what somebody has begun to drop, is the owner's.
    let work = "
        INSERT INTO partition_drop (name, parent, reason) VALUES ('check_result_gone', 'check_result', 'retention');
        DELETE FROM rollup_hour; DELETE FROM rollup_day; DELETE FROM rollup_dirty; DELETE FROM rollup_month_to_date;
        UPDATE rollup_state SET rolled_until = '1970-01-01 00:00+00';
        INSERT INTO site_revision (site_id, location_id, since, cron, check_limit_us, config_hash, run)
        SELECT site_id, 1, now() - interval '2 days', '0 * * * * UTC', 1, '', now() FROM site;
        INSERT INTO maintenance (name, from_time, cron, lasts) VALUES ('nightly', now(), '0 3 * * * UTC', '1 hour');
        INSERT INTO incident_late SELECT '2020-01-01', 1, array_agg(site_id) FROM site";
    world.db.batch_execute(work).await.unwrap();
    let keep = "postgres: { max_slot_age: 2d, retention: { raw: 3d } }\n";
    let mut consumer = world.node_with("consumer", keep, &[("POSTGRES_URL", &url)]);
    consumer
        .wait_for_log("only the owner of the tables can: run `sitewatch-node housekeep`")
        .await;
    let kept = "
        SELECT (EXISTS (SELECT FROM rollup_hour) AND EXISTS (SELECT FROM rollup_day) AND EXISTS (SELECT FROM rollup_month_to_date)
                AND EXISTS (SELECT FROM calendar_day) AND EXISTS (SELECT FROM maintenance_span)
                AND NOT EXISTS (SELECT FROM incident_late) AND NOT EXISTS (SELECT FROM incident_again))::int4::int8";
    world.wait_for("all the rest", kept, 1).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert!(
        !consumer.log().contains("housekeeping does not work"),
        "{}",
        consumer.log()
    );
    assert_eq!(world.number(ROWS).await, 110);

    // Who may only read can ask all that there is to be asked.
    std::fs::write(
        world.folder.path().join("rules.yaml"),
        "failure_threshold: 1",
    )
    .unwrap();
    for question in [
        &["report"][..],
        &["export", "--format", "csv", "--from", "-60d"],
        &["rejudge", "--rules", "rules.yaml", "--from", "-60d"],
        &["maintenance", "list"],
    ] {
        let asked = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
            .args(question)
            .env("POSTGRES_URL", as_role(&web_role))
            .current_dir(world.folder.path())
            .output()
            .unwrap();
        assert!(asked.status.success(), "{question:?}: {asked:?}");
    }
    let web = connect(&as_role(&web_role)).await;
    for (question, answer) in [
        ("SELECT count(*) FROM checks", 110),
        ("SELECT count(*) FROM sla_status()", 0),
        (
            "SELECT checks FROM uptime('a', now() - interval '90 days', now())",
            110,
        ),
        ("SELECT count(*) FROM incidents CROSS JOIN incident_span", 0),
    ] {
        assert_eq!(number(&web, question).await, answer, "{question}");
    }
    let consumer = connect(&as_role(&consumer_role)).await;
    for (db, forbidden) in [
        (&web, "INSERT INTO location (name) VALUES ('x')"),
        (&web, "SELECT payload FROM dead_letter"),
        (
            &web,
            "SELECT make_partition('check_result', '2001-01-01', '2001-01-02')",
        ),
        (&consumer, "DELETE FROM check_result"),
        (&consumer, "UPDATE site SET first_seen = now()"),
        (&consumer, "CREATE TABLE x ()"),
        (
            &consumer,
            "SELECT make_partition('site', '2001-01-01', '2001-01-02')",
        ),
        (
            &consumer,
            "SELECT make_partition('check_result; DROP TABLE site', '2001-01-01', '2001-01-02')",
        ),
    ] {
        let error = db.batch_execute(forbidden).await.expect_err(forbidden);
        let code = error.code().map(|state| state.code().to_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}: {error}");
    }
    // A table of the caller's can't stand in for the real one.
    consumer
        .batch_execute(
            "CREATE TEMP TABLE check_result (slot timestamptz) PARTITION BY RANGE (slot);
            SELECT make_partition('check_result', '2001-01-01', '2001-01-02')",
        )
        .await
        .unwrap();
    let made = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.check_result'::regclass AND inhrelid = 'check_result_2001010100'::regclass";
    assert_eq!(world.number(made).await, 1);

    let granted = "SELECT string_agg(name || ' ' || what, E'\\n' ORDER BY name, what) FROM (
        SELECT c.relname AS name, string_agg(left(p, 1), '' ORDER BY p) AS what
          FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND has_table_privilege($1, c.oid, p)
         GROUP BY c.relname) AS granted";
    for (role, expected) in [
        (
            &consumer_role,
            "calendar_day IS\ncheck_detail IS\ncheck_result IS\ndead_letter I\ndue_span S\nincident DISU\nincident_again DISU\nincident_late DIS\nkafka_gap I\nkafka_offset ISU\nlocation IS\nmaintenance S\nmaintenance_span I\npartition_drop S\nrollup_day ISU\nrollup_dirty DIS\nrollup_hour ISU\nrollup_month_to_date ISU\nrollup_state SU\nschema_version S\nsite IS\nsite_alias DISU\nsite_location ISU\nsite_revision ISU",
        ),
        (
            &web_role,
            "calendar_day S\ncheck_detail S\ncheck_result S\nchecks S\ndue_span S\nerror_kind S\nincident S\nincident_again S\nincident_late S\nincident_span S\nincidents S\nkafka_gap S\nkafka_offset S\nlocation S\nmaintenance S\nmaintenance_span S\noutcome S\nrollup_day S\nrollup_dirty S\nrollup_hour S\nrollup_month_to_date S\nrollup_state S\nschema_version S\nsite S\nsite_alias S\nsite_location S\nsite_revision S\nsites S",
        ),
    ] {
        let row = world.db.query_one(granted, &[role]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected, "{role}");
    }
    drop((web, consumer));
    let clean =
        format!("DROP OWNED BY {consumer_role}, {web_role}; DROP ROLE {consumer_role}, {web_role}");
    world.db.batch_execute(&clean).await.unwrap();
}

#[actix_rt::test]
async fn bad_rows_cost_their_number_times_the_logarithm_of_the_batch() {
    for bad in [1_i64, 3, 50] {
        let world = migrated(&format!("bisect_{bad}")).await;
        // What a sequence counts is not undone with the tries that fail.
        world
            .db
            .batch_execute(
                "ALTER TABLE check_result ADD CONSTRAINT somebodys CHECK (status <> 599);
                 CREATE SEQUENCE tries;
                 CREATE FUNCTION count_try() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''tries''); RETURN NULL; END';
                 CREATE TRIGGER count_try BEFORE INSERT ON check_result FOR EACH STATEMENT EXECUTE FUNCTION count_try()",
            )
            .await
            .unwrap();
        let rows = (0..5000).map(|n| {
            let mut row = message("a", n);
            if n % (5000 / bad) == 7 {
                row["status"] = 599.into();
            }
            row.to_string().into_bytes()
        });
        world.produce(rows);
        let one_batch = "postgres: { batch: { max_rows: 5000, max_age: 3s } }\n";
        let _consumer = world.node("consumer", one_batch);
        world.wait_for("rows", ROWS, 5000 - bad).await;
        let letters = "SELECT count(*) FROM dead_letter WHERE reason = 'refused'";
        assert_eq!(world.number(letters).await, bad);
        let tries = world.number("SELECT last_value FROM tries").await;
        // The straight way, the whole once more, and two halves on each of the 13 levels above a bad row. The consumer may
        // have made a few batches of the 5000 rows.
        let most = 2 * 5 + bad * 2 * 13;
        println!("{bad} bad rows of 5000: {tries} tries, at most {most}");
        assert!(
            (bad..=most).contains(&tries),
            "{tries} tries, at most {most}"
        );
    }
}
