//! What the check engine does beyond a single check: retries, captures, addresses, kept connections, limits on checks at
//! once, and a clock that is set. As processes on real services.

use crate::scripted::{MS, Script, Scripts, dns, http};
use crate::support::{PATIENCE, World};

const DEFAULTS: &str = "defaults: { interval: 1s, timeout: 500ms, allow_private: true }\n";

#[actix_rt::test]
async fn a_flaky_site_is_up_and_says_what_had_failed() {
    let world = World::new("flaky").await;
    world.create_topic(1).await;
    let flaky = Scripts::new()
        .connection(1, http::reset_after_accept())
        .otherwise(http::ok("all is well"))
        .start();
    let broken = http::answer(
        500,
        &[("set-cookie", "CANARY"), ("x-served-by", "a")],
        "oops, and more",
    )
    .serve();
    let sites = format!(
        "{DEFAULTS}sites:
  - {{ name: flaky, url: '{}', retries: 1, retry_delay: 20ms, labels: {{ team: web }} }}
  - {{ name: broken, url: '{}', capture_bytes: 4, body_matches: welcome, body_must_not_match: oops }}\n",
        flaky.url("/"),
        broken.url("/")
    );
    let mut consumer = world.node("consumer", "");
    let mut producer = world.node("producer", &sites);
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM checks WHERE site = 'flaky'",
            3,
        )
        .await;
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM checks WHERE site = 'broken'",
            3,
        )
        .await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let one = |sql: &'static str| {
        let world = &world;
        async move {
            let rows = world.query(sql).await;
            assert_eq!(rows.len(), 1, "{sql}\n{}", world.logs());
            rows[0].get::<_, String>(0)
        }
    };
    // Only the first connection failed: one check is up at its second attempt, the others at once.
    assert_eq!(
        world
            .number("SELECT count(*) FROM checks WHERE site = 'flaky' AND outcome <> 'up'")
            .await,
        0
    );
    let told = one("SELECT detail FROM checks WHERE site = 'flaky' AND attempts = 2").await;
    assert!(
        told.starts_with("attempt 1 failed: connection_reset: "),
        "{told}"
    );
    let kind = one(
        "SELECT facts->'failed_attempts'->0->>'error' FROM check_detail JOIN site USING (site_id) WHERE name = 'flaky'",
    )
    .await;
    assert_eq!(kind, "connection_reset");

    let failures = one(
        "SELECT DISTINCT (SELECT string_agg(f->>'error', ' ') FROM jsonb_array_elements(facts->'failures') AS f)
           FROM check_detail JOIN site USING (site_id) WHERE name = 'broken'",
    )
    .await;
    assert_eq!(
        failures,
        "status_mismatch body_mismatch body_forbidden_match"
    );
    let capture = one("SELECT DISTINCT capture::text FROM check_detail JOIN site USING (site_id) WHERE name = 'broken'").await;
    assert!(
        capture.contains(r#""body": "oops""#) && capture.contains(r#""truncated": true"#),
        "{capture}"
    );
    assert!(
        capture.contains(r#"["set-cookie", "***"]"#) && !capture.contains("CANARY"),
        "{capture}"
    );
}

#[actix_rt::test]
async fn each_address_is_a_site_of_its_own_and_a_kept_connection_is_one() {
    let world = World::new("parts").await;
    world.create_topic(1).await;
    let two = Scripts::new()
        .at("127.0.0.1:0")
        .otherwise(http::ok("hi"))
        .start();
    let kept = Script::new()
        .accept()
        .read_head()
        .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        .read_head()
        .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        .read_head()
        .send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        .close()
        .serve();
    let names = dns::Zone::new()
        .name("each.example", dns::addresses(&["127.0.0.1", "127.0.0.7"]))
        .start();
    let sites = format!(
        "{DEFAULTS}sites:
  - {{ name: each, url: '{}', resolve: each, dns_servers: ['{}'] }}
  - {{ name: kept, url: '{}', keep_alive: true }}\n",
        two.url_for("each.example", "/"),
        names.address(),
        kept.url("/")
    );
    let mut consumer = world.node("consumer", "");
    let mut producer = world.node("producer", &sites);
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM checks WHERE site = 'each@127.0.0.1' AND outcome = 'up'",
            3,
        )
        .await;
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM checks WHERE site = 'kept' AND outcome = 'up'",
            5,
        )
        .await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let (one, other) = (
        "SELECT count(*) FROM checks WHERE site = 'each@127.0.0.1'",
        "SELECT count(*) FROM checks WHERE site = 'each@127.0.0.7' AND error = 'connect_refused'",
    );
    assert_eq!(
        world.number(one).await,
        world.number(other).await,
        "{}",
        world.logs()
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM checks WHERE site = 'each'")
            .await,
        0
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM checks WHERE site = 'kept' AND outcome <> 'up'")
            .await,
        0
    );
    let (requests, connections) = (kept.requests().len(), kept.connections());
    assert_eq!(connections, requests.div_ceil(3), "{requests} requests");
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn waiting_for_a_place_is_lateness_and_too_much_of_it_is_missed() {
    let world = World::new("overload").await;
    world.create_topic(1).await;
    let slow = http::phases(http::Phases {
        before_head: 300 * MS,
        ..http::Phases::default()
    })
    .serve();
    let quick = http::ok("hi").serve();
    let mut sites = format!("node: {{ max_checks_per_host: 2 }}\n{DEFAULTS}sites:\n");
    for n in 0..12 {
        sites += &format!("  - {{ name: slow-{n}, url: '{}' }}\n", slow.url("/"));
    }
    sites += &format!(
        "  - {{ name: quick, url: '{}' }}\n",
        quick.url_for("localhost", "/")
    );
    let mut consumer = world.node("consumer", "");
    let mut producer = world.node("producer", &sites);
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM checks WHERE site LIKE 'slow%'",
            80,
        )
        .await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    // Six or seven of twelve find a place in each second. They are up, and the wait, of 450 ms in the middle, is no part of their time.
    let others = "SELECT count(*) FROM checks WHERE site LIKE 'slow%' AND outcome <> 'up' AND error <> 'missed'";
    assert_eq!(world.number(others).await, 0, "{}", world.logs());
    let middle = "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY total_ms)::int8 FROM checks WHERE site LIKE 'slow%' AND outcome = 'up'";
    let middle = world.number(middle).await;
    assert!((300..500).contains(&middle), "{middle}\n{}", world.logs());
    assert!(
        world
            .number("SELECT count(*) FROM checks WHERE error = 'missed'")
            .await
            > 10
    );
    assert!(world.number("SELECT max(lateness_ms)::int8 FROM checks WHERE outcome = 'up' AND site LIKE 'slow%'").await > 200);
    let held_up = "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY lateness_ms)::int8 FROM checks WHERE site = 'quick' AND outcome = 'up'";
    let held_up = world.number(held_up).await;
    let nobody_else = "a full host holds up nobody else";
    assert!(held_up < 250, "{nobody_else}: {held_up}\n{}", world.logs());
    world.assert_complete(1.0).await;
}

