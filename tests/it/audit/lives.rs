//! The audit of real producers: killed, reloaded, and with announcements that are refused.

use super::audit;
use crate::support::{Web, World};

/// The whole way: a producer is killed, comes back with a site less, and ends in order.
#[actix_rt::test]
async fn a_killed_producer_is_down_and_nothing_else_is_wrong() {
    let (world, web) = (World::new("audit_killed").await, Web::start());
    world.create_topic(2).await;
    let settings = |sites: &[&str]| {
        let mut text = "node: { location: here }\ndefaults: { interval: 1s, timeout: 800ms, allow_private: true }\nsites:\n".to_owned();
        for site in sites {
            text += &format!("  - {{ name: '{site}', url: '{}' }}\n", web.url("/up"));
        }
        text
    };
    let mut consumer = world.node("consumer", "");
    let mut first = world.node("producer", &settings(&["a", "b", "gone"]));
    let of = |site: &str| format!("SELECT count(*) FROM checks WHERE site = '{site}'");
    world.wait_for("rows", &of("a"), 4).await;
    first.kill();
    let passed =
        "SELECT floor(extract(epoch FROM clock_timestamp() - max(slot)))::int8 FROM checks";
    world.wait_for("slots without a producer", passed, 5).await;
    let mut second = world.node("producer", &settings(&["a", "b"]));
    world.wait_for("rows after", &of("b"), 9).await;
    assert_eq!(second.stop(), Some(0), "{}", second.log());
    let ended = "SELECT count(*) FROM site_revision WHERE until IS NOT NULL";
    world.wait_for("both ends", ended, 2).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let (_, told) = audit(&world, &["--since", "-1h", "--grace", "0s"]);
    let total = &told["total"];
    assert!(total["producer_down"].as_u64().unwrap() >= 6, "{told}");
    for nothing in ["duplicate", "unscheduled"] {
        assert_eq!(total[nothing], 0, "{told}");
    }
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    // Results in the memory of the killed producer: at most the last second of it.
    assert!(total["missing"].as_u64().unwrap() <= 3, "{told}");
}

/// What is removed, replaced and added by a reload is announced as such, each address of a name too: nothing is missing.
#[actix_rt::test]
async fn a_reload_and_an_orderly_end_leave_nothing_missing_or_unscheduled() {
    let (world, web) = (World::new("audit_reload").await, Web::start());
    world.create_topic(2).await;
    let head = "defaults: { interval: 1s, timeout: 800ms, allow_private: true }\nsites:\n";
    let site = |name: &str, more: &str| {
        format!(
            "  - {{ name: '{name}', url: '{}' {more} }}\n",
            web.url("/up")
        )
    };
    let each = format!(
        "  - {{ name: each, url: 'http://localhost:{}/up', resolve: each }}\n",
        web.port
    );
    let before = [
        head,
        &site("same", ""),
        &site("changed", ""),
        &site("gone", ""),
        &each,
    ]
    .concat();
    let after = [
        head,
        &site("same", ""),
        &site("changed", ", interval: 2s"),
        &site("new", ""),
        &each,
    ]
    .concat();
    let mut consumer = world.node("consumer", "");
    let mut producer = world.node("producer", &before);
    let of = |site: &str| format!("SELECT count(*) FROM checks WHERE site = '{site}'");
    world.wait_for("rows before", &of("changed"), 3).await;
    std::fs::write(&producer.file, after).unwrap();
    producer.signal("HUP");
    world.wait_for("rows after", &of("new"), 6).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    let standing = "SELECT (count(*) FILTER (WHERE until IS NULL) = 0 AND count(*) >= 6)::int::int8 FROM site_revision";
    world.wait_for("the ends of all", standing, 1).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    // Slots whose check may still be under way are left alone: the longest check is 0.8 s.
    let passed =
        "SELECT floor(extract(epoch FROM clock_timestamp() - max(slot)))::int8 FROM checks";
    world.wait_for("the last slot has passed", passed, 2).await;
    let (code, told) = audit(&world, &["--since", "-1h", "--grace", "0s"]);
    assert_eq!(code, Some(0), "{told}\n{}", world.logs());
    assert_eq!(told["unannounced"], 0, "{told}");
    assert_eq!(
        told["total"]["expected"],
        world.number("SELECT count(*) FROM checks").await
    );
    let addresses = world
        .number("SELECT count(*) FROM site WHERE name LIKE 'each@%'")
        .await;
    assert!(addresses >= 1, "{told}");
}

/// A revision may come again, late, and from somebody who lies.
#[actix_rt::test]
async fn a_revision_keeps_its_end_and_one_that_is_refused_holds_up_nobody() {
    let world = World::new("revisions").await;
    world.create_topic(1).await;
    let mut consumer = world.node("consumer", "");
    consumer.wait_for_log("reading").await;
    world
        .db
        .batch_execute(
            "ALTER TABLE site_revision ADD CONSTRAINT no_teapots CHECK (config_hash <> 'teapot')",
        )
        .await
        .unwrap();
    let revision = |site: &str, until: Option<&str>, hash: &str| {
        let mut message = serde_json::json!({
            "v": 1, "kind": "site", "site": site, "url": "http://a/", "location": "l", "since": "2026-01-01T00:00:00.000000Z",
            "interval_us": 60_000_000, "phase_us": 0, "check_limit_us": 1, "config_hash": hash, "run": "2026-01-01T00:00:00.000000Z"
        });
        if let Some(until) = until {
            message["until"] = until.into();
        }
        message.to_string().into_bytes()
    };
    let end = Some("2026-01-02T00:00:00.000000Z");
    world.produce([
        revision("a", None, "x"),
        revision("b", None, "teapot"),
        revision("c", None, "x"),
        revision("d", end, "x"),
        crate::support::message("e", 0).to_string().into_bytes(),
    ]);
    world
        .wait_for("the neighbours", "SELECT count(*) FROM site_revision", 3)
        .await;
    world.produce([revision("a", end, "x"), revision("d", None, "x")]);
    let ended = "SELECT count(*) FROM site_revision WHERE until = '2026-01-02 00:00Z'";
    world.wait_for("both ends", ended, 2).await;
    world.produce([
        revision("a", None, "x"),
        crate::support::message("e", 1).to_string().into_bytes(),
    ]);
    world
        .wait_for("what came after", "SELECT count(*) FROM check_result", 2)
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(world.number(ended).await, 2, "an end that was told stays");
    assert_eq!(world.number("SELECT count(*) FROM site_revision").await, 3);
    let refused =
        "SELECT count(*) FROM dead_letter WHERE reason = 'refused' AND detail LIKE '%no_teapots%'";
    assert_eq!(world.number(refused).await, 1);
}
