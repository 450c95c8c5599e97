//! Which versions may run together (docs/operating.md has the table): messages, spools and schemas that another version of the
//! program wrote.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    support::{World, free_port, message},
    topic::{checks, read, stored},
};

/// The messages and the spool of earlier programs get older and older.
const ANY_AGE: &str = "postgres: { batch: { max_age: 20ms }, max_slot_age: 36500d }\n";

fn node(world: &World, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .args(arguments)
        .current_dir(world.folder.path())
        .env("POSTGRES_URL", &world.database_url)
        .env("KAFKA_SERVER", crate::support::required("KAFKA_SERVER"))
        .env("KAFKA_TOPIC", &world.topic)
        .env("SITEWATCH__POSTGRES__MAX_SLOT_AGE", "36500d")
        .output()
        .unwrap()
}

/// A spool that a producer of format 1 left when it was killed: two segments, of the first of which Kafka has eleven records of twelve.
fn spool_of_an_earlier_producer(folder: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool/format-1");
    fs::create_dir_all(folder).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
}

#[actix_rt::test]
async fn the_spool_of_an_earlier_producer_is_sent_and_stored() {
    let world = World::new("earlier_spool").await;
    world.create_topic(1).await;
    spool_of_an_earlier_producer(&world.folder.path().join("sitewatch-data/spool"));
    let status = node(&world, &["spool", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["results"], &status["damage"]),
        (&13.into(), &json!([])),
        "{status}"
    );
    let drained = node(&world, &["spool", "drain"]);
    assert!(drained.status.success(), "{drained:?}");
    let held = read(&world.topic, 1);
    assert_eq!(held.len(), 13, "what Kafka had is not sent again");
    let mut consumer = world.node("consumer", ANY_AGE);
    let ends = "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset";
    world.wait_for("all of it", ends, 13).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let stored = stored(&world.db).await;
    assert_eq!(stored, checks(&held));
    assert_eq!(stored.len(), 11);
    let announced = "SELECT count(*) FROM site_revision WHERE failure_threshold = 3";
    assert_eq!(world.number(announced).await, 2);
    let letters = "SELECT count(*) FROM dead_letter";
    assert_eq!(world.number(letters).await, 0);
}

/// All files of a folder with their bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        // Who has the folder writes its own number there.
        .filter(|(name, _)| name != "lock")
        .collect();
    files.sort();
    files
}

#[actix_rt::test]
async fn a_producer_refuses_the_spool_of_a_later_one_by_name_and_leaves_it_alone() {
    let world = World::new("later_spool").await;
    world.create_topic(1).await;
    let spool = world.folder.path().join("sitewatch-data/spool");
    spool_of_an_earlier_producer(&spool);
    let later = "00000000000000000002.spool2";
    fs::write(spool.join(later), b"records of another kind").unwrap();
    let before = files(&spool);
    let site = format!(
        "sites: [{{ name: a, url: 'http://127.0.0.1:{}/', interval: 1s }}]\n",
        free_port()
    );
    let mut producer = world.node("producer", &site);
    assert_eq!(producer.wait().code(), Some(78), "{}", producer.log());
    for told in [later, "format 2, this one reads 1", "spool.dir"] {
        assert!(producer.log().contains(told), "{}", producer.log());
    }
    for what in ["status", "drain"] {
        let refused = node(&world, &["spool", what]);
        assert!(!refused.status.success(), "{refused:?}");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains(later), "{told}");
    }
    assert!(files(&spool) == before, "the folder is another");
    assert!(read(&world.topic, 1).is_empty());
}

/// The first messages that there were of each kind: without the fields that later ones have.
#[actix_rt::test]
async fn messages_of_earlier_producers_are_stored() {
    let world = World::new("earlier_messages").await;
    world.create_topic(1).await;
    let check = json!({
        "v": 1, "site": "old", "url": "http://a/", "location": "here", "slot": "2026-01-02T03:04:05.000000Z", "lateness_us": 0,
        "outcome": "down", "error": "status_mismatch", "error_detail": "status 500", "status": 500, "total_us": 10, "attempts": 1,
        "config_hash": "0"
    });
    let announced = json!({
        "v": 1, "kind": "site", "site": "old", "url": "http://a/", "location": "here", "since": "2026-01-02T03:04:05.000000Z",
        "interval_us": 60_000_000, "phase_us": 5_000_000, "check_limit_us": 10_000_000, "config_hash": "0",
        "run": "2026-01-02T03:04:00.000000Z"
    });
    world.produce([announced, check].map(|told| told.to_string().into_bytes()));
    let mut consumer = world.node("consumer", ANY_AGE);
    let ends = "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset";
    world.wait_for("both", ends, 2).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(stored(&world.db).await, checks(&read(&world.topic, 1)));
    let sql = "SELECT count(*) FROM site_revision r JOIN site s USING (site_id)
                WHERE s.name = 'old' AND s.group_name IS NULL AND r.failure_threshold IS NULL AND r.interval_us = 60000000";
    assert_eq!(world.number(sql).await, 1);
}

