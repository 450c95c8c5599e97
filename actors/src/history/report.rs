//! What a report says of each site: asked of the functions of `schema.sql`.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use sitewatch_config::PostgresSettings;
use tokio_postgres::{Client, Row};

use crate::{
    database::{AskError, ask, numbers},
    model::{Slot, Whose},
};

/// At most so many stretches of time are told of each site.
const BUCKETS: i64 = 45;

const DAY: i64 = 24 * Slot::HOUR;

const MINUTE: i64 = Slot::HOUR / 60;

/// What is asked.
#[derive(Clone, Debug)]
pub struct ReportQuestion {
    /// From then on.
    pub from: Slot,
    /// Until before then.
    pub to: Slot,
    /// Of which sites.
    pub whose: Whose,
}

/// Checks by outcome, without those in maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Up.
    pub up: i64,
    /// Degraded: works, but over a limit.
    pub degraded: i64,
    /// Down.
    pub down: i64,
    /// Not known.
    pub unknown: i64,
    /// How many were due; `None` as long as the site's calendar is not written down.
    pub expected: Option<i64>,
}

impl Counts {
    /// Checks that told something.
    pub fn observed(&self) -> i64 {
        self.up + self.degraded + self.down
    }

    /// In percent of those that told something; `None` without any.
    pub fn uptime(&self) -> Option<f64> {
        let observed = self.observed();
        (observed > 0).then(|| 100.0 * (self.up + self.degraded) as f64 / observed as f64)
    }

    /// In percent of those that were due: how many told something.
    pub fn coverage(&self) -> Option<f64> {
        let expected = self.expected.filter(|expected| *expected > 0)?;
        Some(100.0 * self.observed().min(expected) as f64 / expected as f64)
    }

    /// In percent of the failures that a target allows for: what is left of them. Below 0 if there were more.
    pub fn budget_left(&self, target_percent: f64) -> Option<f64> {
        let allowed = 100.0 - target_percent;
        let failed = 100.0 - self.uptime()?;
        Some(100.0 * (1.0 - failed / allowed))
    }

    /// These and others.
    pub fn add(&mut self, others: &Self) {
        self.up += others.up;
        self.degraded += others.degraded;
        self.down += others.down;
        self.unknown += others.unknown;
        self.expected = self
            .expected
            .zip(others.expected)
            .map(|(one, other)| one + other);
    }
}

/// The incidents of a site, whichever locations saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incidents {
    /// How many.
    pub count: i64,
    /// How long in all, inside the range.
    pub lasted: Duration,
    /// The longest.
    pub longest: Duration,
    /// Whether one goes on at the end of the range.
    pub open: bool,
}

/// A stretch of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Checks that were up or degraded, with those in maintenance.
    pub good: i64,
    /// Checks that were down.
    pub bad: i64,
    /// The mean time of those that were up or degraded, in ms.
    pub mean_ms: Option<f64>,
}

