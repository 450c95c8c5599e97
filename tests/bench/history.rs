//! A simulated year in PostgreSQL: what a check takes on the disk, how quick questions are, and what rollups take of the
//! sink's throughput.

mod process;
#[path = "../support/mod.rs"]
mod support;

use std::{
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use process::setting;
use sitewatch_actors::{
    database::Clocks,
    history::{self, ReportQuestion},
    housekeeping::Keeper,
    model::{Slot, Whose, bucket},
    time::wall_clock,
};
use sitewatch_config::{PostgresSettings, Sources, load_any};
use sitewatch_node::SCHEMA;
use slog::{Discard, Logger, o};
use support::World;
use tokio_postgres::{binary_copy::BinaryCopyInWriter, types::Type};

/// Limits: bytes a check with its key, and the rollups' part of the checks that they cover, at an interval of a minute.
const BYTES: f64 = 110.0;
const ROLLUPS: f64 = 0.10;

const DAY: u64 = 86_400;

const COLUMNS: &str = "COPY check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket) FROM STDIN BINARY";

#[actix_rt::main]
async fn main() {
    let filled = std::env::var("DATABASE").ok();
    if filled.is_none() {
        minutes().await;
    }
    let (sites, days, interval) = (
        setting("SITES", 1000),
        setting("DAYS", 365),
        setting("INTERVAL_S", 300),
    );
    let mut world = World::new("bench_history").await;
    let rows = match filled {
        Some(url) => {
            world.db = support::connect(&url).await;
            world.database_url = url;
            world.number("SELECT count(*) FROM check_result").await as u64
        }
        None => {
            println!("{sites} sites every {interval} s, for {days} days:");
            fill(&world, sites, days, interval).await
        }
    };
    let (checks, rollups) = sizes(&world).await;
    println!(
        "  {:.1} bytes a check with its key (limit {BYTES}); {:.1} GB and rollups of {:.2} GB",
        checks / rows as f64,
        checks / 1e9,
        rollups / 1e9
    );
    println!(
        "question                                                 median        worst      limit     rows"
    );
    for (what, sql, limit) in QUESTIONS {
        ask(&world, what, sql, limit).await;
    }
    report(&world, "report of all sites, 30 days", 30, &[]).await;
    report(&world, "report of a site, a year", 365, &["site-77"]).await;
    // To look into it by hand, or to be asked again.
    if setting("KEEP", 0) == 0 {
        world.drop_database().await;
    }
}

async fn minutes() {
    let world = World::new("bench_history_minutes").await;
    println!("100 sites each minute, for two days:");
    fill(&world, 100, 2, 60).await;
    let (checks, rollups) = sizes(&world).await;
    println!(
        "  rollups take {:.1} % of the checks that they cover (limit {:.0} %)",
        100.0 * rollups / checks,
        100.0 * ROLLUPS
    );
    world.drop_database().await;
}

/// What the command `report` asks, connection and all.
async fn report(world: &World, what: &str, days: i64, sites: &[&str]) {
    let settings = settings(world);
    let to = wall_clock();
    let question = ReportQuestion {
        from: Slot::from_micros(to.as_micros() - days * 24 * Slot::HOUR),
        to,
        whose: Whose {
            sites: sites.iter().map(|&site| site.to_owned()).collect(),
            ..Whose::default()
        },
    };
    let mut rows = 0;
    let mut took = Vec::new();
    for _ in 0..11 {
        let begin = Instant::now();
        rows = history::report(&settings, &question)
            .await
            .unwrap()
            .sites
            .len();
        took.push(begin.elapsed());
    }
    took.remove(0);
    print(what, took, if days == 365 { "50 ms" } else { "-" }, rows);
}

fn settings(world: &World) -> PostgresSettings {
    let mut sources = Sources::default();
    sources
        .env
        .insert("POSTGRES_URL".to_owned(), world.database_url.clone());
    load_any(&sources).unwrap().postgres
}

const QUESTIONS: [(&str, &str, &str); 9] = [
    // So fast is the machine, now: the figures of two are compared by it.
    (
        "(for comparison: the sum of a million numbers)",
        "SELECT sum(n::numeric)::text FROM generate_series(1, 1000000) AS n",
        "-",
    ),
    (
        "uptime and p95 of all sites, 30 days to the second",
        "SELECT site_id, 100.0 * (up + degraded) / nullif(up + degraded + down, 0), hist_percentile(total_hist, 0.95, total_max_us, total_min_us)
           FROM uptimes(now() - interval '30 days', now())",
        "50 ms",
    ),
    (
        "the same, to the hour",
        "SELECT site_id, 100.0 * (up + degraded) / nullif(up + degraded + down, 0), hist_percentile(total_hist, 0.95, total_max_us, total_min_us)
           FROM rollup_state, uptimes(rolled_until - interval '30 days', rolled_until)",
        "50 ms",
    ),
    (
        "the same, 30 whole days",
        "SELECT site_id, 100.0 * (up + degraded) / nullif(up + degraded + down, 0), hist_percentile(total_hist, 0.95, total_max_us, total_min_us)
           FROM uptimes(date_trunc('day', now(), 'UTC') - interval '30 days', date_trunc('day', now(), 'UTC'))",
        "50 ms",
    ),
    (
        "a site's checks of 24 h",
        "SELECT slot, outcome, status, total_ms FROM checks WHERE site = 'site-77' AND slot > now() - interval '24 hours' ORDER BY slot",
        "10 ms",
    ),
    (
        "a site's year: uptime, coverage, four percentiles",
        "SELECT 100.0 * (up + degraded) / nullif(up + degraded + down, 0), expected, hist_percentile(total_hist, p, total_max_us, total_min_us)
           FROM uptimes(now() - interval '1 year', now(), (SELECT ARRAY[site_id] FROM site WHERE name = 'site-77')),
                unnest('{0.5, 0.9, 0.95, 0.99}'::float8[]) AS p",
        "50 ms",
    ),
    (
        "a site's year, with maintenance each night",
        "SELECT * FROM uptimes(now() - interval '1 year', now(), (SELECT ARRAY[site_id] FROM site WHERE name = 'site-177'))",
        "50 ms",
    ),
    (
        "a site's year, day by day",
        "SELECT day, 100.0 * (up + degraded) / nullif(up + degraded + down, 0), hist_percentile(total_hist, 0.95, total_max_us, total_min_us)
           FROM rollup_day WHERE site_id = (SELECT site_id FROM site WHERE name = 'site-77') AND day > now() - interval '1 year'
          ORDER BY day",
        "50 ms",
    ),
    (
        "how each of 100 objectives stands",
        "SELECT * FROM sla_status()",
        "-",
    ),
];

async fn ask(world: &World, what: &str, sql: &str, limit: &str) {
    let mut took = Vec::new();
    let mut rows = 0;
    for round in 0..21 {
        let begin = Instant::now();
        rows = world.db.query(sql, &[]).await.unwrap().len();
        if round > 0 {
            took.push(begin.elapsed());
        }
    }
    print(what, took, limit, rows);
}

fn print(what: &str, mut took: Vec<Duration>, limit: &str, rows: usize) {
    took.sort();
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "{what:52} {:8.1} ms   {:8.1} ms   {limit:>8}   {rows:6}",
        millis(took[took.len() / 2]),
        millis(took[took.len() - 1])
    );
}

