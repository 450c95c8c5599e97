//! Rollups: hours computed from the checks, days from the hours, months to date from the days; again, whenever rows have come in late.
//!
//! All of it is in the database: what is to be computed stands in `rollup_dirty`, and goes in the transaction that computes it. So
//! whatever interrupts this, the rollups and the notes together always say what the checks say.

use std::time::{Instant, SystemTime};

use slog::{Logger, debug};
use tokio_postgres::{Client, Transaction};

use super::{LONGEST, lock_out_writers, months, sites_of};
use crate::{
    database::{CHECKS, Partitions, SessionError, existing},
    model::Slot,
};

/// So long after its end an hour is computed for the first time: most of what is late has come by then.
const GRACE: i64 = 5 * 60 * 1_000_000;

const DAY: i64 = 24 * Slot::HOUR;

/// Tables with a row for a day, partitioned alike.
pub(super) const DAYS_TABLES: &[&str] = &["rollup_day", "rollup_month_to_date"];

/// Computes rollups.
pub(super) struct Rollups {
    hours: Partitions,
    days: Partitions,
}

/// A rollup's table: how it is computed.
struct Level {
    period: &'static str,
    width: &'static str,
    table: &'static str,
    /// The column of the period's start.
    start: &'static str,
    /// What is summed up, from `from`, of `at` in the period.
    columns: &'static str,
    from: &'static str,
    at: &'static str,
}

const HOURS: Level = Level {
    period: "hour",
    width: "1 hour",
    table: "rollup_hour",
    start: "hour",
    columns: "
        count(*) FILTER (WHERE outcome = 0), count(*) FILTER (WHERE outcome = 1), count(*) FILTER (WHERE outcome = 2),
        count(*) FILTER (WHERE outcome = 3), min(total_us) FILTER (WHERE outcome < 2), max(total_us) FILTER (WHERE outcome < 2),
        sum(total_us) FILTER (WHERE outcome < 2), sum(hist_of(hist_bucket(total_us))) FILTER (WHERE outcome < 2),
        sum(hist_of(ttfb_bucket)) FILTER (WHERE outcome < 2)",
    from: "check_result",
    at: "slot",
};

const DAYS: Level = Level {
    period: "day",
    width: "1 day",
    table: "rollup_day",
    start: "day",
    columns: "
        sum(up), sum(degraded), sum(down), sum(unknown), min(total_min_us), max(total_max_us), sum(total_sum_us), sum(total_hist),
        sum(ttfb_hist)",
    from: "rollup_hour",
    at: "hour",
};

impl Level {
    /// The statement that computes the period from `$1` on, of all sites or of the sites `$2`.
    fn compute(&self, some: bool) -> String {
        let Self {
            width,
            table,
            start,
            columns,
            from,
            at,
            ..
        } = self;
        let sites = if some { "AND p.site_id = ANY ($2)" } else { "" };
        // Site by site, by the key: a table that has grown since it was last analysed would be read whole else.
        format!(
            "INSERT INTO {table} ({start}, site_id, location_id, up, degraded, down, unknown, total_min_us, total_max_us,
                                  total_sum_us, total_hist, ttfb_hist)
             SELECT $1, p.site_id, p.location_id, s.*
               FROM site_location AS p CROSS JOIN LATERAL (
                        SELECT {columns}
                          FROM {from} AS c
                         WHERE c.site_id = p.site_id AND c.location_id = p.location_id
                           AND {at} >= $1 AND {at} < $1 + interval '{width}') AS s (up, degraded, down, unknown)
              WHERE s.up + s.degraded + s.down + s.unknown > 0 {sites}
             ON CONFLICT (site_id, location_id, {start}) DO UPDATE
                SET up = EXCLUDED.up, degraded = EXCLUDED.degraded, down = EXCLUDED.down, unknown = EXCLUDED.unknown,
                    total_min_us = EXCLUDED.total_min_us, total_max_us = EXCLUDED.total_max_us,
                    total_sum_us = EXCLUDED.total_sum_us, total_hist = EXCLUDED.total_hist, ttfb_hist = EXCLUDED.ttfb_hist"
        )
    }
}

/// How far the rollups are.
struct State {
    rolled_until: Slot,
    raw_since: Slot,
    hours_since: Slot,
}

impl Rollups {
    pub(super) fn new() -> Self {
        let month = Some(sitewatch_config::PartitionWidth::Month);
        Self {
            hours: Partitions::new(&["rollup_hour"], month),
            days: Partitions::new(DAYS_TABLES, month),
        }
    }

    /// Computes what is to be computed, for about [`LONGEST`]. Whether there is more.
    pub(super) async fn pass(
        &mut self,
        client: &mut Client,
        now: Slot,
        log: &Logger,
    ) -> Result<bool, SessionError> {
        let (state, begin) = (move_on(client, now, log).await?, Instant::now());
        let over = state.rolled_until.to_system_time();
        loop {
            // Days first: the oldest history is complete first.
            if let Some(day) = next(client, DAY_NOTED, &[&over]).await? {
                if begin.elapsed() > LONGEST {
                    return Ok(true);
                }
                compute_day(client, day, &state).await?;
            } else if let Some(hour) = next(client, HOUR_NOTED, &[]).await? {
                if begin.elapsed() > LONGEST {
                    return Ok(true);
                }
                self.hours.cover(client, log, [hour].into_iter()).await?;
                self.days.cover(client, log, [hour].into_iter()).await?;
                compute_hour(client, hour, &state).await?;
            } else if let Some(day) = next(client, months::NOTED, &[]).await? {
                // Last: as long as it is noted, its days are what is read.
                if begin.elapsed() > LONGEST {
                    return Ok(true);
                }
                self.days.cover(client, log, [day].into_iter()).await?;
                months::compute(client, day).await?;
            } else {
                return Ok(false);
            }
        }
    }
}

