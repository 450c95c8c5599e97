//! What checking costs: many sites each second against a local server, beside bare HTTP exchanges with the same server;
//! then how fast many idle sites start, and what they weigh.

mod process;
#[path = "../support/scripted/mod.rs"]
mod scripted;
#[path = "../support/mod.rs"]
mod support;
mod web;

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use actix::prelude::*;
use actix_rt::Arbiter;
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
};
use serde::Deserialize;
use sitewatch_actors::{
    intake::{Delivery, Intake},
    metrics::Metrics,
    model::Report,
    site::{Sites, Surroundings},
    supervision::{Supervision, Unborn},
    wanted::Wanted,
};
use sitewatch_config::{RestartSettings, Site, SiteOptions, Url};
use slog::Logger;
use tokio::sync::oneshot;

use process::{cpu_time, setting};
use scripted::{Authority, Tls, http, tls::provider};
use support::{Node, World, free_port, required, resident};
use web::{ANSWER, serve};

/// What the program itself has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Set for the process in which the actors are measured alone: how many of them.
const ACTORS_ALONE: &str = "SITEWATCH_BENCH_ACTORS";
const WARM_UP: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Checked {
    slot: String,
    lateness_us: i64,
    outcome: String,
    error: Option<String>,
}

#[actix_rt::main]
async fn main() {
    if let Ok(sites) = std::env::var(ACTORS_ALONE) {
        return actors_alone(sites.parse().unwrap()).await;
    }
    let servers = serve();
    let world = World::new("bench_checker").await;
    world.create_topic(1).await;
    match setting("SITES", 0) {
        0 => {
            for sites in [2_000, 5_000, 10_000] {
                checking(&world, &servers, sites).await;
            }
        }
        sites => checking(&world, &servers, sites).await,
    }
    scaling(&world, &servers).await;
    encrypted(&world).await;
    starting(&world, &servers).await;
    reloading(&world, &servers).await;
    world.drop_all().await;
}

async fn checking(world: &World, servers: &[SocketAddr], sites: u64) {
    let interval = std::env::var("INTERVAL").unwrap_or_else(|_| "1s".to_owned());
    let settings = settings(servers, sites, &interval, free_port());
    let measured = measure(world, &settings);
    let (bare, wrk) = (bare_exchange(servers), wrk(servers[0]));
    let beside = wrk.map_or_else(
        || "wrk is not installed".to_owned(),
        |wrk| {
            let ratio = measured.per_check / wrk;
            format!("wrk {wrk:.0} µs a request (ratio {ratio:.2})")
        },
    );
    println!(
        "{sites} sites every {interval}, for {} s",
        window().as_secs()
    );
    measured.print();
    println!(
        "  CPU a check  {:.0} µs, results to Kafka included; {beside}, a bare blocking client {bare:.0} µs",
        measured.per_check
    );
    let small = small_node(world, servers);
    println!(
        "  memory       {:.1} kB a site ({} MB, with 1 site {} MB)",
        (measured.memory.saturating_sub(small.memory)) as f64 / sites as f64 / 1000.0,
        measured.memory / 1_000_000,
        small.memory / 1_000_000
    );
}

/// How much more two workers do than one: twice the work takes twice the time of free cores, as far as a check costs the same.
async fn scaling(world: &World, servers: &[SocketAddr]) {
    let each = setting("SITES_OF_A_WORKER", 4_000);
    println!("{each} sites a worker every 1s, by one worker and by two");
    let mut costs = Vec::new();
    for workers in [1, 2] {
        let sites = each * workers;
        let settings = settings(servers, sites, "1s", free_port())
            .replace("node: { ", &format!("node: {{ workers: {workers}, "));
        let measured = measure(world, &settings);
        measured.print();
        println!("  CPU a check  {:.0} µs", measured.per_check);
        costs.push(measured.per_check);
    }
    println!(
        "  two workers  {:.2} times the work of one where two cores are free, by what a check costs",
        2.0 * costs[0] / costs[1]
    );
}

