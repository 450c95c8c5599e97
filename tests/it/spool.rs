//! What the spool promises: a result that counts as checked is stored once, whatever becomes of Kafka, the disk or the process.

use std::process::{Command, Output};

use crate::accepted::{accepted, wait_for_accepted, wait_for_all};
use crate::support::{Node, Web, World, free_port, required};

/// A port at which nobody listens.
fn nowhere() -> String {
    format!("127.0.0.1:{}", free_port())
}

const JSON: &str = "log: { level: debug, format: json }";

fn sites(web: &Web, count: u32, node: &str) -> String {
    let mut text = format!(
        "node: {{ data_dir: data, {node} }}\ndefaults: {{ interval: 1s, timeout: 800ms, allow_private: true }}\nsites:\n"
    );
    for n in 0..count {
        text += &format!("  - {{ name: site-{n}, url: '{}' }}\n", web.url("/up"));
    }
    text
}

fn spool(world: &World, node: &Node, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .args(["spool", "--config"])
        .arg(&node.file)
        .args(arguments)
        .current_dir(world.folder.path())
        .env("KAFKA_SERVER", required("KAFKA_SERVER"))
        .env("KAFKA_TOPIC", &world.topic)
        .output()
        .unwrap()
}

fn status(world: &World, node: &Node) -> serde_json::Value {
    let output = spool(world, node, &["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[actix_rt::test]
async fn what_is_accepted_while_kafka_is_away_survives_a_kill_and_is_stored_once() {
    let (world, web) = (World::new("spool_kill").await, Web::start());
    world.create_topic(3).await;
    let settings = sites(&web, 20, JSON);
    let away = nowhere();
    let mut first = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    wait_for_accepted(&first, 40).await;
    let told = status(&world, &first);
    assert_eq!(told["process"], first.id().to_string().as_str(), "{told}");
    first.kill();
    let before = accepted(&first);
    assert!(before.len() >= 40, "{}", before.len());
    let told = status(&world, &first);
    assert!(
        told["results"].as_u64().unwrap() as usize >= before.len(),
        "{told}"
    );
    assert_eq!(told["process"], serde_json::Value::Null, "{told}");

    let mut consumer = world.node("consumer", "");
    let mut second = world.node("producer", &settings);
    wait_for_all(&world, &before).await;
    assert_eq!(second.stop(), Some(0), "{}", second.log());
    let after = accepted(&second);
    wait_for_all(&world, &after).await;
    assert_eq!(status(&world, &second)["results"], 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn what_could_not_be_sent_stays_is_told_and_can_be_drained_by_a_command() {
    let (world, web) = (World::new("spool_drain").await, Web::start());
    world.create_topic(3).await;
    let away = nowhere();
    let settings = sites(&web, 5, JSON);
    let mut node = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    wait_for_accepted(&node, 5).await;
    // Two producers can't share it.
    let mut other = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    assert_eq!(other.wait().code(), Some(78), "{}", other.log());
    assert!(other.log().contains("in use by process"), "{}", other.log());
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    assert!(
        node.log().contains("results stay in the spool"),
        "{}",
        node.log()
    );
    let accepted = accepted(&node);
    let drained = spool(&world, &node, &["drain"]);
    assert!(drained.status.success(), "{drained:?}");
    assert!(String::from_utf8_lossy(&drained.stderr).contains("the spool is empty"));
    assert_eq!(status(&world, &node)["results"], 0);
    let mut consumer = world.node("consumer", "");
    wait_for_all(&world, &accepted).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// Runs a producer with this failure, and shows that all that it accepted is stored and no slot is passed over.
async fn goes_on(name: &str, failpoint: &str, told: &str) {
    let (world, web) = (World::new(name).await, Web::start());
    world.create_topic(3).await;
    let mut consumer = world.node("consumer", "");
    let failing = [("FAILPOINTS", failpoint)];
    let mut producer = world.node_with("producer", &sites(&web, 3, JSON), &failing);
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("rows", rows, 24).await;
    assert!(producer.log().contains(told), "{}", producer.log());
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    wait_for_all(&world, &accepted(&producer)).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn checks_go_on_while_the_disk_fails_and_it_is_told_once() {
    let failing = "publisher::commit=2*off->6*return->off";
    goes_on("spool_disk", failing, "the spool takes results again").await;
}

#[actix_rt::test]
async fn what_only_memory_had_goes_to_the_disk_as_soon_as_that_works_again() {
    let (world, web) = (World::new("spool_landed").await, Web::start());
    world.create_topic(3).await;
    let (settings, away) = (sites(&web, 5, JSON), nowhere());
    let environment = [
        ("KAFKA_SERVER", away.as_str()),
        ("FAILPOINTS", "publisher::commit=20*off->6*return->off"),
    ];
    let mut first = world.node_with("producer", &settings, &environment);
    first.wait_for_log("the spool takes results again").await;
    // Another second of all sites, by way of the disk.
    wait_for_accepted(&first, accepted(&first).len() + 10).await;
    first.kill();
    let log = first.log();
    let told = log.matches("the spool can't be written").count();
    assert_eq!(told, 1, "{log}");
    let before = accepted(&first);

    let mut consumer = world.node("consumer", "");
    let mut second = world.node("producer", &settings);
    wait_for_all(&world, &before).await;
    // Not one of the slots before the kill is missing, those of the failing disk among them.
    for site in 0..5 {
        let site = format!("site-{site}");
        let last = before.iter().filter(|it| it.0 == site).map(|it| &it.1);
        let span = format!(
            "SELECT (round(extract(epoch FROM max(slot) - min(slot))) + 1)::int8 - count(*) FROM checks
              WHERE site = '{site}' AND slot <= '{}'",
            last.max().unwrap()
        );
        assert_eq!(world.number(&span).await, 0, "{site}\n{log}");
    }
    assert_eq!(second.stop(), Some(0), "{}", second.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn checks_go_on_while_the_disk_fails_for_good() {
    goes_on(
        "spool_no_disk",
        "publisher::commit=return",
        "the spool can't be written",
    )
    .await;
}

#[actix_rt::test]
async fn checks_go_on_while_the_spool_cannot_be_opened() {
    goes_on(
        "spool_open",
        "publisher::open=4*return->off",
        "the spool can't be written",
    )
    .await;
}

#[actix_rt::test]
async fn checks_go_on_while_the_spool_is_full() {
    let failing = "publisher::commit=2*off->30*return(full)->off";
    goes_on("spool_full", failing, "the spool is full").await;
}

#[actix_rt::test]
async fn a_panic_at_the_disk_opens_the_spool_anew() {
    let failing = "publisher::turn=5*off->1*panic(boom)->off";
    goes_on("spool_panic", failing, "a turn at the spool panicked").await;
}

/// A lock that a cleaner of temporary files took away is no lock: whoever comes next gets one of its own.
#[actix_rt::test]
async fn a_producer_whose_lock_is_gone_takes_it_again_or_leaves_the_spool_to_who_has_it() {
    let (world, web) = (World::new("spool_lock").await, Web::start());
    world.create_topic(3).await;
    let (settings, away) = (sites(&web, 5, JSON), nowhere());
    let away = [("KAFKA_SERVER", away.as_str())];
    let mut first = world.node_with("producer", &settings, &away);
    first.wait_for_log_times("\"accepted\"", 10).await;
    let lock = world.folder.path().join("data/spool/lock");

    // Nobody else is there: it goes on with all that it had.
    std::fs::remove_file(&lock).unwrap();
    first
        .wait_for_log("the spool is not this process's any more")
        .await;
    first.wait_for_log_times("spool opened", 2).await;
    let told = status(&world, &first);
    assert_eq!(told["process"], first.id().to_string().as_str(), "{told}");
    let before = accepted(&first).len();
    first.wait_for_log_times("\"accepted\"", before + 10).await;

    // Another one was quicker: it has the folder from then on, with all that is in it. Stopped, the first one can't look.
    first.signal("STOP");
    std::fs::remove_file(&lock).unwrap();
    let mut second = world.node_with("producer", &settings, &away);
    second.wait_for_log_times("\"accepted\"", 10).await;
    first.signal("CONT");
    let ended = first.wait().code();
    assert_eq!(ended, Some(78), "{}", first.log());
    first.wait_for_log("is in use by process").await;
    second.kill();

    let mut all = accepted(&first);
    all.extend(accepted(&second));
    let mut consumer = world.node("consumer", "");
    let mut last = world.node("producer", &settings);
    wait_for_all(&world, &all).await;
    assert_eq!(last.stop(), Some(0), "{}", last.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// The same of a folder that was moved away, or emptied, under a running producer.
#[actix_rt::test]
async fn a_producer_whose_folder_or_segment_is_taken_away_goes_on_and_loses_nothing_that_is_on_its_way()
 {
    let (world, web) = (World::new("spool_gone").await, Web::start());
    world.create_topic(3).await;
    let (settings, away) = (sites(&web, 5, JSON), nowhere());
    let mut first = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    first.wait_for_log_times("\"accepted\"", 10).await;
    let spool = world.folder.path().join("data/spool");

    // The segment that is written is removed: it is put back from the open file.
    for file in std::fs::read_dir(&spool).unwrap().flatten() {
        if file.path().extension().is_some_and(|it| it == "spool") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    first.wait_for_log("put back").await;
    let before = accepted(&first);
    first
        .wait_for_log_times("\"accepted\"", before.len() + 10)
        .await;
    let all = accepted(&first);
    let told = status(&world, &first);
    assert!(
        told["results"].as_u64().unwrap() as usize >= all.len(),
        "{told}"
    );

    // The folder is moved away: what is in it stays there, the rest goes to a new one.
    std::fs::rename(&spool, world.folder.path().join("data/moved")).unwrap();
    first.wait_for_log_times("spool opened", 2).await;
    let before = accepted(&first).len();
    first.wait_for_log_times("\"accepted\"", before + 10).await;
    first.kill();
    let all = accepted(&first);
    let mut consumer = world.node("consumer", "");
    let mut second = world.node("producer", &settings);
    let file = world.folder.path().join("moved.yaml");
    std::fs::write(&file, "spool: { dir: data/moved }\n").unwrap();
    let drained = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .args(["spool", "--config", "moved.yaml", "drain"])
        .current_dir(world.folder.path())
        .env("KAFKA_SERVER", required("KAFKA_SERVER"))
        .env("KAFKA_TOPIC", &world.topic)
        .output()
        .unwrap();
    assert!(drained.status.success(), "{drained:?}");
    wait_for_all(&world, &all).await;
    assert_eq!(second.stop(), Some(0), "{}", second.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