/// What a later producer may write: fields that are new, words that are new, another version. The first are passed over; of the
/// others each is a letter of its own, to be replayed by the version that knows it.
#[actix_rt::test]
async fn messages_of_later_producers_are_stored_or_kept_whole() {
    let world = World::new("later_messages").await;
    world.create_topic(1).await;
    let with = |n: i64, changes: &[(&str, Value)]| {
        let mut told = message("a", n);
        for (field, value) in changes {
            told[*field] = value.clone();
        }
        told
    };
    let understood = [
        with(0, &[("weather", json!({ "sun": [1, null] }))]),
        with(
            1,
            &[
                ("outcome", "up".into()),
                (
                    "failed_attempts",
                    json!([{ "error": "solar_flare", "error_detail": "too bright", "reached": "orbit" }]),
                ),
            ],
        ),
        json!({
            "v": 1, "kind": "site", "site": "a", "url": "http://a/", "location": "test", "since": "2026-01-02T03:04:00.000000Z",
            "interval_us": 60_000_000, "phase_us": 0, "check_limit_us": 1, "config_hash": "0", "run": "2026-01-02T03:04:00.000000Z",
            "weather": "fine"
        }),
    ];
    let kept = [
        with(
            2,
            &[("outcome", "down".into()), ("error", "solar_flare".into())],
        ),
        with(3, &[("outcome", "dazzled".into())]),
        with(4, &[("v", 2.into())]),
        json!({ "v": 2, "shape": "another" }),
        with(5, &[("kind", "heartbeat".into())]),
    ];
    let all = understood.iter().chain(&kept);
    world.produce(all.map(|told| told.to_string().into_bytes()));
    let mut consumer = world.node("consumer", ANY_AGE);
    let ends = "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset";
    world.wait_for("all of it", ends, 8).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(world.number("SELECT count(*) FROM checks").await, 2);
    let announced = "SELECT count(*) FROM site_revision";
    assert_eq!(world.number(announced).await, 1);
    let letters = "SELECT reason, detail, payload FROM dead_letter ORDER BY kafka_offset";
    let letters = world.db.query(letters, &[]).await.unwrap();
    let payloads: Vec<Vec<u8>> = letters.iter().map(|row| row.get(2)).collect();
    let sent = kept.map(|told| told.to_string().into_bytes());
    assert_eq!(payloads, sent);
    for (letter, word) in letters.iter().zip([
        "solar_flare",
        "dazzled",
        "version 2",
        "version 2",
        "heartbeat",
    ]) {
        let (reason, detail): (&str, &str) = (letter.get(0), letter.get(1));
        assert_eq!(reason, "unknown_version", "{detail}");
        assert!(detail.contains(word), "{detail}");
    }
    let replayed = node(
        &world,
        &["dead-letter", "replay", "--reason", "unknown_version"],
    );
    assert!(replayed.status.success(), "{replayed:?}");
    let left = "SELECT count(*) FROM dead_letter WHERE reason = 'unknown_version'";
    assert_eq!(world.number(left).await, 5);
}

/// Commands read a newer schema if it says that this version may, and refuse another by name: what a column means may have changed.
#[actix_rt::test]
async fn commands_refuse_a_newer_schema_that_is_not_for_them() {
    let world = World::new("later_schema").await;
    let migrated = node(&world, &["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    let later = "INSERT INTO schema_version (version, usable_from) SELECT version + 1, version FROM schema_version";
    world.db.batch_execute(later).await.unwrap();
    let rules = world.folder.path().join("rules.yaml");
    fs::write(&rules, "failure_threshold: 2\n").unwrap();
    let commands: [&[&str]; 9] = [
        &["audit", "--since", "-1h"],
        &["report", "--from", "-1h"],
        &["export", "--format", "csv", "--from", "-1h"],
        &["rejudge", "--rules", "rules.yaml", "--from", "-1h"],
        &["maintenance", "list"],
        &["maintenance", "add", "deploy", "--for", "5m"],
        &["dead-letter", "list"],
        &["housekeep"],
        &["migrate"],
    ];
    for command in commands {
        let done = node(&world, command);
        assert_eq!(done.status.code(), Some(0), "{command:?}: {done:?}");
    }
    let not_for_us = "UPDATE schema_version SET usable_from = version";
    world.db.batch_execute(not_for_us).await.unwrap();
    for command in commands {
        let refused = node(&world, command);
        assert_eq!(refused.status.code(), Some(78), "{command:?}: {refused:?}");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            told.contains("version 11, this program knows 10: use a newer sitewatch-node"),
            "{command:?}: {told}"
        );
    }
    let windows = "SELECT count(*) FROM maintenance";
    assert_eq!(world.number(windows).await, 1, "nothing is written");
}

/// Taken for the name of a test it would choose none, and all would be well.
#[test]
fn a_mistyped_word_of_scripts_versions_is_a_usage_error() {
    let run = |word: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/versions");
        Command::new(script).arg(word).output().unwrap()
    };
    for word in ["oldst", "history::", "--newest"] {
        let output = run(word);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{word}: {told}");
        let (first, rest) = told.split_once('\n').unwrap();
        assert_eq!(
            first,
            format!("error: no versions '{word}': name oldest, newest or both")
        );
        assert!(rest.contains("usage: scripts/versions"), "{rest}");
    }
    assert!(run("--help").status.success());
}