/// The clock is set after so many `readings`: `step` in microseconds.
async fn with_a_step(name: &str, readings: u32, step: i64) -> (World, usize, f64) {
    let world = World::new(&format!("{name}_{readings}")).await;
    world.create_topic(1).await;
    let server = http::ok("hi").serve();
    let sites = format!(
        "{DEFAULTS}sites: [{{ name: stepped, url: '{}' }}]\n",
        server.url("/")
    );
    let points = format!("clock::set={readings}*off->return({step})");
    let mut consumer = world.node("consumer", "postgres: { max_slot_ahead: 1day }\n");
    let begun = std::time::Instant::now();
    let mut producer = world.node_with("producer", &sites, &[("FAILPOINTS", &points)]);
    let deadline = begun + PATIENCE;
    while server.requests().len() < 18 {
        assert!(std::time::Instant::now() < deadline, "{}", producer.log());
        tokio::time::sleep(50 * MS).await;
    }
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    let took = begun.elapsed().as_secs_f64();
    let sent = i64::try_from(server.requests().len()).unwrap();
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM checks WHERE outcome <> 'unknown'",
            sent,
        )
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    (world, server.requests().len(), took)
}

fn producer_told_of(world: &World, step: &str) {
    let logs = world.logs();
    let told = logs
        .lines()
        .filter(|line| line.contains("the clock was set: slots in between are not due"));
    let told: Vec<_> = told.collect();
    assert!(
        told.len() == 1 && told[0].contains(step),
        "{told:?}\n{logs}"
    );
}