/// Loads checks up to now and computes their rollups. Gives the number of checks.
async fn fill(world: &World, sites: u64, days: u64, interval: u64) -> u64 {
    let settings = settings(world);
    let log = Logger::root(Discard, o!());
    let mut keeper = Keeper::open(settings, SCHEMA, log).await.unwrap();
    let announce = format!(
        "INSERT INTO location (name) VALUES ('here');
         INSERT INTO site (name, url, sla_target, sla_window)
         SELECT 'site-' || n, 'http://site-' || n, CASE WHEN n <= 100 THEN 99.9 END, CASE WHEN n <= 100 THEN interval '30 days' END
           FROM generate_series(1, {sites}) AS n;
         INSERT INTO site_location (site_id, location_id) SELECT site_id, 1 FROM site;
         INSERT INTO site_revision (site_id, location_id, since, interval_us, phase_us, check_limit_us, config_hash, run)
         SELECT site_id, 1, now() - interval '{days} days', {interval}000000, 0, 1000000, '', now() FROM site;
         INSERT INTO maintenance (name, site_names, from_time) VALUES ('nightly', '{{site-177}}', now());
         INSERT INTO maintenance_span SELECT 1, tstzrange(night, night + interval '45 minutes')
           FROM generate_series(now() - interval '{days} days', now(), '1 day') AS night"
    );
    world.db.batch_execute(&announce).await.unwrap();
    let partitions = format!(
        "SELECT make_partition(parent, month, month + interval '1 month')
           FROM unnest('{{check_result, check_detail}}'::text[]) AS parent,
                generate_series(date_trunc('month', now() - interval '{days} days'), now(), '1 month') AS month"
    );
    world
        .db
        .batch_execute(&format!("SET TIME ZONE 'UTC'; {partitions}"))
        .await
        .unwrap();

    let begin = Instant::now();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let first = (now - days * DAY) / interval * interval;
    let slots: Vec<u64> = (first..now)
        .step_by(usize::try_from(interval).unwrap())
        .collect();
    let mut rng = Rng::with_seed(7);
    // What a transaction holds, as a consumer's batch or a few.
    for some in slots.chunks(50) {
        copy(world, sites, interval, some, &mut rng).await;
    }
    let rows = slots.len() as u64 * sites;
    let rate = rows as f64 / begin.elapsed().as_secs_f64();
    println!("  {rows} checks loaded by COPY, {rate:.0} a second");

    let begin = Instant::now();
    while keeper
        .pass(Clocks::agreeing(wall_clock()))
        .await
        .unwrap()
        .is_none_or(|done| done.more)
    {}
    println!(
        "  their rollups computed in {:.1} s, {:.2} µs a check",
        begin.elapsed().as_secs_f64(),
        begin.elapsed().as_secs_f64() * 1e6 / rows as f64
    );
    world.db.batch_execute("VACUUM (ANALYZE)").await.unwrap();
    rows
}

