//! Dead letters as a tool: looked at, stored after all, thrown away; also when it is killed and when two do it at once.

use std::{
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use crate::support::{PATIENCE, World, message};

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"));
    command
        .arg("dead-letter")
        .args(arguments)
        .current_dir(world.folder.path())
        .env("POSTGRES_URL", &world.database_url);
    command
}

fn run(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    told(command(world, arguments).output().unwrap())
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn prepared(name: &str) -> World {
    let world = World::new(name).await;
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"));
    let migrated = migrate
        .arg("migrate")
        .current_dir(world.folder.path())
        .env("POSTGRES_URL", &world.database_url)
        .output();
    assert!(migrated.unwrap().status.success());
    world
}

async fn set_aside(world: &World, reason: &str, payload: &[u8]) -> i64 {
    let insert =
        "INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, key, payload)
                  VALUES ('t', 0, 7, $1, 'why', 'key', $2) RETURNING dead_letter_id";
    world
        .db
        .query_one(insert, &[&reason, &payload])
        .await
        .unwrap()
        .get(0)
}

async fn checks(world: &World, count: i64) {
    for n in 0..count {
        set_aside(
            world,
            "unknown_version",
            message("a", n).to_string().as_bytes(),
        )
        .await;
    }
}

const LETTERS: &str = "SELECT count(*) FROM dead_letter";
const ROWS: &str = "SELECT count(*) FROM check_result";

#[actix_rt::test]
async fn what_can_be_stored_by_now_is_stored_and_the_rest_stays_with_its_reason() {
    let world = prepared("letters").await;
    assert_eq!(run(&world, &["list"]).1, "no dead letters\n");
    checks(&world, 3).await;
    // The same check once more, nonsense, one of long ago, and a revision of a site.
    set_aside(
        &world,
        "unknown_version",
        message("a", 1).to_string().as_bytes(),
    )
    .await;
    let nonsense = set_aside(&world, "malformed", b"\x1b[2J{not json").await;
    let mut old = message("a", 9);
    old["slot"] = "2020-01-01T00:00:00.000000Z".into();
    let old = set_aside(&world, "absurd_slot", old.to_string().as_bytes()).await;
    let revision = serde_json::json!({
        "v": 1, "kind": "site", "site": "a", "url": "http://a/", "location": "test", "since": "2026-01-01T00:00:00.000000Z",
        "interval_us": 60_000_000, "phase_us": 0, "check_limit_us": 1, "config_hash": "x", "run": "2026-01-01T00:00:00.000000Z"
    });
    set_aside(&world, "unknown_version", revision.to_string().as_bytes()).await;

    let (code, listed, _) = run(&world, &["list", "--reason", "malformed"]);
    assert!(code == Some(0) && listed.lines().count() == 2, "{listed}");
    let (_, shown, _) = run(&world, &["show", &nonsense.to_string()]);
    assert!(
        shown.contains("1b 5b 32 4a") && !shown.contains('\x1b'),
        "{shown}"
    );

    let (_, dry, _) = run(&world, &["replay", "--all", "--dry-run"]);
    assert!(
        dry.contains("could be stored: 4 checks, 1 revisions"),
        "{dry}"
    );
    assert_eq!(
        (world.number(LETTERS).await, world.number(ROWS).await),
        (7, 0)
    );

    let (code, replayed, problems) = run(&world, &["replay", "--all"]);
    assert_eq!(code, Some(0), "{problems}");
    assert!(
        replayed.contains("stored: 3 checks and 1 revisions of sites; 1 checks were there already"),
        "{replayed}"
    );
    assert!(
        replayed.contains("malformed: ") && replayed.contains("absurd_slot: slot 2020"),
        "{replayed}"
    );
    assert_eq!(
        (world.number(LETTERS).await, world.number(ROWS).await),
        (2, 3)
    );
    assert_eq!(world.number("SELECT count(*) FROM site_revision").await, 1);

    let (_, replayed, _) = run(
        &world,
        &["replay", &old.to_string(), "--max-slot-age", "100000d"],
    );
    assert!(replayed.contains("stored: 1 checks"), "{replayed}");

    let (code, _, problems) = run(&world, &["discard", "--all"]);
    assert!(
        code == Some(64) && problems.contains("1 dead letters for good"),
        "{problems}"
    );
    let (code, _, problems) = run(&world, &["discard", &nonsense.to_string(), "4711"]);
    assert!(
        code == Some(64) && problems.contains("number 4711"),
        "{problems}"
    );
    assert_eq!(world.number(LETTERS).await, 1);
    let (_, discarded, _) = run(&world, &["discard", &nonsense.to_string()]);
    assert_eq!(
        (discarded.as_str(), world.number(LETTERS).await),
        ("1 dead letters discarded\n", 0)
    );
}

#[actix_rt::test]
async fn what_the_database_refuses_is_set_aside_anew_and_its_neighbours_are_stored() {
    let world = prepared("letters_refused").await;
    world
        .db
        .batch_execute("ALTER TABLE check_result ADD CONSTRAINT no_teapots CHECK (status <> 418)")
        .await
        .unwrap();
    checks(&world, 5).await;
    let mut pot = message("a", 50);
    pot["status"] = 418.into();
    set_aside(&world, "unknown_version", pot.to_string().as_bytes()).await;
    let (code, replayed, _) = run(&world, &["replay", "--reason", "unknown_version"]);
    assert!(
        code == Some(0) && replayed.contains("refused by the database: 1"),
        "{replayed}"
    );
    assert_eq!(world.number(ROWS).await, 5);
    assert_eq!(world.number("SELECT count(*) FROM dead_letter WHERE reason = 'refused' AND detail LIKE '%no_teapots%'").await, 1);
}

#[cfg(feature = "failpoints")]
#[actix_rt::test]
async fn killed_before_the_commit_nothing_has_happened() {
    let world = prepared("letters_killed").await;
    checks(&world, 10).await;
    let mut replay: Child = command(&world, &["replay", "--all"])
        .env("FAILPOINTS", "writer::before_commit=sleep(60000)")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let at_the_commit = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND state = 'idle in transaction' AND query LIKE 'INSERT INTO%' OR state = 'idle in transaction' AND query LIKE 'COPY%'";
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.number(at_the_commit).await == 0 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    replay.kill().unwrap();
    replay.wait().unwrap();
    assert_eq!(
        (world.number(LETTERS).await, world.number(ROWS).await),
        (10, 0)
    );
    let (_, replayed, _) = run(&world, &["replay", "--all"]);
    assert!(replayed.contains("stored: 10 checks"), "{replayed}");
    assert_eq!(
        (world.number(LETTERS).await, world.number(ROWS).await),
        (0, 10)
    );
}

#[actix_rt::test]
async fn two_replays_at_once_store_each_letter_once() {
    let world = prepared("letters_two").await;
    checks(&world, 700).await;
    let slowly = |_| {
        command(&world, &["replay", "--all"])
            .env("FAILPOINTS", "writer::before_commit=sleep(100)")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = [0, 1].map(slowly);
    let mut stored = 0;
    for replay in both {
        let (code, text, problems) = told(replay.wait_with_output().unwrap());
        assert_eq!(code, Some(0), "{problems}");
        assert!(text.contains("; 0 checks were there already"), "{text}");
        stored += text["stored: ".len()..]
            .split(' ')
            .next()
            .unwrap()
            .parse::<i64>()
            .unwrap();
    }
    assert_eq!(
        (
            stored,
            world.number(ROWS).await,
            world.number(LETTERS).await
        ),
        (700, 700, 0)
    );
}
