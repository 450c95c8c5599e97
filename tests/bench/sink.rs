//! How fast the consumer stores a backlog, beside psql's `\copy` of the same rows into the same empty tables; what housekeeping
//! takes of that; and what several writers do for a database that is far away.

mod ordinary;
mod process;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tcp_proxy.rs"]
#[allow(dead_code, reason = "only the delay is of use here")]
mod tcp_proxy;

use std::{
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use ordinary::ordinary;
use process::{cpu_time, setting};
use support::{World, free_port, resident};
use tcp_proxy::TcpProxy;
use tokio::runtime::Handle;

const SITES: u64 = 500;
const PARTITIONS: i32 = 3;
const COLUMNS: &str =
    "slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket";

/// One consumer's work.
struct Sunk {
    /// From the first stored batch to the last row.
    rate: f64,
    /// From the start of the process to the last row.
    overall: f64,
    cpu: Duration,
    resident: u64,
}

#[actix_rt::main]
async fn main() {
    let (messages, runs) = (setting("MESSAGES", 1_000_000), setting("RUNS", 3));
    let world = World::new("bench_sink").await;
    world.create_topic(PARTITIONS).await;
    let start = Instant::now();
    let now = SystemTime::now();
    world.produce_keyed((0..messages).map(|n| ordinary(n, messages, SITES, now)));
    println!(
        "preloaded {messages} messages of {SITES} sites in {PARTITIONS} partitions in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    println!(
        "run   consumer rows/s   with its start   \\copy rows/s   ratio   CPU µs a row   memory"
    );
    for run in 1..=runs {
        empty(&world).await;
        let sunk = sink(&world, messages, setting("WRITERS", 1), None, "").await;
        let copied = copy(&world, messages).await;
        println!(
            "{run:3}   {:15.0}   {:14.0}   {copied:12.0}   {:5.2}   {:12.2}   {:3} MB",
            sunk.rate,
            sunk.overall,
            sunk.rate / copied,
            sunk.cpu.as_secs_f64() * 1e6 / messages as f64,
            sunk.resident / 1_000_000
        );
    }
    beside_housekeeping(&world, messages, runs).await;
    far_away(&world, messages).await;
    world.drop_all().await;
}

/// A history that gives housekeeping work all the while: thirty partitions that are to be dropped, and two weeks of checks every five
/// minutes whose rollups are to be computed. `$1`: the number of sites.
const HISTORY: &str = "
    SET TIME ZONE 'UTC';
    TRUNCATE rollup_hour, rollup_day, rollup_month_to_date;
    DELETE FROM rollup_dirty;
    CREATE TEMPORARY TABLE day AS
    SELECT day, row_number() OVER (ORDER BY day) <= 30 AS is_old
      FROM generate_series(date_trunc('day', now()) - interval '50 days', date_trunc('day', now()) - interval '5 days', '1 day') AS day;
    SELECT make_partition(parent, day, day + interval '1 day') FROM day, unnest('{check_result, check_detail}'::text[]) AS parent
     WHERE NOT EXISTS (SELECT FROM pg_class WHERE relname = parent || to_char(day, '_YYYYMMDDHH24'));
    INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket)
    SELECT slot, s.site_id, s.location_id, (90000 * exp(random()))::int4, 0, 200, 0, 0, 170
      FROM day
     CROSS JOIN LATERAL generate_series(day, day + interval '23 hours 59 minutes', CASE WHEN is_old THEN interval '1 hour' ELSE '5 minutes' END) AS slot
     CROSS JOIN site_location s;
    UPDATE rollup_state SET rolled_until = date_trunc('day', now()) - interval '4 days', raw_since = '1970-01-01 00:00+00';
    INSERT INTO rollup_dirty (period, start)
    SELECT 'hour', hour FROM day CROSS JOIN LATERAL generate_series(day, day + interval '23 hours', '1 hour') AS hour WHERE NOT is_old;
    DROP TABLE day;
    ANALYZE check_result";

/// Whoever holds it keeps house.
const HOUSEKEEPING_LOCK: i64 = 0x7369_7465_0003;

const LEFT: &str = "
    SELECT (SELECT count(*) FROM rollup_dirty WHERE period = 'hour' AND start < now() - interval '5 days'),
           (SELECT count(*) FROM pg_inherits WHERE inhparent = 'check_result'::regclass)";

