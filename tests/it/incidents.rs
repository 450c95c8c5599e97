//! Incidents: opened and closed once, whatever is killed, comes late, comes twice, or by another way. Real Kafka, real PostgreSQL.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::support::{Node, World};
use sitewatch_actors::model::Slot;

/// Incidents as the checks make them, worked out in another way.
const WORKED_OUT: &str = include_str!("../support/wrong_incidents.sql");

const WRONG: &str = "
    WITH should AS (SELECT * FROM pg_temp.incidents_of_checks()),
         stored AS (SELECT site_id, location_id, began, opened, ended, closed, flaps, error FROM incident)
    SELECT count(*) FROM ((TABLE should EXCEPT TABLE stored) UNION ALL (TABLE stored EXCEPT TABLE should)) AS d";

const INCIDENTS: &str = "SELECT count(*) FROM incident";
const ROWS: &str = "SELECT count(*) FROM check_result";
const LEFT: &str =
    "SELECT (SELECT count(*) FROM incident_late) + (SELECT count(*) FROM incident_again)";

/// With a group that misses a consumer that was killed soon.
const QUICK: &str =
    "postgres: { batch: { max_age: 20ms } }\nkafka: { options: { session.timeout.ms: 6000 } }\n";

/// The start of the tests' checks: an hour and more ago, a whole minute.
fn start() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (i64::try_from(now.as_secs()).unwrap() / 60 - 400) * 60_000_000
}

/// A check a minute: `u`p, de`g`raded, `d`own, `n`ot known.
fn check(site: &str, location: &str, start: i64, minute: usize, letter: char) -> (String, Vec<u8>) {
    let slot = Slot::from_micros(start + minute as i64 * 60_000_000);
    let (outcome, error) = match letter {
        'u' => ("up", None),
        'g' => ("degraded", Some("too_slow")),
        'd' => ("down", Some("connect_refused")),
        _ => ("unknown", Some("internal_error")),
    };
    let mut message = serde_json::json!({
        "v": 1, "site": site, "url": "http://a/", "location": location, "slot": slot, "lateness_us": 10, "outcome": outcome,
        "total_us": 1234, "attempts": 1, "config_hash": "0000000000000000"
    });
    if let Some(error) = error {
        message["error"] = error.into();
        message["error_detail"] = format!("in minute {minute}").into();
    }
    (site.to_owned(), message.to_string().into_bytes())
}

/// The checks of `letters` from `minute` on.
fn checks(site: &str, start: i64, minute: usize, letters: &str) -> Vec<(String, Vec<u8>)> {
    let numbered = letters.chars().enumerate();
    numbered
        .map(|(n, letter)| check(site, "here", start, minute + n, letter))
        .collect()
}

