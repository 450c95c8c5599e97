//! What fails is caused here: panics and faults in each actor, killed processes. The rest goes on, nothing is lost or
//! doubled.

use std::time::Duration;

use crate::support::{PATIENCE, Web, World, message};

const QUICK: &str = "node: { restart: { max: 3, within: 60s, base: 10ms, cap: 100ms } }\n";

fn two_sites(web: &Web) -> String {
    format!(
        "{QUICK}defaults: {{ interval: 1s, timeout: 800ms, allow_private: true }}
sites:
  - {{ name: steady, url: '{0}' }}
  - {{ name: failing, url: '{0}' }}
",
        web.url("/up")
    )
}

/// Runs the path with one failure in `role` and shows that it is survived: no slot without a row, none twice.
async fn survives(name: &str, role: &str, failpoint: &str, restarted: &str) {
    let (world, web) = (World::new(name).await, Web::start());
    world.create_topic(2).await;
    let fail = |of: &str| {
        if of == role {
            vec![("FAILPOINTS", failpoint)]
        } else {
            vec![]
        }
    };
    let mut consumer = world.node_with("consumer", QUICK, &fail("consumer"));
    let mut producer = world.node_with("producer", &two_sites(&web), &fail("producer"));
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM checks WHERE site = 'steady'",
            6,
        )
        .await;
    // On a slow machine the rows may be there before the fault is.
    let failing = if role == "producer" {
        &producer
    } else {
        &consumer
    };
    failing.wait_for_log("actor failed, restarting").await;
    failing.wait_for_log(restarted).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
    let up = world
        .number("SELECT count(*) FROM checks WHERE outcome = 'up'")
        .await;
    let requests = i64::try_from(web.paths.lock().unwrap().len()).unwrap();
    assert_eq!(
        requests, up,
        "each check was made once: a restarted site does not check twice"
    );
}

#[actix_rt::test]
async fn a_panic_of_a_site() {
    survives(
        "site_panic",
        "producer",
        "site::check::named=2*off->1*panic(boom)->off",
        "actor: site",
    )
    .await;
}

#[actix_rt::test]
async fn a_fault_of_a_site() {
    survives(
        "site_fault",
        "producer",
        "site::check::named=2*off->1*return->off",
        "actor: site",
    )
    .await;
}

#[actix_rt::test]
async fn a_fault_of_the_publisher() {
    survives(
        "publisher_fault",
        "producer",
        "publisher::idle_fault=2*off->1*return->off",
        "actor: publisher",
    )
    .await;
}

#[actix_rt::test]
async fn a_panic_of_the_publisher_costs_nothing() {
    survives(
        "publisher_panic",
        "producer",
        "publisher::publish=4*off->1*panic(boom)->off",
        "actor: publisher",
    )
    .await;
}

#[actix_rt::test]
async fn a_result_that_makes_the_publisher_panic_again_and_again_is_given_up_and_told() {
    let (world, web) = (World::new("publisher_poison").await, Web::start());
    world.create_topic(2).await;
    let failing = [("FAILPOINTS", "publisher::publish=4*off->2*panic(boom)->off")];
    let mut producer = world.node_with("producer", &two_sites(&web), &failing);
    let mut consumer = world.node("consumer", QUICK);
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("rows", rows, 12).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let log = producer.log();
    let lost = log
        .matches("a result is lost: it can't be taken in")
        .count();
    assert_eq!(lost, 1, "{log}");
    let requests = web.paths.lock().unwrap().len();
    let stored = usize::try_from(world.number(rows).await).unwrap();
    assert!(
        stored + 1 >= requests,
        "those queued behind it came through"
    );
}

#[actix_rt::test]
async fn a_panic_of_the_group_of_sites_starts_them_all_again_with_the_new_settings() {
    let (world, web) = (World::new("sites_panic").await, Web::start());
    world.create_topic(1).await;
    let failing = [("FAILPOINTS", "sites::reload=1*panic(boom)->off")];
    let mut producer = world.node_with("producer", &two_sites(&web), &failing);
    let mut consumer = world.node("consumer", QUICK);
    let of = |site| format!("SELECT count(*) FROM checks WHERE site = '{site}'");
    world.wait_for("rows", &of("steady"), 2).await;
    let renamed = two_sites(&web).replace("failing", "added");
    std::fs::write(&producer.file, renamed).unwrap();
    producer.signal("HUP");
    producer.wait_for_log("actor: sites").await;
    world.wait_for("the new site", &of("added"), 3).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let twice =
        "SELECT count(*) FROM (SELECT FROM checks GROUP BY site, slot HAVING count(*) > 1) AS t";
    assert_eq!(world.number(twice).await, 0);
    let steady = world.number(&of("steady")).await;
    let span = "SELECT (round(extract(epoch FROM max(slot) - min(slot))) + 1)::int8 FROM checks WHERE site = 'steady'";
    assert_eq!(
        world.number(span).await,
        steady,
        "the check in work was finished, and the next slot was taken"
    );
}

