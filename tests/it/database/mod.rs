//! PostgreSQL as it is in real life: changed by hand, locked, failed over, picky about who comes in.

mod access;
mod drift;
mod failover;
mod refused_rows;
mod roles;
mod waiting;

use std::{process::Command, time::Duration};

use tokio_postgres::Client;

use crate::{
    cluster::run,
    support::{Node, World, message},
};

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

fn make_roles(world: &World, consumer: &str, web: &str) {
    run(Command::new("psql")
        .args(["-v", &format!("consumer={consumer}")])
        .args(["-v", &format!("web={web}")])
        .args(["-qX", "-f"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/roles.sql"))
        .arg(&world.database_url));
}
