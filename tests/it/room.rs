//! Outages that last: what grows, what does not, and what happens when there is no more room. Records are made large, so that
//! seconds do for hours.

use std::{fs, path::PathBuf, time::Duration};

use crate::accepted::{accepted, accepted_in_order, rows, wait_for_accepted, wait_for_all};
use crate::overtaken::overtaken;
use crate::small_disk;
use crate::support::{Node, PATIENCE, Web, World, free_port, message, metric, required, resident};
use crate::tcp_proxy::TcpProxy;
use tokio::{runtime::Handle, time::sleep};

/// Sites each second, each with a message of 8 kB.
fn sites(web: &Web, count: u32, more: &str) -> String {
    sized_sites(web, count, 32, more)
}

/// Sites each second, each with a message of so many quarters of 1 kB.
fn sized_sites(web: &Web, count: u32, quarters: u32, more: &str) -> String {
    let mut text = format!(
        "kafka: {{ queue: {{ max_messages: 500, max_kbytes: 1024 }}, options: {{ reconnect.backoff.max.ms: 500 }} }}
defaults: {{ interval: 1s, timeout: 900ms, allow_private: true, labels: {{ {} }} }}
{more}
sites:\n",
        (0..quarters)
            .map(|n| format!("pad{n}: '{}'", "x".repeat(250)))
            .collect::<Vec<_>>()
            .join(", ")
    );
    for n in 0..count {
        text += &format!("  - {{ name: site-{n}, url: '{}' }}\n", web.url("/up"));
    }
    text
}

/// From now on each site is checked every 20 seconds: no machine is too slow to deliver faster than that.
async fn slow_down(producer: &Node, settings: &str) {
    let every_second = "interval: 1s, timeout: 900ms";
    assert!(settings.contains(every_second));
    let slower = settings.replace(every_second, "interval: 20s, timeout: 5s");
    fs::write(&producer.file, slower).unwrap();
    producer.signal("HUP");
    producer.wait_for_log("settings reloaded").await;
}

const NODE: &str = "data_dir: data, drain_timeout: 170s, log: { level: debug, format: json }";

/// A broker's address at which nobody listens until it is led to the real one, which tells its own address then.
struct Gate(u16);

impl Gate {
    fn closed() -> Self {
        Self(free_port())
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.0)
    }

    fn open(&self) -> TcpProxy {
        let broker = required("KAFKA_SERVER").replace("localhost", "127.0.0.1");
        TcpProxy::start(&Handle::current(), self.0, broker.parse().unwrap()).unwrap()
    }
}

/// What a producer has done and holds, in checks and bytes.
#[derive(Debug)]
struct Figures {
    checks: u64,
    spooled: u64,
    memory: u64,
}

