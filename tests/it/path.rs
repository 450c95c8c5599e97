//! The whole path: sites → producer → Kafka → consumer → PostgreSQL, as processes on real services.

use std::fs;

use crate::support::{Web, World, connect, message};

fn sites(web: &Web, list: &[(&str, &str, &str)]) -> String {
    let mut text =
        "defaults: { interval: 1s, timeout: 800ms, allow_private: true }\nsites:\n".to_owned();
    for (name, path, more) in list {
        let url = if path.starts_with('/') {
            web.url(path)
        } else {
            (*path).to_owned()
        };
        text += &format!("  - {{ name: '{name}', url: '{url}', {more} }}\n");
    }
    text
}

#[actix_rt::test]
async fn every_kind_of_site_ends_in_its_row_and_every_slot_is_there_once() {
    let (world, web) = (World::new("kinds").await, Web::start());
    world.create_topic(3).await;
    let settings = sites(
        &web,
        &[
            ("up", "/up", ""),
            ("post", "/up", "method: POST, body: {a: 1}"),
            ("moved", "/moved", ""),
            ("right text", "/text", "body_matches: 'all is w.ll'"),
            ("status", "/500", ""),
            ("expected", "/500", "expected_status: [200, 500]"),
            ("slow", "/slow", ""),
            ("overruns", "/slow", "timeout: 2500ms"),
            ("reset", "/reset", ""),
            ("refused", "http://127.0.0.1:1/", ""),
            ("wrong text", "/text", "body_matches: 'nowhere'"),
            ("garbage", "/garbage", ""),
            ("stalls", "/stalls", ""),
            ("large", "/large", "max_body_bytes: 5000"),
            ("loop", "/redirects", ""),
            ("nowhere", "http://no.such.host.invalid/", ""),
        ],
    );
    let mut consumer = world.node("consumer", "");
    let mut producer = world.node("producer", &settings);
    world
        .wait_for(
            "rows of each site",
            "SELECT min(n)::int8 FROM (SELECT count(*) AS n FROM checks GROUP BY site
        UNION ALL SELECT 0 WHERE (SELECT count(DISTINCT site) FROM checks) < 16) AS s",
            5,
        )
        .await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    let produced = producer.log();
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());

    let rows = world
        .query(
            "SELECT DISTINCT site, outcome, coalesce(error, ''), status::int4 FROM checks
        WHERE error IS DISTINCT FROM 'missed' ORDER BY site",
        )
        .await;
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.get::<_, String>(0),
                row.get::<_, String>(1),
                row.get::<_, String>(2),
                row.get::<_, Option<i32>>(3),
            )
        })
        .collect();
    let expected = [
        ("expected", "up", "", Some(500)),
        ("garbage", "down", "protocol_error", None),
        ("large", "down", "body_too_large", Some(200)),
        ("loop", "down", "redirect_error", Some(302)),
        ("moved", "up", "", Some(200)),
        ("nowhere", "down", "dns_error", None),
        ("overruns", "down", "ttfb_timeout", None),
        ("post", "up", "", Some(200)),
        ("refused", "down", "connect_refused", None),
        ("reset", "down", "connection_reset", None),
        ("right text", "up", "", Some(200)),
        ("slow", "down", "ttfb_timeout", None),
        ("stalls", "down", "body_timeout", Some(200)),
        ("status", "down", "status_mismatch", Some(500)),
        ("up", "up", "", Some(200)),
        ("wrong text", "down", "body_mismatch", Some(200)),
    ];
    let expected: Vec<_> = expected
        .map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d))
        .into();
    assert_eq!(found, expected, "{produced}");
    world.assert_complete(1.0).await;
    assert!(
        world
            .number("SELECT count(*) FROM checks WHERE site = 'overruns' AND error = 'missed'")
            .await
            > 0
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM checks WHERE site <> 'overruns' AND error = 'missed'")
            .await,
        0
    );
    let slowest = world
        .query("SELECT max(total_ms)::float8 FROM checks WHERE site = 'stalls'")
        .await;
    assert!(
        slowest[0].get::<_, f64>(0) < 1000.0,
        "the timeout bounds the body too"
    );
}

