//! PgBouncer between the program and PostgreSQL: with a session for each connection all works; else it is recognised and named.

use std::process::Output;

use tokio_postgres::SimpleQueryMessage;

use crate::{
    pgbouncer::PgBouncer,
    support::{World, connect, message},
};

const ROWS: &str = "SELECT count(*) FROM check_result";
const TOLD: &str = "a pooler gives each transaction another session";

fn run(world: &World, url: &str, arguments: &[&str]) -> Output {
    let mut program = world.program(arguments);
    program.env("POSTGRES_URL", url).output().unwrap()
}

/// Asks something short, again and again, as other programs at the same pool do.
async fn others(url: &str) -> tokio::task::JoinHandle<()> {
    let client = connect(url).await;
    tokio::spawn(
        async move { while client.simple_query("SELECT pg_sleep(0.001)").await.is_ok() {} },
    )
}

#[actix_rt::test]
async fn sessions_that_change_with_each_transaction_are_named_and_left_alone() {
    let world = World::new("pooled").await;
    for (pool_mode, pool_size, busy) in [
        ("transaction", 1, 0),
        ("transaction", 2, 0),
        ("transaction", 2, 1),
        ("transaction", 20, 0),
        ("transaction", 20, 8),
        ("statement", 1, 0),
        ("statement", 20, 8),
    ] {
        let case = format!("{pool_mode}, {pool_size}, with {busy} others");
        for order in [0, 1] {
            let more = format!("server_round_robin = {order}");
            let pooler = PgBouncer::new(&world, pool_mode, pool_size, &more).await;
            let mut around = Vec::new();
            for _ in 0..busy {
                around.push(others(pooler.url()).await);
            }
            for command in [&["migrate"][..], &["dead-letter", "list"]] {
                let output = run(&world, pooler.url(), command);
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.code() == Some(78) && told.contains(TOLD),
                    "{case}: {told}\n{}",
                    pooler.log()
                );
                assert!(told.contains("pool_mode = session"), "{told}");
            }
            // Who gets such a session next finds it as it was.
            let next = connect(pooler.url()).await;
            let path = next.simple_query("SHOW search_path").await.unwrap();
            let SimpleQueryMessage::Row(path) = &path[1] else {
                panic!("{case}: {path:?}")
            };
            assert_eq!(path.get(0), Some("\"$user\", public"), "{case}");
            around.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(world.number(tables).await, 0);
}

#[actix_rt::test]
async fn a_consumer_says_so_and_goes_on_when_the_pooler_is_mended() {
    let world = World::new("pooled_consumer").await;
    world.create_topic(1).await;
    world.produce((0..100).map(|n| message("a", n).to_string().into_bytes()));
    let pooler = PgBouncer::new(&world, "transaction", 20, "").await;
    let port: u16 = pooler
        .url()
        .rsplit_once(':')
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let settings =
        "node: { log: { level: debug } }\npostgres: { writers: 1, batch: { max_age: 50ms } }\n";
    let mut consumer = world.node_with("consumer", settings, &[("POSTGRES_URL", pooler.url())]);
    consumer.wait_for_log(TOLD).await;
    consumer
        .wait_for_log("PostgreSQL still can't be used")
        .await;
    assert!(consumer.runs());
    drop(pooler);
    let _mended = PgBouncer::at(&world, port, "session", 20, "").await;
    world.wait_for("rows", ROWS, 100).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn a_session_for_each_connection_is_all_that_is_needed() {
    let world = World::new("session_pool").await;
    world.create_topic(1).await;
    let payloads = || (0..100).map(|n| message("a", n).to_string().into_bytes());
    let pooler = PgBouncer::new(&world, "session", 10, "").await;
    let migrated = run(&world, pooler.url(), &["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    // The same twice: also the way by the temporary table.
    world.produce(payloads());
    world.produce(payloads());
    let settings = "postgres: { writers: 1, batch: { max_age: 50ms } }\n";
    let mut consumer = world.node_with("consumer", settings, &[("POSTGRES_URL", pooler.url())]);
    world
        .wait_for(
            "messages",
            "SELECT coalesce(max(next), 0) FROM kafka_offset",
            200,
        )
        .await;
    assert_eq!(world.number(ROWS).await, 100);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    for command in [&["housekeep"][..], &["dead-letter", "list"], &["report"]] {
        let output = run(&world, pooler.url(), command);
        assert!(output.status.success(), "{output:?}");
    }
    // With a single session a command has it, and the look for a second one ends by itself.
    let single = PgBouncer::new(&world, "session", 1, "").await;
    let output = run(&world, single.url(), &["dead-letter", "list"]);
    assert!(output.status.success(), "{output:?}");
}