fn housekeep(world: &World) {
    let done = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .arg("housekeep")
        .env("POSTGRES_URL", &world.database_url)
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// All that was noted is judged, and the incidents are those that the checks make.
async fn assert_right(world: &World, what: &str) {
    housekeep(world);
    assert_eq!(world.number(LEFT).await, 0, "{what}");
    world.db.batch_execute(WORKED_OUT).await.unwrap();
    let wrong = world.db.query_one(WRONG, &[]).await.unwrap();
    assert_eq!(wrong.get::<_, i64>(0), 0, "{what}\n{}", shown(world).await);
}

async fn shown(world: &World) -> String {
    let lines = "
        SELECT string_agg(line, E'\\n') FROM (
            SELECT 'should ' || t::text AS line FROM pg_temp.incidents_of_checks() AS t
            UNION ALL
            SELECT 'stored ' || i::text FROM incident AS i
            UNION ALL
            SELECT format('%s %s', site_id, string_agg(substr('ugdn', outcome + 1, 1), '' ORDER BY slot)) FROM check_result GROUP BY site_id
        ) AS lines";
    let row = world.db.query_one(lines, &[]).await.unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

/// Minutes from the start: began, opened, ended, closed; flaps; error and detail.
async fn incidents(world: &World, start: i64) -> Vec<String> {
    let minute = |column| {
        format!(
            "((extract(epoch FROM {column}) - {}) / 60)::int8",
            start / 1_000_000
        )
    };
    let sql = format!(
        "SELECT concat_ws(' ', site, {}, {}, {}, {}, 'x' || flaps, error, detail) FROM incidents ORDER BY site, began",
        minute("began"),
        minute("opened"),
        minute("ended"),
        minute("closed"),
    );
    world
        .query(&sql)
        .await
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn stored(world: &World, rows: i64) {
    world.wait_for("rows", ROWS, rows).await;
}

fn consumer(world: &World) -> Node {
    world.node("consumer", QUICK)
}

#[actix_rt::test]
async fn an_outage_is_one_incident_with_its_cause_and_the_log_tells_it() {
    let world = World::new("incident").await;
    world.create_topic(3).await;
    let start = start();
    let mut node = consumer(&world);
    world.produce_keyed(checks("a", start, 0, "uuuudd"));
    world.produce_keyed(checks("calm", start, 0, "udduddudgu"));
    stored(&world, 16).await;
    assert_eq!(world.number(INCIDENTS).await, 0, "{}", node.log());

    // The third failure is judged by one who has not seen the first two.
    node.kill();
    node = consumer(&world);
    world.produce_keyed(checks("a", start, 6, "dnd"));
    stored(&world, 19).await;
    assert_eq!(
        incidents(&world, start).await,
        ["a 4 6 x0 connect_refused in minute 4"]
    );
    node.wait_for_log("incident opened").await;
    assert!(node.log().contains("in minute 4"), "{}", node.log());

    // As soon as the checks are there the incident is closed: both are written in one transaction.
    node.kill();
    node = consumer(&world);
    world.produce_keyed(checks("a", start, 9, "gnu"));
    stored(&world, 22).await;
    assert_eq!(
        incidents(&world, start).await,
        ["a 4 6 9 11 x0 connect_refused in minute 4"]
    );
    node.wait_for_log("incident closed").await;

    // It fails again so soon that it is the same incident.
    world.produce_keyed(checks("a", start, 12, "ddduu"));
    stored(&world, 27).await;
    assert_eq!(
        incidents(&world, start).await,
        ["a 4 6 15 16 x1 connect_refused in minute 4"]
    );
    node.wait_for_log("the site is flapping").await;
    assert_right(&world, "at the end").await;
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    assert!(!node.log().contains("judged again"), "{}", node.log());
}

#[actix_rt::test]
async fn each_site_is_judged_by_the_rules_that_it_has_announced() {
    let world = World::new("incident_rules").await;
    world.create_topic(1).await;
    let start = start();
    let rules = |minute: i64, failures: u8| {
        let since = Slot::from_micros(start + minute * 60_000_000);
        let message = serde_json::json!({
            "v": 1, "kind": "site", "site": "a", "url": "http://a/", "location": "here", "since": since, "interval_us": 60_000_000,
            "phase_us": 0, "check_limit_us": 1, "config_hash": "x", "run": since, "failure_threshold": failures,
            "success_threshold": 1, "flap_window_us": 0
        });
        ("a".to_owned(), message.to_string().into_bytes())
    };
    let mut node = consumer(&world);
    world.produce_keyed([rules(0, 1)]);
    world.produce_keyed(checks("a", start, 0, "uduu"));
    stored(&world, 4).await;
    assert_eq!(
        incidents(&world, start).await,
        ["a 1 1 2 2 x0 connect_refused in minute 1"]
    );
    // A reload: from the sixth minute on two failures are needed. A consumer that starts later knows both rules.
    world.produce_keyed([rules(6, 2)]);
    world.produce_keyed(checks("a", start, 4, "uuduudduu"));
    stored(&world, 13).await;
    node.kill();
    let _again = consumer(&world);
    world.produce_keyed(checks("a", start, 13, "duddu"));
    stored(&world, 18).await;
    assert_eq!(incidents(&world, start).await.len(), 3);
    assert_right(&world, "rules").await;
}

#[actix_rt::test]
async fn what_comes_late_or_twice_makes_the_incidents_that_it_would_have_made_in_time() {
    let world = World::new("incident_late").await;
    world.create_topic(1).await;
    let start = start();
    let mut node = consumer(&world);
    let all = checks("a", start, 0, "uuddduuuuuuuudddddduu");
    // The first outage is told last; of the second one the first half comes after its end, and twice.
    world.produce_keyed(all[8..13].to_vec());
    world.produce_keyed(all[16..].to_vec());
    world.produce_keyed(all[13..16].to_vec());
    world.produce_keyed(all[13..19].to_vec());
    world.produce_keyed(all[..8].to_vec());
    stored(&world, 21).await;
    assert_right(&world, "late").await;
    assert_eq!(
        incidents(&world, start).await,
        [
            "a 2 4 5 6 x0 connect_refused in minute 2",
            "a 13 15 19 20 x0 connect_refused in minute 13"
        ]
    );
    // One success in time would have parted the second one: a dead letter tells it, stored after all.
    let (_, payload) = &checks("a", start, 21, "d")[0];
    let insert = "INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, key, payload)
                  SELECT $1, 0, n, 'unknown_version', '', 'a', $2::bytea FROM generate_series(1, 2) AS n";
    world
        .db
        .execute(insert, &[&world.topic, payload])
        .await
        .unwrap();
    let replay = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .args(["dead-letter", "replay", "--all"])
        .env("POSTGRES_URL", &world.database_url)
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    assert!(replay.status.success(), "{replay:?}");
    // The consumer hears of it: two more failures and there is an incident that goes on.
    world.produce_keyed(checks("a", start, 22, "dd"));
    stored(&world, 24).await;
    assert_right(&world, "a dead letter").await;
    assert_eq!(
        incidents(&world, start).await[1],
        "a 13 15 x1 connect_refused in minute 13"
    );
    // While a site is down, one batch brings what is late, and then what is later still.
    world.produce_keyed(checks("b", start, 200, "dddd"));
    stored(&world, 28).await;
    let late = checks("b", start, 190, "u").into_iter();
    world.produce_keyed(
        late.chain(checks("b", start, 10, "ddduu"))
            .collect::<Vec<_>>(),
    );
    stored(&world, 34).await;
    assert_right(&world, "late twice").await;
    let of_b = "SELECT count(*) FROM incidents WHERE site = 'b'";
    assert_eq!(world.number(of_b).await, 2, "{}", shown(&world).await);
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}

/// Two consumers that come and go, and die; checks in any order, some twice; a topic that gets more partitions.
#[actix_rt::test]
async fn whoever_dies_and_in_whatever_order_checks_come_the_incidents_are_those_of_the_checks() {
    let world = World::new("incident_chaos").await;
    world.create_topic(2).await;
    let start = start();
    fastrand::seed(6);
    let sites: Vec<_> = (0..12).map(|n| format!("site-{n}")).collect();
    let failing = [(
        "FAILPOINTS",
        "writer::before_commit=5%panic;housekeeping::judge=20%panic",
    )];
    let settings = "postgres: { writers: 2, batch: { max_age: 20ms, max_rows: 37 } }
kafka: { options: { session.timeout.ms: 6000, topic.metadata.refresh.interval.ms: 1000 } }";
    let mut nodes: Vec<Node> = (0..2)
        .map(|_| world.node_with("consumer", settings, &failing))
        .collect();
    let (mut minute, mut sent) = (0, 0);
    for round in 0..12 {
        let mut batch = Vec::new();
        for (n, site) in sites.iter().enumerate() {
            let well = fastrand::bool();
            for minute in minute..minute + 20 {
                let usual = if well { 'u' } else { 'd' };
                let letter = match fastrand::u8(..10) {
                    0 => 'n',
                    1 => 'g',
                    2 | 3 => {
                        if well {
                            'd'
                        } else {
                            'u'
                        }
                    }
                    _ => usual,
                };
                batch.push(check(
                    site,
                    if n % 3 == 0 { "there" } else { "here" },
                    start,
                    minute,
                    letter,
                ));
            }
        }
        sent += batch.len() as i64;
        // In most rounds a part comes later, and a part twice.
        let late = match round % 3 {
            0 => Vec::new(),
            _ => (0..40)
                .map(|_| batch.swap_remove(fastrand::usize(..batch.len())))
                .collect(),
        };
        let twice: Vec<_> = batch
            .iter()
            .filter(|_| fastrand::u8(..10) == 0)
            .cloned()
            .collect();
        world.produce_keyed(batch);
        world.produce_keyed(twice);
        if round == 5 {
            world.grow_topic(5).await;
        }
        if round % 2 == 1 {
            let index = fastrand::usize(..nodes.len());
            nodes[index].kill();
            nodes[index] = world.node_with("consumer", settings, &failing);
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        world.produce_keyed(late);
        minute += 20;
    }
    stored(&world, sent).await;
    for node in &mut nodes {
        node.kill();
    }
    assert_right(&world, "chaos").await;
    assert!(world.number(INCIDENTS).await > 50);
}

/// An earlier program, which knows nothing of incidents, stores for a while.
#[actix_rt::test]
async fn what_an_earlier_program_has_stored_is_judged_by_the_next_one() {
    let world = World::new("incident_versions").await;
    world.create_topic(1).await;
    let start = start();
    let mut node = consumer(&world);
    world.produce_keyed(checks("a", start, 0, "uuu"));
    stored(&world, 3).await;
    assert_eq!(node.stop(), Some(0));
    // It stores what is in the topic next, and moves on.
    world.produce_keyed(checks("a", start, 3, "ddddu"));
    let as_it_did = format!(
        "INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
         SELECT to_timestamp({} + 60 * n), 1, 1, 1234, 0, CASE WHEN n < 7 THEN 2 ELSE 0 END, CASE WHEN n < 7 THEN 3 ELSE 0 END
           FROM generate_series(3, 7) AS n;
         UPDATE kafka_offset SET next = next + 5",
        start / 1_000_000
    );
    world.db.batch_execute(&as_it_did).await.unwrap();
    let mut node = consumer(&world);
    world.produce_keyed(checks("a", start, 8, "uu"));
    stored(&world, 10).await;
    assert_right(&world, "versions").await;
    assert_eq!(
        incidents(&world, start).await,
        ["a 3 5 7 8 x0 connect_refused"]
    );
    assert_eq!(node.stop(), Some(0), "{}", node.log());
}
