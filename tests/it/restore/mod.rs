//! Backups of the database, restored: what docs/operating.md says of them, done with PostgreSQL's own programs.

mod base_backup;
mod dump;
mod in_place;
mod roles;
mod topic;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use sitewatch_actors::model::Slot;
use tokio_postgres::Client;

use crate::{
    cluster::{bin, run},
    support::{self, World},
};

const QUICK: &str =
    "postgres: { batch: { max_age: 20ms } }\nkafka: { options: { session.timeout.ms: 6000 } }\n";

const WRONG_ROLLUPS: &str = include_str!("../../support/wrong_rollups.sql");
const WORKED_OUT: &str = include_str!("../../support/wrong_incidents.sql");
const WRONG_INCIDENTS: &str = "
    WITH should AS (SELECT * FROM pg_temp.incidents_of_checks()),
         stored AS (SELECT site_id, location_id, began, opened, ended, closed, flaps, error FROM incident)
    SELECT count(*) FROM ((TABLE should EXCEPT TABLE stored) UNION ALL (TABLE stored EXCEPT TABLE should)) AS d";

const MINUTE: i64 = 60_000_000;

/// When the tests' checks begin: a whole hour, some hours ago.
fn start() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (i64::try_from(now.as_secs()).unwrap() / 3600 - 4) * 60 * MINUTE
}

fn instant(micros: i64) -> String {
    Slot::from_micros(micros).to_string()
}

/// Says that the site is due each minute from the start on.
fn announcement(site: &str, start: i64) -> (String, Vec<u8>) {
    let told = serde_json::json!({
        "v": 1, "kind": "site", "site": site, "url": "http://a/", "location": "here", "since": instant(start),
        "interval_us": MINUTE, "phase_us": 0, "check_limit_us": 10_000_000, "config_hash": "0", "run": instant(start - 1),
        "failure_threshold": 3, "success_threshold": 2, "flap_window_us": 5 * MINUTE
    });
    (site.to_owned(), told.to_string().into_bytes())
}

/// The checks of these minutes: five failures in each twenty.
fn checks(site: &str, start: i64, minutes: std::ops::Range<i64>) -> Vec<(String, Vec<u8>)> {
    let check = |minute: i64| {
        let mut told = serde_json::json!({
            "v": 1, "site": site, "url": "http://a/", "location": "here", "slot": instant(start + minute * MINUTE),
            "lateness_us": 1000 * minute, "outcome": "up", "status": 200, "total_us": 1000 + minute, "attempts": 1, "config_hash": "0"
        });
        if minute % 20 < 5 {
            told["outcome"] = "down".into();
            told["error"] = "status_mismatch".into();
            told["status"] = 500.into();
            told["error_detail"] = format!("in minute {minute}").into();
        }
        (site.to_owned(), told.to_string().into_bytes())
    };
    minutes.map(check).collect()
}

fn node(folder: &Path, url: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .args(arguments)
        .current_dir(folder)
        .env("POSTGRES_URL", url)
        .output()
        .unwrap()
}

/// The exit code of `audit` and what it says.
fn audit(world: &World, url: &str, since: i64, until: i64) -> (Option<i32>, Value) {
    let (since, until) = (instant(since), instant(until));
    let arguments = [
        "audit", "--json", "--grace", "0s", "--since", &since, "--until", &until,
    ];
    let output = node(world.folder.path(), url, &arguments);
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|problem| panic!("{problem}: {output:?}"));
    (output.status.code(), told)
}

/// After housekeeping the incidents must be those that the checks make.
async fn assert_judged(world: &World, url: &str) {
    let kept = node(world.folder.path(), url, &["housekeep"]);
    assert!(kept.status.success(), "{kept:?}");
    let db = support::connect(url).await;
    db.batch_execute(WORKED_OUT).await.unwrap();
    assert_eq!(number(&db, WRONG_INCIDENTS).await, 0);
    assert!(number(&db, "SELECT count(*) FROM incident").await > 0);
}

/// The same, and the rollups what the checks say.
async fn assert_computed(world: &World, url: &str) {
    assert_judged(world, url).await;
    let db = support::connect(url).await;
    assert_eq!(number(&db, WRONG_ROLLUPS).await, 0);
    let counted = "SELECT coalesce(sum(up + down), 0)::int8 FROM rollup_hour";
    assert!(number(&db, counted).await > 0);
}

async fn number(db: &Client, sql: &str) -> i64 {
    db.query_one(sql, &[]).await.unwrap().get(0)
}

/// A dump in pg_dump's own format.
fn dump(world: &World, url: &str) -> PathBuf {
    dump_but(world, url, &[])
}

fn dump_but(world: &World, url: &str, less: &[&str]) -> PathBuf {
    let file = world.folder.path().join("sitewatch.dump");
    let mut dump = Command::new(bin().join("pg_dump"));
    let dump = dump.args(less).arg("--format=custom").arg("--file");
    run(dump.arg(&file).arg(url));
    file
}

fn restore(file: &Path, url: &str, more: &[&str]) {
    let mut restore = Command::new(bin().join("pg_restore"));
    run(restore
        .args(["--exit-on-error", "--dbname", url])
        .args(more)
        .arg(file));
}

/// Another database on the same server, empty; its URL.
async fn beside(world: &World) -> String {
    let name = format!("{}_restored", world.topic);
    let create = format!("CREATE DATABASE {name}");
    world.db.batch_execute(&create).await.unwrap();
    let server = world.database_url.rsplit_once('/').unwrap().0;
    format!("{server}/{name}")
}
