//! How long a result is on its way: from the end of its check, over spool, Kafka and consumer, to its committed row. Then how
//! fast a producer's spool that has filled in an outage drains into PostgreSQL.
//!
//! When a row was committed is what PostgreSQL itself notes (`track_commit_timestamp`). A check's end is its slot, its
//! lateness (in whole milliseconds: up to one is counted too much) and its total time.

mod ordinary;
mod process;
#[path = "../support/mod.rs"]
mod support;
mod web;

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use ordinary::ordinary;
use process::{cpu_time, setting};
use sitewatch_actors::{
    model::Slot,
    publisher::spool::{Limits, RealDisk, Spool},
};
use support::{World, resident};

const WARM_UP: Duration = Duration::from_secs(4);

/// The settings that make a result wait for others.
#[derive(Clone, Copy)]
struct Waits {
    name: &'static str,
    sync_ms: u64,
    linger_ms: u64,
    age_ms: u64,
}

const QUICK: Waits = Waits {
    name: "quick",
    sync_ms: 10,
    linger_ms: 5,
    age_ms: 20,
};

const RUNS: [Waits; 5] = [
    QUICK,
    Waits {
        name: "spool.sync_interval 50ms",
        sync_ms: 50,
        ..QUICK
    },
    Waits {
        name: "linger.ms 50",
        linger_ms: 50,
        ..QUICK
    },
    Waits {
        name: "postgres.batch.max_age 1s",
        age_ms: 1000,
        ..QUICK
    },
    Waits {
        name: "all of these, the defaults",
        sync_ms: 50,
        linger_ms: 50,
        age_ms: 1000,
    },
];

#[actix_rt::main]
async fn main() {
    let servers = web::serve();
    let sites = setting("SITES", 1000);
    println!("{sites} checks a second, from the end of a check to its committed row");
    println!(
        "  waits                          p50 ms   p99 ms   max ms   rows    CPU µs a row: producer, consumer   transactions/s"
    );
    for waits in RUNS {
        latency(&servers, sites, waits).await;
    }
    backlog(setting("BACKLOG", 1_000_000)).await;
}

async fn latency(servers: &[SocketAddr], sites: u64, waits: Waits) {
    let world = World::new("bench_pipeline").await;
    world.create_topic(4).await;
    let mut settings = format!(
        "node: {{ log: {{ level: warning }}, data_dir: '{}' }}
spool: {{ sync_interval: {}ms }}
kafka: {{ options: {{ linger.ms: {} }} }}
postgres: {{ batch: {{ max_age: {}ms }} }}
defaults: {{ interval: 1s, timeout: 900ms, allow_private: true }}
sites:
",
        world.folder.path().join("data").display(),
        waits.sync_ms,
        waits.linger_ms,
        waits.age_ms,
    );
    for n in 0..sites {
        let server = servers[n as usize % servers.len()];
        // Writing to a String can't fail.
        let _ = writeln!(
            settings,
            "  - {{ name: site-{n}, url: 'http://{server}/' }}"
        );
    }
    let mut consumer = world.node("consumer", &settings);
    let mut producer = world.node("producer", &settings);
    world
        .wait_for("rows", "SELECT count(*) FROM check_result", 1)
        .await;
    tokio::time::sleep(WARM_UP).await;
    let commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let from = Slot::from_system_time(SystemTime::now());
    let (begun, commits_before) = (Instant::now(), world.number(commits).await);
    let cpu = (cpu_time(producer.id()), cpu_time(consumer.id()));
    tokio::time::sleep(Duration::from_secs(setting("SECONDS_MEASURED", 15))).await;
    let until = Slot::from_system_time(SystemTime::now());
    let cpu = (
        cpu_time(producer.id()) - cpu.0,
        cpu_time(consumer.id()) - cpu.1,
    );
    let per_second =
        (world.number(commits).await - commits_before) as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let sql = format!(
        "WITH way AS (
            SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - slot)::float8 * 1000 - lateness_ms - total_us / 1000.0::float8 AS ms
              FROM check_result WHERE outcome = 0 AND slot >= '{from}' AND slot < '{until}')
         SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms), max(ms), count(*)
           FROM way"
    );
    let row = &world.query(&sql).await[0];
    let [p50, p99, max] = [0, 1, 2].map(|n| row.get::<_, f64>(n));
    let rows: i64 = row.get(3);
    let per_row = |cpu: Duration| cpu.as_secs_f64() * 1e6 / rows as f64;
    println!(
        "  {:<28}   {p50:6.0}   {p99:6.0}   {max:6.0}   {rows}   {:.0}, {:.0}   {per_second:.0}",
        waits.name,
        per_row(cpu.0),
        per_row(cpu.1)
    );
    world.drop_all().await;
}

/// Fills a spool, as an outage does, and lets a producer and a consumer store it.
async fn backlog(results: u64) {
    let world = World::new("bench_backlog").await;
    world.create_topic(4).await;
    let folder = world.folder.path().join("spool");
    let bytes = fill(&folder, results);
    println!(
        "a spool of {results} results ({} MB) into PostgreSQL",
        bytes / 1_000_000
    );
    let settings = format!(
        "node: {{ log: {{ level: warning }} }}
spool: {{ dir: '{}', max_bytes: 1TiB }}
defaults: {{ interval: 1s, timeout: 900ms, allow_private: true }}
sites: [{{ name: fresh, url: 'http://{}/' }}]
",
        folder.display(),
        web::serve()[0]
    );
    let begun = Instant::now();
    let mut producer = world.node("producer", &settings);
    let mut consumer = world.node("consumer", &settings);
    let stored = "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset";
    let mut memory = (0, 0);
    while world.number(stored).await < results.cast_signed() {
        memory.0 = memory.0.max(resident(producer.id()));
        memory.1 = memory.1.max(resident(consumer.id()));
        assert!(producer.runs() && consumer.runs(), "{}", world.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    let late = "SELECT coalesce(max(extract(epoch FROM pg_xact_commit_timestamp(c.xmin) - slot)), 0)::float8
                  FROM check_result c JOIN site USING (site_id) WHERE name = 'fresh'";
    let late: f64 = world.query(late).await[0].get(0);
    let rate = results as f64 / took;
    println!(
        "  {rate:.0} results/s, with the start of both; at this rate a day of 10,000 sites (14.4 M) takes {:.0} s",
        14.4e6 / rate
    );
    println!(
        "  memory at most: producer {} MB, consumer {} MB; fresh results were in the database after {late:.1} s at most",
        memory.0 / 1_000_000,
        memory.1 / 1_000_000
    );
    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.drop_all().await;
}

/// Writes results into a spool; gives their bytes.
fn fill(folder: &std::path::Path, results: u64) -> u64 {
    const SITES: u64 = 10_000;
    let limits = Limits {
        max_bytes: 1 << 40,
        ..Limits::default()
    };
    let disk = RealDisk::open(folder).unwrap();
    let (mut spool, _) = Spool::open(disk, limits).unwrap();
    let now = SystemTime::now();
    let mut written = 0;
    while written < results {
        let count = (results - written).min(5000);
        let batch: Vec<(String, Vec<u8>)> = (written..written + count)
            .map(|n| ordinary(n, results, SITES, now))
            .collect();
        let records: Vec<(&[u8], &[u8])> = batch
            .iter()
            .map(|(key, payload)| (key.as_bytes(), payload.as_slice()))
            .collect();
        spool.commit(&records, 0).unwrap();
        written += count;
    }
    spool.bytes()
}