/// Checks over TLS, a new handshake each, beside a bare client.
async fn encrypted(world: &World) {
    let sites = setting("TLS_SITES", 500);
    let authority = Authority::new();
    let server = http::ok("all is well\n").serve_tls(Tls::with(&authority.good()));
    let settings = settings(&[server.address()], sites, "1s", free_port())
        .replace("http://", "https://")
        .replace(
            "defaults: { ",
            &format!("defaults: {{ tls: {{ ca: {:?} }}, ", authority.ca_file()),
        );
    let measured = measure(world, &settings);
    let bare = bare_handshake(server.address(), &authority);
    println!(
        "{sites} sites over TLS every 1s, for {} s",
        window().as_secs()
    );
    measured.print();
    println!(
        "  CPU a check  {:.0} µs, results to Kafka included; a bare blocking rustls client {bare:.0} µs (ratio {:.2})",
        measured.per_check,
        measured.per_check / bare
    );
}

fn window() -> Duration {
    Duration::from_secs(setting("SECONDS_MEASURED", 20))
}

/// What a node did in the window, by its own messages.
struct Measured {
    checks: u64,
    up: u64,
    missed: u64,
    /// Microseconds, sorted.
    lateness: Vec<i64>,
    /// CPU time in microseconds.
    per_check: f64,
    /// Bytes at the end.
    memory: u64,
}