#[actix_rt::test]
async fn a_clock_set_back_neither_stops_checks_nor_takes_their_slots_twice() {
    let (world, requests, took) = with_a_step("back", 60, -3_600_000_000).await;
    assert!(
        (requests as f64) > took * 0.7 && (requests as f64) < took + 2.0,
        "{requests} in {took} s"
    );
    producer_told_of(&world, "by_s: -3600");
    // One row for each request: none was lost as a duplicate.
    let rows = world
        .number("SELECT count(*) FROM checks WHERE outcome <> 'unknown'")
        .await;
    assert_eq!(rows, i64::try_from(requests).unwrap(), "{}", world.logs());
    assert_one_gap(&world).await;
}

/// The slots are there without a hole, but for the one that the clock made; and nothing is missing.
async fn assert_one_gap(world: &World) {
    let gaps = "SELECT count(*) FROM (SELECT slot - lag(slot) OVER (ORDER BY slot) AS gap FROM checks) AS g WHERE gap > '1 second'";
    assert_eq!(world.number(gaps).await, 1, "{}", world.logs());
    let audit = world
        .program(&["audit", "--since", "-3h", "--grace", "0s"])
        .output()
        .unwrap();
    assert!(
        audit.status.success(),
        "{}",
        String::from_utf8_lossy(&audit.stdout)
    );
}

/// At each place where a site looks at the clock: while it waits, before, in and after a check.
#[actix_rt::test]
async fn a_clock_set_forward_fires_no_burst_and_what_it_skipped_is_not_due() {
    let stepped = (60..67).map(|readings| with_a_step("forward", readings, 600_000_000));
    for (world, requests, took) in futures_util::future::join_all(stepped).await {
        assert!(
            (requests as f64) > took * 0.7 && (requests as f64) < took + 2.0,
            "{requests} in {took} s"
        );
        let missed = "SELECT count(*) FROM checks WHERE error = 'missed'";
        let held_up = world.number(missed).await;
        assert!(
            held_up < 10,
            "{held_up} of what is skipped\n{}",
            world.logs()
        );
        producer_told_of(&world, "by_s: 600");
        assert_one_gap(&world).await;
    }
}

#[actix_rt::test]
async fn a_site_that_is_replaced_leaves_the_slots_to_its_successor() {
    let world = World::new("successor").await;
    world.create_topic(1).await;
    let slow = http::phases(http::Phases {
        before_head: 3500 * MS,
        ..http::Phases::default()
    })
    .serve();
    let url = slow.url("/");
    let sites = |timeout: &str| {
        format!(
            "{DEFAULTS}sites: [{{ name: slow, url: '{url}', timeout: {timeout}, labels: {{ t: {timeout} }} }}]\n"
        )
    };
    let mut producer = world.node("producer", &sites("10s"));
    while slow.connections() == 0 {
        tokio::time::sleep(50 * MS).await;
    }
    // Its first check is under way; its successor gives up after 300 ms, so that it has rows for what passes meanwhile.
    std::fs::write(&producer.file, sites("300ms")).unwrap();
    producer.signal("HUP");
    let deadline = std::time::Instant::now() + PATIENCE;
    while slow.connections() < 7 {
        assert!(std::time::Instant::now() < deadline, "{}", producer.log());
        tokio::time::sleep(50 * MS).await;
    }
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    let mut consumer = world.node("consumer", "");
    world
        .wait_for("rows", "SELECT count(*) FROM checks", 5)
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let missed = world
        .number("SELECT count(*) FROM checks WHERE error = 'missed'")
        .await;
    assert_eq!(missed, 0, "{}", world.logs());
    world.assert_complete(1.0).await;
}