/// What is said of a site.
#[derive(Clone, Debug)]
pub struct SiteReport {
    /// Its name.
    pub site: String,
    /// Its URL.
    pub url: String,
    /// Its group.
    pub group: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Checks.
    pub counts: Counts,
    /// How much of the range was in maintenance.
    pub maintenance: Duration,
    /// Incidents.
    pub incidents: Incidents,
    /// The 50th, 95th and 99th percentile of the total time, in ms.
    pub percentiles_ms: [Option<f64>; 3],
    /// The uptime that is to be reached, in percent.
    pub sla_target: Option<f64>,
    /// One for each stretch of [`Report::bucket`].
    pub buckets: Vec<Bucket>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Report {
    /// From then on.
    pub from: Slot,
    /// Until before then.
    pub to: Slot,
    /// How long a stretch is. The first begins with a whole day, hour or minute (UTC), at [`Report::from`] or before.
    pub bucket: Duration,
    /// Each site that was due or checked, by group and name.
    pub sites: Vec<SiteReport>,
}

/// Answers.
///
/// # Errors
/// If PostgreSQL does not answer or refuses, has not got the tables, or if a site, group or tag was never announced.
pub async fn report(
    settings: &PostgresSettings,
    question: &ReportQuestion,
) -> Result<Report, AskError> {
    let client = ask(settings, &["incident", "maintenance"]).await?;
    // Compiling a statement takes longer than what it asks for.
    client.batch_execute("SET jit = off").await?;
    let sites = numbers(&client, &question.whose).await?;
    let (from, to) = (question.from, question.to);
    let mut incidents = incidents(&client, question, &sites).await?;
    let (bucket, mut buckets) = buckets(&client, question, &sites).await?;
    let times = (from.to_system_time(), to.to_system_time());
    let rows = client.query(SITES, &[&times.0, &times.1, &sites]).await?;
    let sites = rows.iter().map(|row| {
        let id: i32 = row.get("site_id");
        SiteReport {
            site: row.get("name"),
            url: row.get("url"),
            group: row.get("group_name"),
            tags: row.get("tags"),
            counts: Counts {
                up: row.get("up"),
                degraded: row.get("degraded"),
                down: row.get("down"),
                unknown: row.get("unknown"),
                expected: row.get("expected"),
            },
            maintenance: seconds(row, "maintenance"),
            incidents: incidents.remove(&id).unwrap_or_default(),
            percentiles_ms: [row.get("p50"), row.get("p95"), row.get("p99")],
            sla_target: row.get("sla_target"),
            buckets: buckets.remove(&id).unwrap_or_default(),
        }
    });
    Ok(Report {
        from,
        to,
        sites: sites.collect(),
        bucket,
    })
}

fn seconds(row: &Row, column: &str) -> Duration {
    let seconds: Option<f64> = row.get(column);
    Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default()
}

async fn incidents(
    client: &Client,
    question: &ReportQuestion,
    sites: &Option<Vec<i32>>,
) -> Result<HashMap<i32, Incidents>, AskError> {
    let (from, to) = (question.from.to_system_time(), question.to.to_system_time());
    let rows = client.query(INCIDENTS, &[&from, &to, sites]).await?;
    let of_site = |row: &Row| {
        let incidents = Incidents {
            count: row.get("count"),
            lasted: seconds(row, "lasted"),
            longest: seconds(row, "longest"),
            open: row.get("open"),
        };
        (row.get("site_id"), incidents)
    };
    Ok(rows.iter().map(of_site).collect())
}

/// How long a stretch is, and what there was in each of them.
async fn buckets(
    client: &Client,
    question: &ReportQuestion,
    sites: &Option<Vec<i32>>,
) -> Result<(Duration, HashMap<i32, Vec<Bucket>>), AskError> {
    let range = question.to.micros_since(question.from).max(1);
    let row = client.query_one(ROLLED, &[]).await?;
    let rolled = Slot::from_system_time(row.get::<_, SystemTime>(0));
    let raw_since = Slot::from_system_time(row.get::<_, SystemTime>(1));
    // In whole days or hours where the range is long, so that rollups tell them.
    let unit = match range {
        range if range >= 14 * DAY => DAY,
        range if range >= 12 * Slot::HOUR => Slot::HOUR,
        _ => MINUTE,
    };
    let width = round_up((range / BUCKETS).max(1), unit);
    // They begin with a whole day, hour or minute, so the first may begin earlier than the range.
    let first = question.from.floor(unit);
    let count = round_up(question.to.micros_since(first), width) / width;
    // From days up to the last whole one, then from hours, then from checks.
    let days_end = match unit {
        DAY => rolled.floor(DAY),
        _ => first,
    };
    let hours_end = match unit {
        MINUTE if first >= raw_since => first,
        _ => rolled,
    };
    let time = Slot::to_system_time;
    let rows = client
        .query(
            BUCKETS_OF_SITES,
            &[
                &time(first),
                &time(question.to),
                sites,
                &time(days_end.max(first)),
                &time(hours_end.max(first)),
                &width,
            ],
        )
        .await?;
    let mut buckets: HashMap<i32, Vec<Bucket>> = HashMap::new();
    for row in &rows {
        let place: i64 = row.get("bucket");
        let of_site = buckets
            .entry(row.get("site_id"))
            .or_insert_with(|| vec![Bucket::default(); usize::try_from(count).unwrap_or_default()]);
        let place = usize::try_from(place).unwrap_or_default();
        if let Some(bucket) = of_site.get_mut(place) {
            *bucket = Bucket {
                good: row.get("good"),
                bad: row.get("bad"),
                mean_ms: row.get("mean_ms"),
            };
        }
    }
    Ok((Duration::from_micros(width.unsigned_abs()), buckets))
}

/// The least multiple of `unit` that is not less than `value`.
fn round_up(value: i64, unit: i64) -> i64 {
    (value + unit - 1) / unit * unit
}

const SITES: &str = "
    SELECT u.site_id, s.name, s.url, s.group_name, s.tags, s.sla_target, u.up, u.degraded, u.down, u.unknown, u.expected,
           extract(epoch FROM u.maintenance)::float8 AS maintenance,
           hist_percentile(u.total_hist, 0.5, u.total_max_us, u.total_min_us) AS p50,
           hist_percentile(u.total_hist, 0.95, u.total_max_us, u.total_min_us) AS p95,
           hist_percentile(u.total_hist, 0.99, u.total_max_us, u.total_min_us) AS p99
      FROM uptimes($1, $2, $3) AS u JOIN site s USING (site_id)
     ORDER BY s.group_name NULLS LAST, s.name";

/// Overlapping ones of different locations are one.
const INCIDENTS: &str = "
    SELECT site_id, count(*), extract(epoch FROM sum(upper(inside) - lower(inside)))::float8 AS lasted,
           extract(epoch FROM max(upper(inside) - lower(inside)))::float8 AS longest,
           bool_or(upper_inf(span) OR upper(span) >= $2) AS open
      FROM (SELECT site_id, unnest(range_agg(tstzrange(began, ended))) AS span
              FROM incident
             WHERE began < $2::timestamptz AND coalesce(ended, 'infinity') > $1::timestamptz AND ($3::int4[] IS NULL OR site_id = ANY ($3))
             GROUP BY site_id) AS outage
     CROSS JOIN LATERAL (SELECT span * tstzrange($1, greatest($1, least($2, now()))) AS inside) AS i
     GROUP BY site_id";

const ROLLED: &str = "SELECT rolled_until, raw_since FROM rollup_state";

/// From days up to `$4`, then from hours up to `$5`, then from checks; `$6` is how long a stretch is, in microseconds.
const BUCKETS_OF_SITES: &str = "
    SELECT site_id, floor(extract(epoch FROM start - $1::timestamptz) * 1000000 / $6::int8)::int8 AS bucket, sum(good)::int8 AS good,
           sum(bad)::int8 AS bad, (sum(sum_us) / nullif(sum(good), 0) / 1000)::float8 AS mean_ms
      FROM (SELECT site_id, day AS start, up + degraded AS good, down AS bad, total_sum_us::numeric AS sum_us
              FROM rollup_day
             WHERE day >= $1 AND day < least($2::timestamptz, $4::timestamptz) AND ($3::int4[] IS NULL OR site_id = ANY ($3))
            UNION ALL
            SELECT site_id, hour, up + degraded, down, total_sum_us FROM rollup_hour
             WHERE hour >= $4
               AND hour < least($2, $5::timestamptz) AND ($3 IS NULL OR site_id = ANY ($3))
            UNION ALL
            SELECT p.site_id, slot, (outcome < 2)::int4, (outcome = 2)::int4, CASE WHEN outcome < 2 THEN total_us END
              FROM site_location AS p
             CROSS JOIN LATERAL (
                    SELECT slot, outcome, total_us FROM check_result c
                     WHERE c.site_id = p.site_id AND c.location_id = p.location_id AND slot >= $5 AND slot < $2 OFFSET 0) AS c
             WHERE $3 IS NULL OR p.site_id = ANY ($3)) AS part
     GROUP BY 1, 2";