impl Measured {
    fn print(&self) {
        let at = |part: f64| {
            let place = (self.checks - 1) as f64 * part;
            self.lateness[place as usize] as f64 / 1000.0
        };
        println!(
            "  checks       {:.0}/s: {} up, {} missed, {} other",
            self.checks as f64 / window().as_secs_f64(),
            self.up,
            self.missed,
            self.checks - self.up - self.missed
        );
        println!(
            "  lateness     p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

fn measure(world: &World, settings: &str) -> Measured {
    let window = window();
    let mut node = world.node("producer", settings);
    std::thread::sleep(WARM_UP);
    let (from, cpu, begun) = (unix_seconds() + 1, cpu_time(node.id()), Instant::now());
    std::thread::sleep(window);
    let cpu = cpu_time(node.id()) - cpu;
    let took = begun.elapsed();
    let memory = resident(node.id());
    // Those of the last slots are on their way.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    let (mut lateness, mut up, mut missed) = (Vec::new(), 0, 0);
    for check in read_all(world) {
        let slot = check.slot.parse::<jiff::Timestamp>().unwrap().as_second();
        if (from..from + i64::try_from(window.as_secs()).unwrap()).contains(&slot) {
            lateness.push(check.lateness_us);
            up += u64::from(check.outcome == "up");
            missed += u64::from(check.error.as_deref() == Some("missed"));
        }
    }
    assert!(!lateness.is_empty(), "no checks\n{}", node.log());
    lateness.sort_unstable();
    let checks = lateness.len() as u64;
    Measured {
        checks,
        up,
        missed,
        lateness,
        per_check: cpu.as_secs_f64() * 1e6
            / (took.as_secs_f64() * checks as f64 / window.as_secs_f64()),
        memory,
    }
}

/// A node of many idle sites, beside one of a single site; and the actors alone, without the reading of settings.
async fn starting(world: &World, servers: &[SocketAddr]) {
    let sites = setting("IDLE_SITES", 10_000);
    let (small, large) = (small_node(world, servers), idle_node(world, servers, sites));
    // A process of its own: in a used heap the actors would seem to cost nothing.
    let alone = Command::new(std::env::current_exe().unwrap())
        .env(ACTORS_ALONE, sites.to_string())
        .output()
        .unwrap();
    assert!(alone.status.success(), "{alone:?}");
    println!("{sites} sites that are checked once an hour");
    println!(
        "  start        {:.0} ms to all actors running, with 1 site {:.0} ms",
        large.start.as_secs_f64() * 1e3,
        small.start.as_secs_f64() * 1e3
    );
    println!(
        "  actors       {}",
        String::from_utf8_lossy(&alone.stdout).trim()
    );
    println!(
        "  process      {:.2} kB a site, with what reading the settings left in the heap ({} MB, with 1 site {} MB)",
        (large.memory.saturating_sub(small.memory)) as f64 / sites as f64 / 1000.0,
        large.memory / 1_000_000,
        small.memory / 1_000_000
    );
}

/// Starts the group of site actors in this process and prints what they cost.
async fn actors_alone(sites: u64) {
    let mut options = SiteOptions::default();
    options.schedule.interval = Duration::from_secs(3600);
    let first = Site::with_options("first", "http://127.0.0.1:1/", options);
    let list: Vec<_> = (0..sites)
        .map(|n| {
            let url = Url::parse(&format!("http://127.0.0.1:1/{n}")).unwrap();
            Arc::new(first.another(&format!("site-{n}"), url))
        })
        .collect();
    let (metrics, log) = (
        Metrics::new().unwrap(),
        Logger::root(slog::Discard, slog::o!()),
    );
    let limits = (usize::MAX, usize::MAX);
    let around = Surroundings::new("here".to_owned(), limits, metrics.clone(), log.clone());
    let around = Arc::new(around);
    let cores = std::thread::available_parallelism().unwrap().get();
    let workers = (0..cores).map(|_| Arbiter::new().handle()).collect();
    let results = Intake::new(Nobody.start().recipient(), 4096);
    let restart = RestartSettings::default();
    let supervision = Arc::new(Supervision {
        kind: "sites",
        log,
        restart: restart.clone(),
        metrics: metrics.clone(),
    });
    let (_stop, stopped) = oneshot::channel();
    let (before, begun) = (resident(std::process::id()), Instant::now());
    actix_rt::spawn(Unborn::default().live(
        move |fault| {
            Sites::new(
                Wanted::fixed(list),
                around,
                results,
                workers,
                restart,
                fault,
            )
        },
        supervision,
        stopped,
    ));
    while metrics.sites.get() < i64::try_from(sites).unwrap() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    // The last of them are counted a moment before they sleep.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cost = resident(std::process::id()) - before;
    println!(
        "{:.2} kB each, all started in {:.0} ms, without settings",
        cost as f64 / sites as f64 / 1000.0,
        took.as_secs_f64() * 1e3
    );
}

/// Where the results of the actors alone go.
struct Nobody;

impl Actor for Nobody {
    type Context = Context<Self>;
}

impl Handler<Delivery<Report>> for Nobody {
    type Result = ();
    fn handle(&mut self, _: Delivery<Report>, _: &mut Self::Context) {}
}

struct Started {
    start: Duration,
    memory: u64,
}

fn small_node(world: &World, servers: &[SocketAddr]) -> Started {
    idle_node(world, servers, 1)
}

fn idle_node(world: &World, servers: &[SocketAddr], sites: u64) -> Started {
    let port = free_port();
    let settings = settings(servers, sites, "1h", port);
    let begun = Instant::now();
    let mut node = world.node("producer", &settings);
    while running_sites(&mut node, port) < sites {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", node.log());
        std::thread::sleep(Duration::from_millis(2));
    }
    let start = begun.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let memory = resident(node.id());
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    Started { start, memory }
}

/// `sitewatch_sites` of the node's metrics; 0 while they are not served.
fn running_sites(node: &mut Node, port: u16) -> u64 {
    assert!(node.runs(), "{}", node.log());
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return 0;
    };
    let mut answer = String::new();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut answer))
        .unwrap();
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("sitewatch_sites "));
    line.map_or(0, |count| count.parse().unwrap())
}

fn settings(servers: &[SocketAddr], sites: u64, interval: &str, port: u16) -> String {
    let mut text = format!(
        "node: {{ listen: '127.0.0.1:{port}', log: {{ level: warning }} }}\ndefaults: {{ interval: {interval}, timeout: 900ms }}\nsites:\n"
    );
    for n in 0..sites {
        let server = servers[n as usize % servers.len()];
        writeln!(text, "  - {{ name: site-{n}, url: 'http://{server}/{n}' }}").unwrap();
    }
    text
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// CPU time in µs of this thread.
fn thread_cpu_time() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}

