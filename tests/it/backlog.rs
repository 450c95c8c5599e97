//! A spool that an outage has filled: it drains as fast as it is stored, and what is checked meanwhile does not wait for it.

use std::{path::Path, time::Duration};

use crate::overtaken::overtaken;
use crate::support::{PATIENCE, Web, World, allow, message, required, scram_password};
use sitewatch_actors::publisher::spool::{Limits, RealDisk, Spool};
use tokio::time::{Instant, sleep};

const BACKLOG: i64 = 20_000;

/// A quarter of `max_messages` is what may wait in Kafka at first.
const FIRST: i64 = 1000;

/// Fills the spool in `folder`. Gives the last slot in it.
fn fill(folder: &Path) -> String {
    let disk = RealDisk::open(folder).unwrap();
    let (mut spool, _) = Spool::open(disk, Limits::default()).unwrap();
    let messages = (0..BACKLOG).map(|n| message(&format!("site {}", n % 50), n));
    let messages: Vec<_> = messages.collect();
    let records: Vec<_> = messages
        .iter()
        .map(|message| (message["site"].as_str().unwrap(), message.to_string()))
        .collect();
    let records: Vec<_> = records
        .iter()
        .map(|(site, payload)| (site.as_bytes(), payload.as_bytes()))
        .collect();
    for some in records.chunks(1000) {
        spool.commit(some, 0).unwrap();
    }
    let last = messages.last().unwrap();
    last["slot"].as_str().unwrap().to_owned()
}

fn settings(world: &World, web: &Web, kafka: &str) -> String {
    format!(
        "spool: {{ dir: '{}' }}
kafka: {{ {kafka} queue: {{ max_messages: {}, max_kbytes: 1024 }} }}
defaults: {{ interval: 1s, timeout: 900ms, allow_private: true }}
sites: [{{ name: fresh, url: '{}' }}]
",
        spool(world).display(),
        FIRST * 4,
        web.url("/up")
    )
}

fn spool(world: &World) -> std::path::PathBuf {
    world.folder.path().join("spool")
}

#[actix_rt::test]
async fn a_backlog_waits_in_the_spool_while_consumers_stand_still_and_fresh_results_overtake_it() {
    let (world, web) = (World::new("backlog_waits").await, Web::start());
    world.create_topic(3).await;
    let last = fill(&spool(&world));
    let mut consumer = world.node("consumer", "");
    let first = (0..300).map(|n| {
        let site = format!("early {n}");
        (site.clone(), message(&site, n).to_string().into_bytes())
    });
    world.produce_keyed(first);
    let stored = "SELECT count(*) FROM check_result";
    world.wait_for("rows", stored, 300).await;
    world.wait_for_group_offsets(300).await;

    let mut locker = crate::support::connect(&world.database_url).await;
    let lock = locker.transaction().await.unwrap();
    lock.execute("LOCK TABLE kafka_offset IN EXCLUSIVE MODE", &[])
        .await
        .unwrap();
    let mut producer = world.node("producer", &settings(&world, &web, ""));
    producer.wait_for_log("there is a backlog").await;
    // Measured over some seconds: a tenth of that every 200 ms is what may be sent.
    let begun = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let ends = world.topic_ends();
    let turns = i64::try_from(begun.elapsed().as_millis() / 200).unwrap();
    let most = 300 + FIRST + FIRST / 10 * turns + FIRST;
    assert!(ends > 300 + FIRST / 2, "{ends}: nothing is sent");
    assert!(ends < most, "{ends} instead of {most} are in Kafka");

    lock.rollback().await.unwrap();
    let wanted = 300 + BACKLOG;
    world.wait_for("all rows", stored, wanted).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let old = format!("{stored} JOIN site USING (site_id) WHERE name <> 'fresh'");
    assert_eq!(world.number(&old).await, wanted);
    // A third of it or so is in the partition of the fresh site.
    let overtaken = overtaken(&world, &last);
    println!("{overtaken} overtaken");
    assert!(overtaken > 2000, "{overtaken}");
}

#[actix_rt::test]
async fn where_nobody_consumes_a_backlog_goes_to_kafka_all_the_same() {
    let (world, web) = (World::new("backlog_alone").await, Web::start());
    world.create_topic(3).await;
    fill(&spool(&world));
    let mut producer = world.node("producer", &settings(&world, &web, ""));
    producer.wait_for_log("no consumer is seen").await;
    producer.wait_for_log("no offset is committed").await;
    wait_for_backlog(&world).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
}

#[actix_rt::test]
async fn who_may_not_see_the_consumers_says_so_and_sends_the_backlog_all_the_same() {
    let (world, web) = (World::new("backlog_blind").await, Web::start());
    world.create_topic(3).await;
    world.bring(&["ca.pem"]);
    fill(&spool(&world));
    let topic = world.topic.as_str();
    scram_password("SCRAM-SHA-256", topic, "p");
    allow(topic, &format!("--operation Describe --topic {topic}"));
    allow(topic, &format!("--operation Write --topic {topic}"));
    // Of what nobody is named for, everybody may do everything.
    allow("other", &format!("--operation Read --group {topic}"));
    let sasl = format!("mechanism: SCRAM-SHA-256, username: {topic}, password: p");
    let kafka = format!("ca: ca.pem, sasl: {{ {sasl} }},");
    let broker = required("SITEWATCH_TEST_KAFKA_SASL");
    let settings = settings(&world, &web, &kafka);
    let mut producer = world.node_with("producer", &settings, &[("KAFKA_SERVER", &broker)]);
    producer.wait_for_log("no consumer is seen").await;
    producer.wait_for_log("Group authorization failed").await;
    wait_for_backlog(&world).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
}

async fn wait_for_backlog(world: &World) {
    let deadline = Instant::now() + PATIENCE;
    while world.topic_ends() < BACKLOG {
        assert!(Instant::now() < deadline, "{}", world.logs());
        sleep(Duration::from_millis(100)).await;
    }
}