/// Waits for figures that are `enough`.
async fn figures(port: u16, producer: &Node, enough: impl Fn(&Figures) -> bool) -> Figures {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let now = Figures {
            checks: metric(port, "sitewatch_checks_total"),
            spooled: metric(port, "sitewatch_spool_bytes"),
            memory: resident(producer.id()),
        };
        if enough(&now) {
            return now;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[actix_rt::test]
async fn in_a_long_outage_the_spool_grows_and_memory_does_not() {
    let (world, web) = (World::new("long_outage").await, Web::start());
    world.create_topic(3).await;
    let (gate, port) = (Gate::closed(), free_port());
    let node = format!("node: {{ {NODE}, listen: '127.0.0.1:{port}' }}");
    // Few and large: what a busy machine makes wait in memory stays far below what is spooled.
    let settings = sized_sites(&web, 50, 128, &node);
    let away = gate.address();
    let mut producer = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    producer.wait_for_log("Kafka can't be reached").await;
    // By then what is made once, at the start, is there.
    let before = figures(port, &producer, |now| now.checks > 200).await;
    // A slow disk makes results wait in memory for a while, however much is spooled: what grew with the spool would stay above half of it.
    let after = figures(port, &producer, |now| {
        let spooled = now.spooled.saturating_sub(before.spooled);
        now.checks > before.checks + 500
            && spooled > 24 << 20
            && now.memory.saturating_sub(before.memory) < spooled / 2
    })
    .await;
    println!("{before:?} {after:?}");

    let mut consumer = world.node("consumer", "");
    let back_at = accepted(&producer).into_iter().map(|it| it.1).max();
    let _open = gate.open();
    wait_for_all(&world, &accepted(&producer)).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    wait_for_all(&world, &accepted(&producer)).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
    let overtaken = overtaken(&world, &back_at.unwrap());
    println!("{overtaken} overtaken");
    assert!(overtaken > 100, "fresh results stood behind the backlog");
}

#[actix_rt::test]
async fn a_full_spool_that_blocks_turns_checks_into_missed_ones_and_loses_nothing() {
    let (world, web) = (World::new("full_block").await, Web::start());
    world.create_topic(3).await;
    let (gate, port) = (Gate::closed(), free_port());
    let more =
        format!("node: {{ {NODE}, listen: '127.0.0.1:{port}' }}\nspool: {{ max_bytes: 16MiB }}");
    let settings = sites(&web, 400, &more);
    let away = gate.address();
    let mut producer = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    producer.wait_for_log("the spool is full").await;
    // What is in memory fills up too.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while metric(port, "sitewatch_intake_permits_in_use{actor=\"publisher\"}") < 4096 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the intake does not fill"
        );
        sleep(Duration::from_millis(100)).await;
    }
    let before = accepted(&producer).len();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(accepted(&producer).len(), before, "nothing counts any more");
    let mut consumer = world.node("consumer", "");
    let _open = gate.open();
    let missed = "SELECT count(*) FROM checks WHERE error = 'missed'";
    world.wait_for("missed slots", missed, 400).await;
    wait_for_accepted(&producer, accepted(&producer).len() + 400).await;
    // A busy machine may check as fast as it delivers, and be full for as long: at the end nothing comes after it.
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    producer.wait_for_log("the spool takes results again").await;
    wait_for_all(&world, &accepted(&producer)).await;
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.assert_complete(1.0).await;
    let told = producer.log().matches("the spool is full").count();
    // While it drains it may be full again for a moment.
    assert!(told <= 10, "told {told} times, for thousands of results");
}

#[actix_rt::test]
async fn a_full_spool_that_drops_the_oldest_says_how_many_and_keeps_the_others() {
    let (world, web) = (World::new("full_drop").await, Web::start());
    world.create_topic(3).await;
    let (gate, port) = (Gate::closed(), free_port());
    let more = format!(
        "node: {{ {NODE}, listen: '127.0.0.1:{port}' }}\nspool: {{ max_bytes: 16MiB, when_full: drop_oldest }}"
    );
    let settings = sites(&web, 400, &more);
    let away = gate.address();
    let mut producer = world.node_with("producer", &settings, &[("KAFKA_SERVER", &away)]);
    producer
        .wait_for_log_times("the oldest results were dropped", 3)
        .await;
    let mut consumer = world.node("consumer", "");
    let _open = gate.open();
    producer.wait_for_log("Kafka answers again").await;
    slow_down(&producer, &settings).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while metric(port, "sitewatch_spool_results") > 800 {
        assert!(tokio::time::Instant::now() < deadline, "it does not drain");
        sleep(Duration::from_millis(100)).await;
    }
    let lost = metric(port, "sitewatch_messages_lost_total");
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let (accepted, stored) = (accepted(&producer), rows(&world).await);
    let missing = accepted.difference(&stored).count() as u64;
    println!(
        "{} accepted, {lost} told lost, {missing} not stored",
        accepted.len()
    );
    // Among the lost are the announcements of 400 sites, which come first and again when they are slowed down; and what was on its
    // way to Kafka when it was dropped may have arrived all the same: a queue of 1,024 kB.
    assert!(
        missing > 0 && missing <= lost && missing + 2 * 400 + 150 >= lost,
        "{lost} told lost, {missing} not stored"
    );
    let in_order = accepted_in_order(&producer);
    let last = in_order
        .iter()
        .rposition(|it| !stored.contains(it))
        .unwrap() as u64;
    // Whole segments go, of which a part may have been delivered: about 500 records each.
    assert!(
        last < missing + 1500,
        "only the oldest are dropped: {missing}, up to number {last}"
    );
}

/// A small file system that goes with the test.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        small_disk::unmount(&self.0);
    }
}

