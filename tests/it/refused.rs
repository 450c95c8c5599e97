//! A request that Kafka refuses: each of its messages is told the same, whosever fault it was.

use std::{fs, process::Output};

use sitewatch_actors::publisher::spool::{Limits, RealDisk, Spool};

use crate::support::{World, message};

/// What the topic takes in one request, in bytes: some hundred ordinary results are ten times as much.
const TAKES: usize = 20_000;

fn spool(world: &World, arguments: &[&str]) -> Output {
    let dir = world.folder.path().join("spool");
    let file = world.folder.path().join("sitewatch.yaml");
    let settings = format!(
        "spool: {{ dir: '{}' }}\nkafka: {{ brokers: '{}', topic: {}, options: {{ compression.type: none }} }}\n",
        dir.display(),
        world.kafka,
        world.topic
    );
    fs::write(file, settings).unwrap();
    let arguments = [&["spool"], arguments].concat();
    world.program(&arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Fills the spool with ordinary results and two that are larger than the topic takes.
fn fill(world: &World) {
    let disk = RealDisk::open(&world.folder.path().join("spool")).unwrap();
    let (mut spool, _) = Spool::open(disk, Limits::default()).unwrap();
    let mut all: Vec<_> = (0..800).map(|n| message("small", n)).collect();
    for (n, place) in [(0, 100), (1, 700)] {
        let mut large = message("large", n);
        large["later"] = "x".repeat(TAKES * 2).into();
        all.insert(place, large);
    }
    let all: Vec<_> = all
        .iter()
        .map(|it| (it["site"].as_str().unwrap(), it.to_string()))
        .collect();
    let records: Vec<_> = all
        .iter()
        .map(|(site, payload)| (site.as_bytes(), payload.as_bytes()))
        .collect();
    spool.commit(&records, 0).unwrap();
}

#[actix_rt::test]
async fn only_what_was_alone_in_its_request_is_refused_for_good_and_is_sent_again_by_a_command() {
    let world = World::new("refused").await;
    let bytes = TAKES.to_string();
    let properties = [("max.message.bytes", bytes.as_str())];
    world.create_topic_with(1, &properties).await;
    fill(&world);
    let drained = spool(&world, &["drain"]);
    assert!(drained.status.success(), "{drained:?}");
    let listed = told(&spool(&world, &["refused", "list"]));
    let lines: Vec<_> = listed.lines().collect();
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line.starts_with("large  40")),
        "{listed}"
    );
    let json = told(&spool(&world, &["refused", "list", "--json"]));
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["site"], "large");
    let mut consumer = world.node("consumer", "postgres: { batch: { max_age: 50ms } }\n");
    let rows = "SELECT count(*) FROM checks WHERE site = 'small'";
    world.wait_for("all of the others", rows, 800).await;

    // The topic takes more now.
    world.alter_topic(&[("max.message.bytes", "1000000")]).await;
    let refused = spool(&world, &["refused", "discard"]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    let replayed = told(&spool(&world, &["refused", "replay"]));
    assert!(
        replayed.starts_with("2 results are in the spool again"),
        "{replayed}"
    );
    let drained = spool(&world, &["drain"]);
    assert!(drained.status.success(), "{drained:?}");
    let rows = "SELECT count(*) FROM checks WHERE site = 'large'";
    world.wait_for("the large ones", rows, 2).await;
    let listed = told(&spool(&world, &["refused", "list"]));
    assert_eq!(listed, "Kafka has refused nothing\n");
    assert_eq!(
        told(&spool(&world, &["refused", "discard", "--yes"])),
        "0 results are thrown away\n"
    );
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