/// Times as they are: each site has its own usual one, most checks are near it, one in two hundred takes many times as long. One in
/// a thousand fails.
async fn copy(world: &World, sites: u64, interval: u64, slots: &[u64], rng: &mut Rng) {
    let types = [
        Type::TIMESTAMPTZ,
        Type::INT4,
        Type::INT4,
        Type::INT4,
        Type::INT4,
        Type::INT2,
        Type::INT2,
        Type::INT2,
        Type::INT2,
    ];
    let sink = world.db.copy_in(COLUMNS).await.unwrap();
    let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
    for slot in slots {
        for site in 1..=sites {
            let phase = Duration::from_micros(interval * 1_000_000 * site / (sites + 1));
            let at = UNIX_EPOCH + Duration::from_secs(*slot) + phase;
            let usual = 30_000.0 * (1.0 + (site * 7919 % 100) as f64 / 10.0);
            // The sum of twelve is about normal.
            let noise: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
            let slow = if rng.u32(0..200) == 0 {
                1.0 + 20.0 * rng.f64()
            } else {
                1.0
            };
            let total = (usual * (0.15 * noise).exp() * slow) as i32;
            let fails = rng.u32(0..1000) == 0;
            let ttfb = (!fails).then(|| bucket(u64::from(total.unsigned_abs()) * 4 / 5));
            copy.as_mut()
                .write(&[
                    &at,
                    &i32::try_from(site).unwrap(),
                    &1i32,
                    &total,
                    &0i32,
                    &(!fails).then_some(200i16),
                    &if fails { 2i16 } else { 0 },
                    &if fails { 4i16 } else { 0 },
                    &ttfb,
                ])
                .await
                .unwrap();
        }
    }
    copy.finish().await.unwrap();
}

/// Bytes that checks and rollups take, with their keys.
async fn sizes(world: &World) -> (f64, f64) {
    let size = async |tables: &str| {
        let sql = format!(
            "SELECT sum(pg_total_relation_size(inhrelid))::int8 FROM pg_inherits
              WHERE inhparent::regclass::text = ANY ('{{{tables}}}')"
        );
        world.number(&sql).await as f64
    };
    (
        size("check_result").await,
        size("rollup_hour, rollup_day, rollup_month_to_date").await,
    )
}