/// The same with a housekeeper that has more to do than it gets done, and with one that may do nothing, by turns.
async fn beside_housekeeping(world: &World, messages: u64, runs: u64) {
    println!("housekeeping   consumer rows/s   hours computed   partitions dropped");
    let mut rates = [0.0, 0.0];
    for run in 0..2 * runs {
        empty(world).await;
        world.db.batch_execute(HISTORY).await.unwrap();
        world.db.batch_execute("CHECKPOINT").await.unwrap();
        let is_at_work = run % 2 == 1;
        let change = if is_at_work { "unlock" } else { "lock" };
        let lock = format!("SELECT pg_advisory_{change}({HOUSEKEEPING_LOCK})");
        world.db.batch_execute(&lock).await.unwrap();
        let before = world.db.query_one(LEFT, &[]).await.unwrap();
        let settings = "  max_slot_age: 10d\n  retention: { raw: 20d }\n";
        let sunk = sink(world, messages, 1, None, settings).await;
        let after = world.db.query_one(LEFT, &[]).await.unwrap();
        let done = |n| before.get::<_, i64>(n) - after.get::<_, i64>(n);
        println!(
            "{:12}   {:15.0}   {:14}   {:18}",
            if is_at_work { "at work" } else { "held up" },
            sunk.rate,
            done(0),
            done(1)
        );
        rates[usize::from(is_at_work)] += sunk.rate / runs as f64;
    }
    println!(
        "housekeeping takes {:.1} % of the sink's rows/s (limit 10 %)",
        100.0 * (1.0 - rates[1] / rates[0])
    );
}

/// The same behind a link with a delay each way.
async fn far_away(world: &World, messages: u64) {
    let delay = Duration::from_millis(setting("DELAY_MS", 10));
    println!("PostgreSQL {delay:?} away, each way:\nwriters   consumer rows/s");
    for writers in [1, 2, 3] {
        empty(world).await;
        let sunk = sink(world, messages, writers, Some(delay), "").await;
        println!("{writers:7}   {:15.0}", sunk.rate);
    }
}

async fn empty(world: &World) {
    // Before the first run the tables are not there.
    let _ = world
        .db
        .batch_execute("TRUNCATE check_result, check_detail; DELETE FROM kafka_offset")
        .await;
    world.db.batch_execute("CHECKPOINT").await.unwrap();
}

/// Has a consumer store the messages. `more` is added to its settings of `postgres`.
async fn sink(
    world: &World,
    messages: u64,
    writers: u64,
    delay: Option<Duration>,
    more: &str,
) -> Sunk {
    let stored = "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset";
    let start = Instant::now();
    let settings = format!(
        "node: {{ log: {{ level: warning }} }}\nkafka: {{ options: {{ {} }} }}\npostgres:\n  batch: {{ max_rows: {} }}\n  writers: {writers}\n{more}",
        std::env::var("KAFKA_OPTIONS").unwrap_or_default(),
        setting("BATCH", 5000)
    );
    let (url, _link) = match delay {
        None => (world.database_url.clone(), None),
        Some(delay) => {
            let (url, link) = behind(world, delay);
            (url, Some(link))
        }
    };
    let mut node = world.node_with("consumer", &settings, &[("POSTGRES_URL", &url)]);
    let mut first = None;
    let last = loop {
        let rows = u64::try_from(world.number(stored).await).unwrap();
        if rows > 0 {
            first.get_or_insert((Instant::now(), rows));
        }
        if rows >= messages {
            break Instant::now();
        }
        assert!(node.runs(), "the consumer has ended\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let (cpu, resident) = (cpu_time(node.id()), resident(node.id()));
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    let stored = "SELECT count(*) FROM check_result WHERE slot > now() - interval '4 days'";
    let rows = world.number(stored).await;
    assert_eq!(u64::try_from(rows).unwrap(), messages, "{}", node.log());
    let (begun, before) = first.unwrap();
    Sunk {
        rate: (messages - before) as f64 / (last - begun).as_secs_f64(),
        overall: messages as f64 / (last - start).as_secs_f64(),
        cpu,
        resident,
    }
}

/// The database's URL by way of a link with a delay.
fn behind(world: &World, delay: Duration) -> (String, TcpProxy) {
    let port = free_port();
    let (server, url) = world.database_by_way_of(port);
    let link = TcpProxy::start(&Handle::current(), port, server).unwrap();
    link.set(|link| link.delay = delay);
    (url, link)
}

/// Rows a second that psql copies.
async fn copy(world: &World, messages: u64) -> f64 {
    let file = world.folder.path().join("rows.copy");
    psql(
        world,
        &format!(
            "\\copy (SELECT {COLUMNS} FROM check_result ORDER BY slot) TO '{}'",
            file.display()
        ),
    );
    empty(world).await;
    let start = Instant::now();
    psql(
        world,
        &format!("\\copy check_result ({COLUMNS}) FROM '{}'", file.display()),
    );
    let took = start.elapsed();
    let rows = world.number("SELECT count(*) FROM check_result").await;
    assert_eq!(u64::try_from(rows).unwrap(), messages);
    messages as f64 / took.as_secs_f64()
}

fn psql(world: &World, command: &str) {
    let status = Command::new("psql")
        .args([
            "-qX",
            "-v",
            "ON_ERROR_STOP=1",
            &world.database_url,
            "-c",
            command,
        ])
        .status();
    assert!(status.expect("psql is there").success(), "{command}");
}
