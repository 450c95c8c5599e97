//! What a report says of each site: asked of the functions of `schema.sql`.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use sitewatch_config::PostgresSettings;
use tokio_postgres::{Client, Row};

use super::figures::{Bucket, Budget, Counts, Figures, Incidents};
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

/// A site.
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
    /// The uptime that is to be reached, in percent.
    pub sla_target: Option<f64>,
    /// How much of the range was in maintenance.
    pub maintenance: Duration,
    /// What is said of it.
    pub figures: Figures,
}

/// The sites of a group.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// Its name.
    pub group: String,
    /// How many sites.
    pub sites: usize,
    /// What is said of them together.
    pub figures: Figures,
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
    /// Their groups, by name.
    pub groups: Vec<GroupReport>,
}

/// Answers.
///
/// # Errors
/// If PostgreSQL does not answer or refuses, has not got the tables, or if a site, group or tag was never announced.
pub async fn report(
    settings: &PostgresSettings,
    question: &ReportQuestion,
) -> Result<Report, AskError> {
    let client = ask(settings, &["incident_span", "maintenance"]).await?;
    // Compiling a statement takes longer than what it asks for.
    client.batch_execute("SET jit = off").await?;
    let sites = numbers(&client, &question.whose).await?;
    let (from, to) = (question.from, question.to);
    let mut incidents = incidents(&client, question, &sites).await?;
    let (bucket, mut buckets) = buckets(&client, question, &sites).await?;
    let times = (from.to_system_time(), to.to_system_time());
    let rows = client
        .query(SITES_AND_GROUPS, &[&times.0, &times.1, &sites])
        .await?;
    let (mut sites, mut groups): (Vec<SiteReport>, Vec<GroupReport>) = (Vec::new(), Vec::new());
    for row in &rows {
        let percentiles_ms = [row.get("p50"), row.get("p95"), row.get("p99")];
        let Some(id) = row.get::<_, Option<i32>>("site_id") else {
            groups.push(of_group(row.get("group_name"), percentiles_ms, &sites));
            continue;
        };
        let counts = Counts {
            up: row.get("up"),
            degraded: row.get("degraded"),
            down: row.get("down"),
            unknown: row.get("unknown"),
            expected: row.get("expected"),
        };
        let sla_target: Option<f64> = row.get("sla_target");
        sites.push(SiteReport {
            site: row.get("name"),
            url: row.get("url"),
            group: row.get("group_name"),
            tags: row.get("tags"),
            sla_target,
            maintenance: seconds(row, "maintenance"),
            figures: Figures {
                counts,
                incidents: incidents.remove(&id).unwrap_or_default(),
                percentiles_ms,
                budget: sla_target.map(|target| Budget::of(&counts, target)),
                buckets: buckets.remove(&id).unwrap_or_default(),
            },
        });
    }
    Ok(Report {
        from,
        to,
        bucket,
        sites,
        groups,
    })
}

/// The group whose sites are the last ones.
fn of_group(group: String, percentiles_ms: [Option<f64>; 3], sites: &[SiteReport]) -> GroupReport {
    let of_it = |site: &&SiteReport| site.group.as_ref() == Some(&group);
    let members: Vec<_> = sites.iter().rev().take_while(of_it).collect();
    let figures = members.iter().rev().map(|site| &site.figures);
    GroupReport {
        sites: members.len(),
        figures: Figures::together(figures, percentiles_ms),
        group,
    }
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

/// Each site, and after those of a group its percentiles.
const SITES_AND_GROUPS: &str = "
    WITH told AS MATERIALIZED (SELECT * FROM uptimes($1, $2, $3) AS u JOIN site s USING (site_id))
    SELECT site_id, name, url, group_name, tags, sla_target, up, degraded, down, unknown, expected,
           extract(epoch FROM maintenance)::float8 AS maintenance,
           hist_percentile(total_hist, 0.5, total_max_us, total_min_us) AS p50,
           hist_percentile(total_hist, 0.95, total_max_us, total_min_us) AS p95,
           hist_percentile(total_hist, 0.99, total_max_us, total_min_us) AS p99
      FROM told
     UNION ALL
    SELECT NULL, NULL, NULL, group_name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           hist_percentile_of(hists, 0.5), hist_percentile_of(hists, 0.95), hist_percentile_of(hists, 0.99)
      FROM (SELECT group_name, CASE WHEN NOT bool_or(total_hist IS NULL AND up + degraded > 0) THEN array_agg(total_hist) END AS hists
              FROM told WHERE group_name IS NOT NULL GROUP BY group_name OFFSET 0) AS of_group
     ORDER BY group_name NULLS LAST, name NULLS LAST";

/// Overlapping ones of different locations are one.
const INCIDENTS: &str = "
    SELECT site_id, count(*), extract(epoch FROM sum(lasted))::float8 AS lasted, extract(epoch FROM max(lasted))::float8 AS longest,
           bool_or(upper_inf(span) OR upper(span) >= $2) AS open
      FROM (SELECT site_id, unnest(range_agg(tstzrange(began, ended))) AS span
              FROM incident_span
             WHERE began < $2::timestamptz AND coalesce(ended, 'infinity') > $1::timestamptz AND ($3::int4[] IS NULL OR site_id = ANY ($3))
             GROUP BY site_id) AS outage
      LEFT JOIN site_windows($1, $2, $3) AS m USING (site_id)
     CROSS JOIN LATERAL (
            SELECT sum(upper(inside) - lower(inside)) AS lasted
              FROM unnest(tstzmultirange(span * tstzrange($1, greatest($1, least($2, now())))) - coalesce(windows, '{}')) AS inside
           ) AS counted
     WHERE lasted IS NOT NULL
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
