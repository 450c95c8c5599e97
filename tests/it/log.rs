//! A log that nobody can read: closed, on a full disk, or in a pipe whose reader stands still. Checks, deliveries and signals go
//! on, and what is lost is counted.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{
    Node, PATIENCE, Web, World, free_port, message, metric, page, wait_for_metric,
};

const LOST: &str = "sitewatch_log_lines_lost_total";
const DELIVERED: &str = "sitewatch_messages_delivered_total";
const TOLD: &str = "log lines were lost";

/// So many sites fill a pipe with debug lines within seconds.
fn settings(web: &Web, port: u16, node: &str) -> String {
    let url = web.url("/up");
    let site = |n| format!("  - {{ name: site-{n}, url: '{url}' }}\n");
    let sites: String = (0..250).map(site).collect();
    format!(
        "node: {{ listen: '127.0.0.1:{port}', log: {{ level: debug }}, {node} }}
defaults: {{ interval: 1s, timeout: 900ms }}\nsites:\n{sites}"
    )
}

async fn serves(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing serves on {port}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until lines are lost, and shows that results are delivered all the same.
async fn delivers_without_a_log(port: u16) {
    serves(port).await;
    wait_for_metric(port, LOST, 1).await;
    let before = metric(port, DELIVERED);
    wait_for_metric(port, DELIVERED, before + 500).await;
    assert!(page(port, "/healthz").contains("200 OK"));
}

/// A pipe whose reader reads nothing until it is asked to.
struct Stalled {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Stalled {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self { reader, writer }
    }

    fn end(&self) -> Stdio {
        self.writer.try_clone().unwrap().into()
    }

    /// Reads on until the text has come, and returns all that was read.
    fn read_until(self, text: &str) -> String {
        drop(self.writer);
        let (mut reader, deadline) = (self.reader, Instant::now() + PATIENCE);
        let (mut all, mut part) = (Vec::new(), [0; 65536]);
        loop {
            let read = reader.read(&mut part).unwrap();
            all.extend_from_slice(&part[..read]);
            let so_far = String::from_utf8_lossy(&all);
            if so_far.contains(text) && so_far.ends_with('\n') {
                return so_far.into_owned();
            }
            assert!(read > 0 && Instant::now() < deadline, "never {text:?}");
        }
    }
}

/// Ends the node by two signals, of which the second comes while the first is being done.
fn ends_at_once_by_a_second(mut node: Node, signal: &str, code: i32) {
    let begun = Instant::now();
    // Two that come before the first is taken are one.
    while node.runs() {
        node.signal(signal);
        assert!(begun.elapsed() < Duration::from_secs(10), "it runs on");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(node.wait().code(), Some(code));
}

#[actix_rt::test]
async fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let (world, web, port) = (World::new("log_closed").await, Web::start(), free_port());
    world.create_topic(1).await;
    let closed = Stalled::new().end();
    let mut node = world.node_logging_to(closed, "producer", &settings(&web, port, ""), &[]);
    delivers_without_a_log(port).await;
    assert_eq!(node.stop(), Some(0));
}

#[actix_rt::test]
async fn a_log_on_a_full_disk_stops_nothing() {
    let (world, web, port) = (World::new("log_disk").await, Web::start(), free_port());
    world.create_topic(1).await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut node = world.node_logging_to(full, "producer", &settings(&web, port, ""), &[]);
    delivers_without_a_log(port).await;
    assert_eq!(node.stop(), Some(0));
}

#[actix_rt::test]
async fn a_collector_that_stands_still_stops_nothing_and_hears_what_it_has_lost() {
    let (world, web, port) = (World::new("log_stalled").await, Web::start(), free_port());
    world.create_topic(1).await;
    let stalled = Stalled::new();
    let sites = settings(&web, port, "");
    let mut node = world.node_logging_to(stalled.end(), "producer", &sites, &[]);
    delivers_without_a_log(port).await;
    let lost = metric(port, LOST);
    let read = tokio::task::spawn_blocking(|| stalled.read_until(TOLD));
    let read = read.await.unwrap();
    let line = read.lines().find(|line| line.contains(TOLD)).unwrap();
    let told: u64 = line.rsplit("lines: ").next().unwrap().parse().unwrap();
    assert!(told >= lost, "{told} of {lost}: {line}");
    // The reader has gone, and the node goes on.
    delivers_without_a_log(port).await;
    assert_eq!(node.stop(), Some(0));
}

#[actix_rt::test]
async fn a_log_that_can_be_written_again_says_how_many_lines_it_lacks() {
    let (world, web, port) = (World::new("log_again").await, Web::start(), free_port());
    world.create_topic(1).await;
    let path = world.folder.path().join("collector");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // Opened for both, which waits for nobody; then there is a writer only, and no reader.
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    let sites = settings(&web, port, "").replace("level: debug", "level: info, format: json");
    let mut node = world.node_logging_to(writer, "producer", &sites, &[]);
    drop(both);
    serves(port).await;
    // Each reload is a line or two.
    let deadline = Instant::now() + PATIENCE;
    while metric(port, LOST) == 0 {
        assert!(Instant::now() < deadline, "nothing is lost");
        node.signal("HUP");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut reader = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
        .unwrap();
    let mut text = String::new();
    while !text.contains(TOLD) {
        assert!(Instant::now() < deadline, "never {TOLD:?} in\n{text}");
        node.signal("HUP");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut part = [0; 65536];
        match reader.read(&mut part) {
            Ok(read) => text += &String::from_utf8_lossy(&part[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    let line = text.lines().find(|line| line.contains(TOLD)).unwrap();
    let told: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(told["lines"], metric(port, LOST), "{text}");
    assert_eq!(node.stop(), Some(0));
}

#[actix_rt::test]
async fn panics_and_both_outputs_in_a_stalled_pipe_stop_nothing() {
    let (world, web, port) = (World::new("log_panics").await, Web::start(), free_port());
    world.create_topic(1).await;
    let stalled = Stalled::new();
    let restart = "restart: { max: 1000, within: 60s, base: 10ms, cap: 100ms }";
    let sites = settings(&web, port, restart).replace("name: site-0,", "name: failing,");
    let panics = [
        ("FAILPOINTS", "site::check::named=panic(boom)"),
        ("RUST_BACKTRACE", "1"),
    ];
    let mut node = world.node_logging_to(stalled.end(), "producer", &sites, &panics);
    serves(port).await;
    delivers_without_a_log(port).await;
    let failures = "sitewatch_actor_restarts_total";
    let before = metric(port, failures);
    wait_for_metric(port, failures, before + 2).await;
    assert_eq!(node.stop(), Some(0));
    drop(stalled);

    // Everything in one process: what it shows of its results goes the same way.
    let (stalled, port) = (Stalled::new(), free_port());
    let mut command = world.program(&["--role", "standalone", "--watch", "--config", "all.yaml"]);
    std::fs::write(
        world.folder.path().join("all.yaml"),
        settings(&web, port, ""),
    )
    .unwrap();
    let mut child = command
        .env("KAFKA_SERVER", &world.kafka)
        .env("KAFKA_TOPIC", &world.topic)
        .env("SITEWATCH__DEFAULTS__ALLOW_PRIVATE", "true")
        .stdout(stalled.end())
        .stderr(stalled.end())
        .spawn()
        .unwrap();
    delivers_without_a_log(port).await;
    wait_for_metric(port, "sitewatch_rows_written_total", 500).await;
    crate::support::signals::send(child.id(), "TERM").unwrap();
    let ended = crate::support::ends(&mut child, String::new).await;
    assert_eq!(ended, Some(0));
}

#[actix_rt::test]
async fn a_panic_is_a_line_of_the_log() {
    let (world, web, port) = (World::new("log_panic").await, Web::start(), free_port());
    world.create_topic(1).await;
    let sites = settings(&web, port, "")
        .replace("name: site-0,", "name: failing,")
        .replace("level: debug", "level: info, format: json");
    let panics = [("FAILPOINTS", "site::check::named=1*panic(boom)->off")];
    let mut node = world.node_with("producer", &sites, &panics);
    node.wait_for_log("actor failed, restarting").await;
    assert_eq!(node.stop(), Some(0));
    let log = node.log();
    let lines = log.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let told = lines.filter(|line| {
        line["msg"]
            .as_str()
            .is_some_and(|msg| msg.starts_with("panicked"))
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{log}");
    assert_eq!(told[0]["level"], "ERROR");
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(reason.contains("boom"), "{reason}");
}

#[actix_rt::test]
async fn a_second_signal_ends_a_node_whose_log_stands_still() {
    let (world, web, port) = (World::new("log_signals").await, Web::start(), free_port());
    let nowhere = format!("127.0.0.1:{}", free_port());
    let stalled = Stalled::new();
    // What is neither on the disk nor in Kafka is worth the whole time.
    let environment = [
        ("KAFKA_SERVER", nowhere.as_str()),
        ("FAILPOINTS", "publisher::commit=600*off->return"),
    ];
    let sites = settings(&web, port, "drain_timeout: 10min");
    let node = world.node_logging_to(stalled.end(), "producer", &sites, &environment);
    serves(port).await;
    wait_for_metric(port, LOST, 1).await;
    wait_for_metric(port, "sitewatch_spool_errors_total", 1).await;
    ends_at_once_by_a_second(node, "TERM", 143);
}

#[actix_rt::test]
async fn a_second_signal_ends_a_node_whose_threads_stand_still() {
    let (world, web) = (World::new("second_blocked").await, Web::start());
    world.create_topic(1).await;
    for (role, point, seen) in [
        // The main thread, with publisher and writers; a worker; the reader of Kafka.
        ("producer", "publisher::publish", "sitewatch_sites"),
        ("producer", "site::check::named", "sitewatch_checks_total"),
        (
            "consumer",
            "writer::store",
            "sitewatch_intake_permits_in_use{actor=\"writer\"}",
        ),
        ("consumer", "consumer::turn", "sitewatch_postgres_up"),
    ] {
        world.produce([message("a", 1).to_string().into_bytes()]);
        let (port, point) = (free_port(), format!("{point}=pause"));
        let sites =
            settings(&web, port, "drain_timeout: 10min").replace("name: site-0,", "name: failing,");
        let node = world.node_with(role, &sites, &[("FAILPOINTS", &point)]);
        serves(port).await;
        wait_for_metric(port, seen, 1).await;
        ends_at_once_by_a_second(node, "INT", 130);
    }
}