/// CPU time in µs of a client's thread for one exchange over TLS on a new connection, without resumption.
fn bare_handshake(server: SocketAddr, authority: &Authority) -> f64 {
    const EXCHANGES: usize = 500;
    let mut client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(client);
    let before = thread_cpu_time();
    for _ in 0..EXCHANGES {
        let name = server.ip().into();
        let mut tls = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
        let mut tcp = TcpStream::connect(server).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(b"all is well\n"));
    }
    (thread_cpu_time() - before) / EXCHANGES as f64
}

/// CPU time in µs of a client's thread for one exchange on a new connection: the floor under any checker.
fn bare_exchange(servers: &[SocketAddr]) -> f64 {
    const EXCHANGES: usize = 5_000;
    let before = thread_cpu_time();
    for server in servers.iter().cycle().take(EXCHANGES) {
        let mut stream = TcpStream::connect(server).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, ANSWER);
    }
    (thread_cpu_time() - before) / EXCHANGES as f64
}

/// CPU time in µs of wrk for one request on a new connection, at full speed; `None` if it is not installed.
fn wrk(server: SocketAddr) -> Option<f64> {
    let before = process::children_cpu_time();
    let output = Command::new("wrk")
        .args(["-t1", "-c32", "-d5s", "-H", "Connection: close"])
        .arg(format!("http://{server}/"))
        .output()
        .ok()?;
    let used = process::children_cpu_time() - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let requests = text
        .split(" requests in ")
        .next()?
        .split_whitespace()
        .last()?;
    Some(used.as_secs_f64() * 1e6 / requests.parse::<f64>().ok()?)
}

/// What a reload costs that changes one site in a hundred, again and again.
async fn reloading(world: &World, servers: &[SocketAddr]) {
    let (sites, reloads) = (setting("IDLE_SITES", 10_000), setting("RELOADS", 1_000));
    let port = free_port();
    let one = settings(servers, sites, "1h", port).replace("level: warning", "level: info");
    let other = one
        .lines()
        .enumerate()
        .map(|(n, line)| match n % 100 {
            // A line is a site; another path is another site.
            50 => line.replace("' }", "/changed' }") + "\n",
            _ => line.to_owned() + "\n",
        })
        .collect::<String>();
    assert_ne!(one, other);
    let mut node = world.node("producer", &one);
    while running_sites(&mut node, port) < sites {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut times, mut early) = (Vec::new(), 0);
    for reload in 0..reloads {
        fs::write(&node.file, if reload % 2 == 0 { &other } else { &one }).unwrap();
        let begun = Instant::now();
        node.signal("HUP");
        let wanted = usize::try_from(reload).unwrap() + 1;
        while node.log().matches("sites reloaded").count() < wanted {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", node.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        times.push(begun.elapsed());
        if reload == reloads / 10 {
            early = resident(node.id());
        }
    }
    let late = resident(node.id());
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{reloads} reloads of {sites} sites, each time another one in a hundred of them");
    println!(
        "  from SIGHUP to the end: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
        at(50),
        at(99),
        at(100)
    );
    println!(
        "  memory after a tenth of them {} MB, at the end {} MB",
        early / 1_000_000,
        late / 1_000_000
    );
}

/// All messages of the topic.
fn read_all(world: &World) -> Vec<Checked> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", required("KAFKA_SERVER"))
        .set("group.id", "bench")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&world.topic, 0, rdkafka::Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let mut checks = Vec::new();
    loop {
        match consumer
            .poll(Duration::from_secs(10))
            .expect("the topic answers")
        {
            Ok(message) => checks.push(serde_json::from_slice(message.payload().unwrap()).unwrap()),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return checks,
            Err(problem) => panic!("{problem}"),
        }
    }
}