async fn compute_hour(client: &mut Client, hour: Slot, state: &State) -> Result<(), SessionError> {
    let transaction = client.transaction().await?;
    let sites = take(&transaction, &HOURS, hour).await?;
    // What is gone can't be computed again. What there is of it stays as it was.
    if hour >= state.raw_since.max(state.hours_since) {
        compute(&transaction, &HOURS, hour, &sites).await?;
        let day = hour.floor(DAY).to_system_time();
        transaction.execute(NOTE_DAY, &[&day, &sites]).await?;
    }
    fail::fail_point!("housekeeping::rollup");
    Ok(transaction.commit().await?)
}

async fn compute_day(client: &mut Client, day: Slot, state: &State) -> Result<(), SessionError> {
    let transaction = client.transaction().await?;
    let sites = take(&transaction, &DAYS, day).await?;
    if day >= state.hours_since {
        compute(&transaction, &DAYS, day, &sites).await?;
    }
    fail::fail_point!("housekeeping::rollup");
    Ok(transaction.commit().await?)
}

/// Moves the end of the rollups on to `now`, and notes the hours that it passes.
async fn move_on(client: &mut Client, now: Slot, log: &Logger) -> Result<State, SessionError> {
    let row = client.query_one(STATE, &[]).await?;
    let slot = |n| Slot::from_system_time(row.get::<_, SystemTime>(n));
    let mut state = State {
        rolled_until: slot(0),
        raw_since: slot(1),
        hours_since: slot(2),
    };
    let until = Slot::from_micros(now.as_micros() - GRACE).floor(Slot::HOUR);
    if until <= state.rolled_until {
        return Ok(state);
    }
    let transaction = client.transaction().await?;
    if !lock_out_writers(&transaction).await? {
        debug!(log, "rollups wait for a writer"; "until" => %until);
        transaction.rollback().await?;
        return Ok(state);
    }
    // Only where there may be checks: when rollups are new, history may be long and have holes. What is not there by now gets its rows from
    // writers that come after this, and note them.
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for partition in existing(&transaction, &CHECKS[..1]).await? {
        let first = Slot::from_micros(partition.span.from.max(0))
            .floor(Slot::HOUR)
            .max(state.rolled_until);
        let end = Slot::from_micros(partition.span.to).min(until);
        if first < end {
            from.push(first.to_system_time());
            to.push(end.to_system_time());
        }
    }
    transaction
        .execute(MOVE_ON, &[&until.to_system_time()])
        .await?;
    transaction.execute(NOTE_HOURS, &[&from, &to]).await?;
    transaction.commit().await?;
    state.rolled_until = until;
    Ok(state)
}

async fn next(
    client: &Client,
    query: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Option<Slot>, tokio_postgres::Error> {
    let start: Option<SystemTime> = client.query_one(query, parameters).await?.get(0);
    Ok(start.map(Slot::from_system_time))
}

/// Takes the notes of a period. Gives the sites they name; `None` is all.
async fn take(
    transaction: &Transaction<'_>,
    level: &Level,
    start: Slot,
) -> Result<Option<Vec<i32>>, tokio_postgres::Error> {
    let taken = transaction
        .query(TAKE, &[&level.period, &start.to_system_time()])
        .await?;
    Ok(sites_of(&taken))
}

async fn compute(
    transaction: &Transaction<'_>,
    level: &Level,
    start: Slot,
    sites: &Option<Vec<i32>>,
) -> Result<(), tokio_postgres::Error> {
    let (statement, start) = (level.compute(sites.is_some()), start.to_system_time());
    let computed = match sites {
        Some(sites) => transaction.execute(&statement, &[&start, sites]).await,
        None => transaction.execute(&statement, &[&start]).await,
    };
    computed.map(drop)
}

const STATE: &str = "SELECT rolled_until, raw_since, hours_since FROM rollup_state";

const MOVE_ON: &str = "UPDATE rollup_state SET rolled_until = $1";

const NOTE_HOURS: &str = "
    INSERT INTO rollup_dirty (period, start)
    SELECT DISTINCT 'hour', hour
      FROM unnest($1::timestamptz[], $2::timestamptz[]) AS span (first, until),
           generate_series(first, until - interval '1 microsecond', '1 hour') AS hour";

const NOTE_DAY: &str = "INSERT INTO rollup_dirty (period, start, site_ids) VALUES ('day', $1, $2)";

const HOUR_NOTED: &str = "SELECT min(start) FROM rollup_dirty WHERE period = 'hour'";

/// A day is computed when it is over and its hours are.
const DAY_NOTED: &str = "
    SELECT min(start) FROM rollup_dirty
     WHERE period = 'day'
       AND start + interval '1 day' <= least($1, (SELECT min(start) FROM rollup_dirty WHERE period = 'hour'))";

const TAKE: &str = "DELETE FROM rollup_dirty WHERE period = $1 AND start = $2 RETURNING site_ids";
