//! Checks, as they are stored, on their way to elsewhere: streamed, so that any number of them takes little memory.

use std::{fmt::Write as _, io, time::SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use sitewatch_config::PostgresSettings;
use thiserror::Error;

use crate::{
    database::{AskError, ask, numbers},
    model::{Slot, Whose},
};

/// What is asked.
#[derive(Clone, Debug)]
pub struct ExportQuestion {
    /// From this slot on.
    pub from: Slot,
    /// Until before this one.
    pub to: Slot,
    /// Of which sites.
    pub whose: Whose,
}

/// Why an export has not come to its end.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The database.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Where it is written to.
    #[error("it can't be written: {0}")]
    Write(#[from] io::Error),
}

impl From<tokio_postgres::Error> for ExportError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Ask(error.into())
    }
}

/// The columns, in their order.
pub const COLUMNS: [&str; 11] = [
    "site",
    "group",
    "location",
    "slot",
    "outcome",
    "error",
    "status",
    "total_us",
    "ttfb_us",
    "lateness_ms",
    "detail",
];

/// A check.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedRow {
    /// The site's name.
    pub site: String,
    /// Its group.
    pub group: Option<String>,
    /// Where it was checked from.
    pub location: String,
    /// When it was due, in microseconds since 1970 UTC.
    pub slot_us: i64,
    /// How it ended.
    pub outcome: String,
    /// What was wrong.
    pub error: Option<String>,
    /// HTTP status.
    pub status: Option<i32>,
    /// Total time in microseconds.
    pub total_us: Option<i32>,
    /// Time to the first byte in microseconds, to 2 %.
    pub ttfb_us: Option<i32>,
    /// Actual start minus slot in milliseconds.
    pub lateness_ms: i32,
    /// What was wrong, in words.
    pub detail: Option<String>,
}

/// The statement: each site and location after the other, the slots of each in their order, without sorting anything.
fn statement(question: &ExportQuestion, sites: &Option<Vec<i32>>) -> String {
    let mut only = String::new();
    if let Some(sites) = sites {
        let numbers: Vec<_> = sites.iter().map(i32::to_string).collect();
        // Numbers only. Writing into a String can't fail.
        let _ = write!(only, "WHERE p.site_id = ANY ('{{{}}}')", numbers.join(","));
    }
    let (from, to) = (question.from, question.to);
    format!(
        "SELECT s.name AS site, s.group_name AS \"group\", l.name AS location, c.slot, o.name AS outcome, e.name AS error,
                c.status::int4 AS status, c.total_us, least(hist_value(c.ttfb_bucket), 2147483647)::int4 AS ttfb_us, c.lateness_ms, c.detail
           FROM (SELECT * FROM site_location p {only} ORDER BY site_id, location_id) AS p
           JOIN site s USING (site_id) JOIN location l USING (location_id)
          CROSS JOIN LATERAL (
                SELECT c.*, (SELECT d.detail FROM check_detail d
                              WHERE c.error <> 0 AND d.site_id = p.site_id AND d.location_id = p.location_id AND d.slot = c.slot) AS detail
                  FROM check_result c
                 WHERE c.site_id = p.site_id AND c.location_id = p.location_id AND c.slot >= '{from}' AND c.slot < '{to}'
                 ORDER BY c.slot OFFSET 0) AS c
           JOIN outcome o ON o.outcome_id = c.outcome LEFT JOIN error_kind e ON e.error_id = c.error"
    )
}

/// Hands them on as lines of CSV with a head (RFC 4180, as PostgreSQL writes it): what is not known is empty. Gives their number.
///
/// # Errors
/// What the database says, or whoever takes it.
pub async fn export_csv(
    settings: &PostgresSettings,
    question: &ExportQuestion,
    mut take: impl AsyncFnMut(Bytes) -> io::Result<()>,
) -> Result<u64, ExportError> {
    let client = ask(settings, &["check_result"]).await?;
    let sites = numbers(&client, &question.whose).await?;
    client.batch_execute(SESSION).await?;
    let statement = statement(question, &sites);
    let copy = format!("COPY ({statement}) TO STDOUT WITH (FORMAT csv, HEADER)");
    let stream = client.copy_out(&copy).await?;
    let mut stream = std::pin::pin!(stream);
    let mut rows = 0u64;
    while let Some(line) = stream.try_next().await? {
        // One message a row.
        rows += 1;
        take(line).await?;
    }
    Ok(rows.saturating_sub(1))
}

/// Hands them on one by one. Gives their number.
///
/// # Errors
/// What the database says, or whoever takes them.
pub async fn export_rows(
    settings: &PostgresSettings,
    question: &ExportQuestion,
    mut take: impl AsyncFnMut(ExportedRow) -> io::Result<()>,
) -> Result<u64, ExportError> {
    let client = ask(settings, &["check_result"]).await?;
    let sites = numbers(&client, &question.whose).await?;
    client.batch_execute(SESSION).await?;
    let none: [&str; 0] = [];
    let stream = client.query_raw(&statement(question, &sites), none).await?;
    let mut stream = std::pin::pin!(stream);
    let mut rows = 0;
    while let Some(row) = stream.next().await {
        let row = row?;
        rows += 1;
        take(ExportedRow {
            site: row.get(0),
            group: row.get(1),
            location: row.get(2),
            slot_us: Slot::from_system_time(row.get::<_, SystemTime>(3)).as_micros(),
            outcome: row.get(4),
            error: row.get(5),
            status: row.get(6),
            total_us: row.get(7),
            ttfb_us: row.get(8),
            lateness_ms: row.get(9),
            detail: row.get(10),
        })
        .await?;
    }
    Ok(rows)
}

/// The order of the rows is that of the plan, in which nothing is sorted whole, though a table has grown since it was last analysed: loops
/// over sites and locations, each with its checks by their key. Compiling it gains nothing.
const SESSION: &str = "
    SET jit = off; SET geqo = off; SET max_parallel_workers_per_gather = 0;
    SET enable_sort = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_nestloop = on; SET enable_indexscan = on;
    SET enable_seqscan = on; SET enable_partition_pruning = on; SET plan_cache_mode = auto";