#[actix_rt::test]
async fn a_panic_of_the_writer() {
    survives(
        "writer_panic",
        "consumer",
        "writer::store=1*off->1*panic(boom)->off",
        "actor: writer",
    )
    .await;
}

#[actix_rt::test]
async fn a_panic_of_the_writer_before_its_commit() {
    survives(
        "writer_commit",
        "consumer",
        "writer::before_commit=1*off->1*panic(boom)->off",
        "actor: writer",
    )
    .await;
}

#[actix_rt::test]
async fn a_fault_of_the_writer() {
    survives(
        "writer_fault",
        "consumer",
        "writer::fault=2*off->1*return->off",
        "actor: writer",
    )
    .await;
}

#[actix_rt::test]
async fn a_panic_of_the_consumer() {
    survives(
        "consumer_panic",
        "consumer",
        "consumer::turn=60*off->1*panic(boom)->off",
        "actor: consumer",
    )
    .await;
}

#[actix_rt::test]
async fn a_fault_of_the_consumer() {
    survives(
        "consumer_fault",
        "consumer",
        "consumer::fault=60*off->1*return->off",
        "actor: consumer",
    )
    .await;
}

/// The settings actor fails at a reload; the rest is left alone, and the next reload works.
async fn reloads_go_on(name: &str, failpoint: &str) {
    let (world, web) = (World::new(name).await, Web::start());
    world.create_topic(1).await;
    let failing = [("FAILPOINTS", failpoint)];
    let mut producer = world.node_with("producer", &two_sites(&web), &failing);
    producer.wait_for_log("checking").await;
    producer.signal("HUP");
    producer.wait_for_log("actor: settings").await;
    // One that comes before it has been started again is not heard.
    let deadline = std::time::Instant::now() + PATIENCE;
    while !producer.log().contains("settings reloaded") {
        assert!(std::time::Instant::now() < deadline, "{}", producer.log());
        producer.signal("HUP");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    let restarts = producer.log().matches("actor failed, restarting").count();
    assert_eq!(restarts, 1, "{}", producer.log());
}

#[actix_rt::test]
async fn a_panic_of_the_settings_actor() {
    reloads_go_on("settings_panic", "settings::reload=1*panic(boom)->off").await;
}

#[actix_rt::test]
async fn a_fault_of_the_settings_actor() {
    reloads_go_on("settings_fault", "settings::fault=1*return->off").await;
}

#[actix_rt::test]
async fn an_actor_that_never_recovers_ends_the_process_with_a_code() {
    let (world, web) = (World::new("escalation").await, Web::start());
    world.create_topic(1).await;
    let mut producer = world.node_with(
        "producer",
        &two_sites(&web).replace("max: 3", "max: 1"),
        &[("FAILPOINTS", "site::check::named=panic(boom)")],
    );
    assert_eq!(producer.wait().code(), Some(70), "{}", producer.log());
    assert!(producer.log().contains("giving up"), "{}", producer.log());
}

#[actix_rt::test]
async fn a_consumer_that_is_killed_in_the_middle_of_a_batch_loses_and_doubles_nothing() {
    let world = World::new("killed").await;
    world.create_topic(4).await;
    world.produce((0..20_000).map(|n| {
        message(&format!("site {}", n % 50), n)
            .to_string()
            .into_bytes()
    }));
    let settings = "postgres: { batch: { max_rows: 500, max_age: 100ms } }\nkafka: { options: { session.timeout.ms: 6000 } }";
    let slowly = [("FAILPOINTS", "writer::before_commit=sleep(30)")];
    let mut first = world.node_with("consumer", settings, &slowly);
    let mut second = world.node_with("consumer", settings, &slowly);
    world
        .wait_for("some rows", "SELECT count(*) FROM check_result", 2_000)
        .await;
    first.kill();
    world
        .wait_for("all rows", "SELECT count(*) FROM check_result", 20_000)
        .await;
    assert_eq!(second.stop(), Some(0), "{}", second.log());
    assert_eq!(
        world.number("SELECT count(*) FROM check_result").await,
        20_000
    );
    assert_eq!(
        world
            .number("SELECT sum(next)::int8 FROM kafka_offset")
            .await,
        20_000
    );
    assert_eq!(world.number("SELECT count(*) FROM kafka_gap").await, 0);
}
