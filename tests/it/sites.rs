//! Sites that come, change their names, go, and come again: their history is kept and found. Real nodes, Kafka and PostgreSQL.

use std::fs;

use crate::support::{Node, PATIENCE, Web, World, message};

const QUICK: &str = "postgres: { batch: { max_age: 20ms } }\n";

fn settings(sites: &str) -> String {
    format!("defaults: {{ interval: 1s, allow_private: true }}\nsites: [{sites}]\n")
}

fn reload(producer: &Node, sites: &str) {
    fs::write(&producer.file, settings(sites)).unwrap();
    producer.signal("HUP");
}

/// Name, group, tags, target, whether it is due, and the names that it had.
async fn sites(world: &World) -> Vec<String> {
    let sql = r#"SELECT concat_ws(' ', site, "group", tags::text, sla_target, sla_window, due_until IS NULL, formerly::text)
                   FROM sites ORDER BY site"#;
    world
        .query_so_far(sql)
        .await
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn wait_for_sites(world: &World, wanted: &[&str]) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        if sites(world).await == wanted {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{:?}\n{}", sites(world).await, world.logs());
}

#[actix_rt::test]
async fn a_site_keeps_its_history_under_a_new_name_and_when_it_is_removed_and_comes_again() {
    let world = World::new("sites").await;
    world.create_topic(3).await;
    let web = Web::start();
    let url = web.url("/up");
    let shop = format!("{{ name: shop, url: '{url}', group: web, tags: [prod, eu], sla: 99.9 }}");
    let mut consumer = world.node("consumer", QUICK);
    let mut producer = world.node("producer", &settings(&shop));
    wait_for_sites(&world, &["shop web {eu,prod} 99.9 30 days t {}"]).await;
    let rows = "SELECT count(*) FROM checks WHERE site = 'shop'";
    world.wait_for("rows", rows, 3).await;

    let store = format!(
        "{{ name: store, formerly: shop, url: '{url}', group: web, sla: {{ target: 99.95, window: 7d }} }}"
    );
    reload(&producer, &store);
    wait_for_sites(&world, &["store web {} 99.95 7 days t {shop}"]).await;
    let both = "SELECT count(*) FROM checks WHERE site = 'store'";
    let before = world.number(both).await;
    assert!(before >= 3, "{before}");
    world.wait_for("rows after it", both, before + 3).await;
    consumer.wait_for_log("a site has a new name").await;
    // What was spooled under the old name comes now.
    world.produce_keyed([(
        "shop".to_owned(),
        message("shop", 1).to_string().into_bytes(),
    )]);
    let late = "SELECT count(*) FROM checks WHERE site = 'store' AND location = 'test'";
    world.wait_for("a late row", late, 1).await;

    let other = format!("{{ name: other, url: '{url}' }}");
    reload(&producer, &other);
    wait_for_sites(
        &world,
        &["other {} t {}", "store web {} 99.95 7 days f {shop}"],
    )
    .await;
    reload(&producer, &format!("{store}, {other}"));
    wait_for_sites(
        &world,
        &["other {} t {}", "store web {} 99.95 7 days t {shop}"],
    )
    .await;

    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    wait_for_sites(
        &world,
        &["other {} f {}", "store web {} 99.95 7 days f {shop}"],
    )
    .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn a_name_that_is_taken_is_not_given_again() {
    let world = World::new("sites_taken").await;
    world.create_topic(1).await;
    let announce = |site: &str, second: u32, formerly: &[&str]| {
        let since = format!("2026-01-01T00:00:{second:02}.000000Z");
        let message = serde_json::json!({
            "v": 1, "kind": "site", "site": site, "url": "http://a/", "location": "here", "since": since, "interval_us": 1_000_000,
            "phase_us": 0, "check_limit_us": 1, "config_hash": "x", "run": since, "failure_threshold": 1, "success_threshold": 1,
            "flap_window_us": 0, "formerly": formerly, "group": format!("g{second}"),
        });
        (site.to_owned(), message.to_string().into_bytes())
    };
    let mut consumer = world.node("consumer", QUICK);
    world.produce_keyed([announce("a", 1, &[]), announce("b", 2, &[])]);
    wait_for_sites(&world, &["a g1 {} t {}", "b g2 {} t {}"]).await;
    world.produce_keyed([announce("b", 5, &["a"]), announce("c", 4, &["b", "x"])]);
    wait_for_sites(&world, &["a g1 {} t {}", "c g5 {} t {b}"]).await;
    // An older announcement, which comes late, changes nothing; a site may have its old name again.
    world.produce_keyed([announce("c", 3, &["b"]), announce("b", 6, &["c"])]);
    wait_for_sites(&world, &["a g1 {} t {}", "b g6 {} t {c}"]).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    // One that knows nothing of all this hears of the former site's former name.
    let mut consumer = world.node("consumer", QUICK);
    world.produce_keyed([announce("c", 3, &["x"]), announce("d", 7, &[])]);
    wait_for_sites(&world, &["a g1 {} t {}", "b g6 {} t {c}", "d g7 {} t {}"]).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