#[actix_rt::test]
async fn a_disk_that_is_full_and_one_that_is_read_only_are_told_and_used_again_when_they_can_be() {
    let (world, web) = (World::new("small_disk").await, Web::start());
    let disk = SmallDisk(world.folder.path().join("small"));
    if !small_disk::mount(&disk.0, "24m").unwrap() {
        println!("skipped: mounting a file system is not allowed here");
        return;
    }
    world.create_topic(3).await;
    let more = format!("node: {{ {NODE} }}\nspool: {{ dir: small/spool }}");
    let settings = sites(&web, 20, &more);
    let mut producer = world.node("producer", &settings);
    let mut consumer = world.node("consumer", "");
    let stored = "SELECT count(*) FROM checks";
    world.wait_for("rows", stored, 60).await;

    small_disk::fill(&disk.0).unwrap();
    producer.wait_for_log("No space left on device").await;
    let now = world.number(stored).await;
    world
        .wait_for("rows by way of memory", stored, now + 60)
        .await;
    small_disk::free(&disk.0).unwrap();
    let again = "the spool takes results again";
    producer.wait_for_log(again).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    wait_for_all(&world, &accepted(&producer)).await;
    world.assert_complete(1.0).await;
    let log = producer.log();
    let told = log.matches("the spool can't be written").count();
    assert!((1..=2).contains(&told), "told {told} times\n{log}");

    assert!(small_disk::run("mount", &["-o", "remount,ro"], &disk.0));
    let mut producer = world.node("producer", &settings);
    producer.wait_for_log("Read-only file system").await;
    let now = world.number(stored).await;
    world
        .wait_for("rows by way of memory", stored, now + 60)
        .await;
    assert!(small_disk::run("mount", &["-o", "remount,rw"], &disk.0));
    producer.wait_for_log(again).await;
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    wait_for_all(&world, &accepted(&producer)).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let log = producer.log();
    let told = log.matches("the spool can't be written").count();
    assert!((1..=2).contains(&told), "told {told} times\n{log}");
}

#[actix_rt::test]
async fn without_postgresql_a_consumer_keeps_its_partitions_and_its_size() {
    let world = World::new("no_database").await;
    world.create_topic(4).await;
    let port = free_port();
    let (server, url) = world.database_by_way_of(port);
    let link = TcpProxy::start(&Handle::current(), port, server).unwrap();
    let settings = "kafka: { options: { session.timeout.ms: 6000, heartbeat.interval.ms: 1000 } }
postgres: { batch: { max_rows: 1000, max_age: 100ms } }\n";
    let mut consumer = world.node_with("consumer", settings, &[("POSTGRES_URL", &url)]);
    let messages: Vec<_> = (0..40_000)
        .map(|n| {
            let message = message(&format!("site {}", n % 50), n);
            message.to_string().into_bytes()
        })
        .collect();
    world.produce(messages[..5_000].iter().cloned());
    let stored = "SELECT count(*) FROM check_result";
    world.wait_for("rows", stored, 5_000).await;

    link.set(|link| {
        link.cuts += 1;
        link.refuses = true;
    });
    let before = resident(consumer.id());
    world.produce(messages[5_000..].iter().cloned());
    // All of it some times more, which the key absorbs.
    for _ in 0..4 {
        world.produce(messages.iter().cloned());
    }
    consumer
        .wait_for_log("the writer has no room, pausing")
        .await;
    // Twice as long as the group waits for a member that is silent.
    sleep(Duration::from_secs(12)).await;
    let grown = resident(consumer.id()).saturating_sub(before);
    println!("memory has grown by {grown} bytes");
    // Half of what came in: it is not kept in memory.
    assert!(grown < 24 << 20, "by {grown}");
    link.set(|link| link.refuses = false);
    world.wait_for("all rows", stored, 40_000).await;
    let offsets = "SELECT sum(next)::int8 FROM kafka_offset";
    world.wait_for("all offsets", offsets, 200_000).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(world.number(stored).await, 40_000);
    let log = consumer.log();
    assert_eq!(log.matches("partitions assigned").count(), 1, "{log}");
    assert!(log.matches("partitions revoked").count() <= 1, "{log}");
}
