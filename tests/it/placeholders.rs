//! A slot with more than one message: the result of a check takes the place of a placeholder, whichever comes first, and results that say
//! different things are kept as a finding.

use serde_json::{Value, json};

use crate::support::{World, message};

const QUICK: &str = "postgres: { batch: { max_age: 50ms } }\n";

/// What the rows of a site say, in the order of their slots.
const ROWS: &str = "
    SELECT string_agg(concat_ws(' ', outcome, error, total_ms, detail), ', ' ORDER BY slot) FROM checks WHERE site = 'a'";

fn missed(n: i64) -> Value {
    with(
        n,
        json!({ "outcome": "unknown", "error": "missed", "error_detail": "the slot passed", "status": null, "total_us": null }),
    )
}

fn down(n: i64) -> Value {
    with(
        n,
        json!({ "outcome": "down", "error": "dns_error", "error_detail": "no such name", "status": null, "total_us": 7 }),
    )
}

/// `null` takes a field away.
fn with(n: i64, change: Value) -> Value {
    let mut message = message("a", n);
    let fields = message.as_object_mut().unwrap();
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => fields.remove(key),
            value => fields.insert(key.clone(), value.clone()),
        };
    }
    message
}

/// Sends these messages, each batch when the one before it is stored.
async fn store(world: &World, batches: &[&[Value]]) {
    for batch in batches {
        world.produce(batch.iter().map(|message| message.to_string().into_bytes()));
        world.wait_until_stored().await;
    }
}

async fn rows(world: &World) -> String {
    let row = world.db.query_one(ROWS, &[]).await.unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

#[actix_rt::test]
async fn the_result_of_a_check_replaces_a_placeholder_whichever_comes_first() {
    let world = World::new("placeholders").await;
    world.create_topic(1).await;
    let mut consumer = world.node("consumer", QUICK);
    let up = |n| message("a", n);
    let mut broken = missed(3);
    broken["error"] = "internal_error".into();
    store(
        &world,
        &[
            // Slots 0 to 3 are missed, and then checked; 4 and 5 the other way round; 6 is only missed, twice.
            &[missed(0), missed(1), missed(2), broken],
            &[up(0), down(1), up(2), down(3), up(4), down(5), missed(6)],
            &[missed(4), missed(5), missed(6), missed(0), missed(1)],
            // Both in one batch, beside what makes it take the slower way.
            &[
                up(7),
                missed(7),
                missed(8),
                down(8),
                up(0),
                missed(9),
                missed(9),
            ],
        ],
    )
    .await;
    let right = "up 1.234, down dns_error 0.007 no such name, up 1.234, down dns_error 0.007 no such name, up 1.234, \
                 down dns_error 0.007 no such name, unknown missed the slot passed, up 1.234, down dns_error 0.007 no such name, \
                 unknown missed the slot passed";
    assert_eq!(rows(&world).await, right);
    let details = "SELECT count(*) FROM check_detail";
    assert_eq!(
        world.number(details).await,
        6,
        "one of each row that has a detail"
    );
    assert_eq!(world.number("SELECT count(*) FROM check_conflict").await, 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// Rollups and incidents are of what stands in the end.
#[actix_rt::test]
async fn what_was_computed_of_a_placeholder_is_computed_again() {
    let world = World::new("placeholders_rolled").await;
    world.create_topic(1).await;
    let mut consumer = world.node("consumer", QUICK);
    let slots = 0..6;
    let all: Vec<_> = slots.clone().map(missed).collect();
    store(&world, &[&all]).await;
    let rolled = "SELECT coalesce(sum(unknown + 10 * down), 0)::int8 FROM rollup_hour";
    world.done(&["housekeep"]);
    assert_eq!(world.number(rolled).await, 6);
    assert_eq!(world.number("SELECT count(*) FROM incidents").await, 0);
    let all: Vec<_> = slots.map(down).collect();
    store(&world, &[&all]).await;
    world.done(&["housekeep"]);
    assert_eq!(world.number(rolled).await, 60);
    let incidents =
        "SELECT count(*) FROM incidents WHERE site = 'a' AND error = 'dns_error' AND open";
    assert_eq!(world.number(incidents).await, 1);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn results_of_one_slot_that_differ_are_told() {
    let world = World::new("conflicts").await;
    world.create_topic(1).await;
    let mut consumer = world.node("consumer", QUICK);
    let slow = |n| with(n, json!({ "total_us": 5_000_000 }));
    let first: Vec<_> = (0..5).map(|n| message("a", n)).collect();
    store(
        &world,
        &[
            &first,
            // The same once more is no finding, and neither is a placeholder.
            &[message("a", 0), missed(1)],
            &[down(1), slow(2), slow(2)],
            // Two within a batch.
            &[message("a", 5), down(5), message("a", 0)],
        ],
    )
    .await;
    let rows = "SELECT count(*) FROM checks WHERE outcome = 'up' AND total_ms = 1.234";
    assert_eq!(world.number(rows).await, 6, "the first one stands");
    let noted = "SELECT sum(number)::int8 FROM check_conflict";
    assert_eq!(world.number(noted).await, 4);
    consumer
        .wait_for_log("results dropped, since their slots have others")
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());

    let told = world
        .program(&["audit", "--since", "-24h"])
        .output()
        .unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("4 results dropped beside others of their slots that say something else: a @ test, first"), "{text}");
    assert!(text.contains(r#"dropped {"error": "dns_error""#), "{text}");
    let told = world
        .program(&["audit", "--since", "-24h", "--json"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["conflicts"][0]["results"], 4, "{told}");
    assert_eq!(told["conflicts"][0]["stored"]["outcome"], "up", "{told}");
}
