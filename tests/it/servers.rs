//! Servers and databases that can't be used as they are: named at once, with what would be right; and who may change a schema.

use std::{process::Output, time::Duration};

use crate::cluster::Cluster;
use crate::support::{World, assert_told, message};

const ROWS: &str = "SELECT count(*) FROM check_result";
const VERSION_8: &str = include_str!("../schema/version-8.sql");

fn run(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut program = world.program(arguments);
    program.envs(environment.iter().copied()).output().unwrap()
}

/// What reads, what writes, and what changes the schema.
const COMMANDS: [&[&str]; 4] = [
    &["migrate"],
    &["housekeep"],
    &["dead-letter", "list"],
    &["export", "--format", "csv", "--from", "-1h"],
];

#[actix_rt::test]
async fn a_database_of_another_encoding_is_named() {
    let world = World::new("encoding").await;
    world.create_topic(1).await;
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let name = format!("{}_{}", world.topic, encoding.to_lowercase());
        let make =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        world.db.batch_execute(&make).await.unwrap();
        let url = format!("{}/{name}", world.database_url.rsplit_once('/').unwrap().0);
        let told = format!("the database has the encoding {encoding}, this program needs UTF8");
        for command in COMMANDS {
            assert_told(&run(&world, command, &[("POSTGRES_URL", &url)]), 78, &told);
        }
        let mut consumer = world.node_with("consumer", "{}\n", &[("POSTGRES_URL", &url)]);
        consumer.wait_for_log(&told).await;
        assert!(consumer.runs(), "somebody may mend it at any time");
        consumer.stop();
        world
            .db
            .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
            .unwrap();
    }
}

#[actix_rt::test]
async fn a_server_for_reading_only_is_named_and_a_role_for_reading_only_is_not_one() {
    let primary = Cluster::new("read-only").await;
    let standby = primary.standby("standby-only");
    let world = World::new("read_only").await;
    let url =
        |cluster: &Cluster| format!("postgres://sitewatch@127.0.0.1:{}/sitewatch", cluster.port);
    let by_standby = run(&world, &["migrate"], &[("POSTGRES_URL", &url(&standby))]);
    assert_told(&by_standby, 69, "does not allow writes: it is a standby");

    let db = primary.connect().await;
    db.batch_execute("ALTER ROLE sitewatch SET default_transaction_read_only = on")
        .await
        .unwrap();
    let by_role = run(&world, &["migrate"], &[("POSTGRES_URL", &url(&primary))]);
    assert!(by_role.status.success(), "{by_role:?}");
    for statement in [
        "ALTER ROLE sitewatch RESET default_transaction_read_only",
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ] {
        db.batch_execute(statement).await.unwrap();
    }
    let in_force =
        "SELECT FROM pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'";
    while db.query(in_force, &[]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = "its configuration has default_transaction_read_only = on";
    let by_server = run(&world, &["migrate"], &[("POSTGRES_URL", &url(&primary))]);
    assert_told(&by_server, 69, told);
}

#[actix_rt::test]
async fn with_migrate_never_only_the_command_changes_a_schema() {
    let world = World::new("migrate_never").await;
    world.create_topic(1).await;
    world.produce((0..100).map(|n| message("a", n).to_string().into_bytes()));
    let never = [("SITEWATCH__POSTGRES__MIGRATE", "never")];
    let settings = "postgres: { migrate: never, batch: { max_age: 50ms } }\n";
    let mut consumer = world.node("consumer", settings);
    let told = "schema is not there, and postgres.migrate is never: run `sitewatch-node migrate`";
    consumer.wait_for_log(told).await;
    assert_told(&run(&world, &["housekeep"], &never), 78, told);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(world.number(tables).await, 0);

    world.db.batch_execute(VERSION_8).await.unwrap();
    let told = "schema has version 8, this program needs 10, and postgres.migrate is never";
    assert_told(&run(&world, &["housekeep"], &never), 78, told);
    consumer
        .wait_for_log_times("PostgreSQL can't be used", 1)
        .await;
    assert!(consumer.runs());
    // The one that waits goes on by itself.
    assert!(run(&world, &["migrate"], &never).status.success());
    world.wait_for("rows", ROWS, 100).await;

    // A newer one that can be used is used, as is this one; what is missing from it is not made again.
    let newer = "INSERT INTO schema_version (version, usable_from) SELECT version + 1, version FROM schema_version WHERE version = 10";
    world.db.batch_execute(newer).await.unwrap();
    assert!(run(&world, &["housekeep"], &never).status.success());
    world
        .db
        .batch_execute("DELETE FROM schema_version WHERE version > 10; DROP TABLE kafka_gap")
        .await
        .unwrap();
    let told = "schema has been changed: kafka_gap: found no such table";
    assert_told(&run(&world, &["housekeep"], &never), 78, told);
    let gone = "SELECT count(*) FROM pg_tables WHERE tablename = 'kafka_gap'";
    assert_eq!(world.number(gone).await, 0);
    assert!(run(&world, &["migrate"], &never).status.success());
    assert_eq!(world.number(gone).await, 1);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