#[actix_rt::test]
async fn a_reload_changes_only_what_has_changed() {
    let (world, web) = (World::new("reload").await, Web::start());
    world.create_topic(1).await;
    let _consumer = world.node("consumer", "");
    let mut producer = world.node(
        "producer",
        &sites(
            &web,
            &[
                ("same", "/up", ""),
                ("changed", "/up", ""),
                ("gone", "/up", ""),
            ],
        ),
    );
    let of = |site: &str| format!("SELECT count(*) FROM checks WHERE site = '{site}'");
    world.wait_for("rows before", &of("changed"), 2).await;

    fs::write(
        &producer.file,
        sites(
            &web,
            &[
                ("same", "/up", ""),
                ("changed", "/500", ""),
                ("new", "/up", ""),
            ],
        ),
    )
    .unwrap();
    producer.signal("HUP");
    world.wait_for("rows of the new site", &of("new"), 3).await;
    world
        .wait_for(
            "rows of the change",
            "SELECT count(*) FROM checks WHERE site = 'changed' AND status = 500",
            2,
        )
        .await;
    let gone = world.number(&of("gone")).await;
    assert!(
        producer.log().contains("started: 1") && producer.log().contains("unchanged: 1"),
        "{}",
        producer.log()
    );

    fs::write(
        &producer.file,
        "sites: [{ url: 'ftp://wrong/', intervall: 5 }]",
    )
    .unwrap();
    producer.signal("HUP");
    producer.wait_for_log("nothing has changed").await;
    world
        .wait_for("rows after the invalid file", &of("new"), 6)
        .await;
    assert_eq!(world.number(&of("gone")).await, gone);
    assert_eq!(producer.stop(), Some(0));
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn bad_messages_are_set_aside_and_their_neighbours_stored() {
    let world = World::new("bad").await;
    world.create_topic(2).await;
    let mut payloads: Vec<Vec<u8>> = (0..50)
        .map(|n| message("good", n).to_string().into_bytes())
        .collect();
    payloads.extend((0..10).map(|n| message("good", n).to_string().into_bytes()));
    let change = |change: fn(&mut serde_json::Value)| {
        let mut message = message("bad", 0);
        change(&mut message);
        message.to_string().into_bytes()
    };
    payloads.insert(7, b"{not json".to_vec());
    payloads.insert(13, change(|m| m["v"] = 7.into()));
    payloads.insert(
        20,
        change(|m| drop(m.as_object_mut().unwrap().remove("slot"))),
    );
    payloads.insert(25, change(|m| m["slot"] = "1999-01-01T00:00:00Z".into()));
    payloads.insert(30, change(|m| m["error_detail"] = "x".repeat(5000).into()));
    payloads.insert(31, change(|m| m["site"] = "nul\0".into()));
    payloads.insert(40, Vec::new());
    world.produce(payloads);
    let mut consumer = world.node("consumer", "");
    world
        .wait_for("dead letters", "SELECT count(*) FROM dead_letter", 7)
        .await;
    world
        .wait_for(
            "neighbours",
            "SELECT count(*) FROM checks WHERE site = 'good'",
            50,
        )
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(
        world.number("SELECT count(*) FROM checks").await,
        50,
        "duplicates were absorbed, nothing else came in"
    );
    let reasons = world
        .query("SELECT reason, count(*) FROM dead_letter GROUP BY 1 ORDER BY 1")
        .await;
    let reasons: Vec<_> = reasons
        .iter()
        .map(|row| (row.get::<_, String>(0), row.get::<_, i64>(1)))
        .collect();
    let expected = [
        ("absurd_slot", 1),
        ("does_not_fit", 2),
        ("malformed", 3),
        ("unknown_version", 1),
    ];
    assert_eq!(
        reasons,
        expected.map(|(reason, count)| (reason.to_owned(), count))
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM dead_letter WHERE payload = '{not json'")
            .await,
        1
    );
}

#[actix_rt::test]
async fn a_row_that_the_database_refuses_is_found_among_its_neighbours() {
    let world = World::new("refused").await;
    world.create_topic(1).await;
    let mut consumer = world.node("consumer", "");
    consumer.wait_for_log("reading").await;
    world
        .db
        .batch_execute("ALTER TABLE check_result ADD CONSTRAINT no_teapots CHECK (status <> 418)")
        .await
        .unwrap();
    world.produce((0..1000).map(|n| {
        let mut message = message("pot", n);
        message["status"] = if n % 333 == 5 { 418.into() } else { 200.into() };
        message.to_string().into_bytes()
    }));
    world
        .wait_for("rows", "SELECT count(*) FROM checks", 997)
        .await;
    world
        .wait_for(
            "refused rows",
            "SELECT count(*) FROM dead_letter WHERE reason = 'refused'",
            3,
        )
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(world.number("SELECT count(*) FROM checks").await, 997);
}

#[actix_rt::test]
async fn a_topic_that_is_made_again_is_noticed_and_read_from_its_start() {
    let world = World::new("recreated").await;
    world.create_topic(1).await;
    world.produce((0..20).map(|n| message("first", n).to_string().into_bytes()));
    let mut consumer = world.node("consumer", "");
    world
        .wait_for("rows of the first topic", "SELECT count(*) FROM checks", 20)
        .await;
    assert_eq!(consumer.stop(), Some(0));
    world.make_topic_again(1).await;
    world.produce((0..5).map(|n| message("second", n).to_string().into_bytes()));
    let consumer = world.node("consumer", "");
    world
        .wait_for(
            "rows of the second topic",
            "SELECT count(*) FROM checks WHERE site = 'second'",
            5,
        )
        .await;
    // The broker's word is taken for it only after it has stood for a while.
    world
        .wait_for(
            "the gap",
            "SELECT count(*) FROM kafka_gap WHERE reason = 'recreated' AND from_offset = 20",
            1,
        )
        .await;
    assert!(consumer.log().contains("recreated"), "{}", consumer.log());
}

/// A consumer asks the broker where the topic ends, and then waits for PostgreSQL. Meanwhile another one stores more.
#[actix_rt::test]
async fn an_old_answer_of_the_broker_is_not_taken_for_a_topic_that_was_made_again() {
    let world = World::new("old_answer").await;
    world.create_topic(1).await;
    let messages = |from: i64| (from..from + 20).map(|n| message("a", n).to_string().into_bytes());
    world.produce(messages(0));
    let mut consumer = world.node("consumer", "");
    world
        .wait_for("the first rows", "SELECT count(*) FROM checks", 20)
        .await;
    assert_eq!(consumer.stop(), Some(0));
    // What the other one stores is locked until it commits.
    let other = "BEGIN; UPDATE kafka_offset SET next = 30";
    let storing = connect(&world.database_url).await;
    storing.batch_execute(other).await.unwrap();
    let mut consumer = world.node("consumer", "");
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    world.wait_for("a consumer that waits", waits, 1).await;
    storing.batch_execute("COMMIT").await.unwrap();
    world.produce(messages(20));
    world
        .wait_for("the rows that are left", "SELECT count(*) FROM checks", 30)
        .await;
    assert_eq!(consumer.stop(), Some(0));
    assert_eq!(
        world.number("SELECT count(*) FROM kafka_gap").await,
        0,
        "{}",
        consumer.log()
    );
    assert_eq!(world.number("SELECT next FROM kafka_offset").await, 40);
}

#[actix_rt::test]
async fn a_newer_schema_is_refused() {
    let world = World::new("newer").await;
    world.create_topic(1).await;
    world
        .db
        .batch_execute(
            "CREATE TABLE schema_version (version int4); INSERT INTO schema_version VALUES (99)",
        )
        .await
        .unwrap();
    let mut consumer = world.node("consumer", "");
    assert_eq!(consumer.wait().code(), Some(78), "{}", consumer.log());
    assert!(consumer.log().contains("version 99"), "{}", consumer.log());
}
