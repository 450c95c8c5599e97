//! Rows that come after the rollups of their hour were made: noted in the transaction that adds them, so that the hour is
//! computed again. `rollup_state` and `rollup_dirty` of `schema.sql` say how the two keep out of each other's way.

use std::fmt::Write as _;

use futures_util::future::join;
use tokio_postgres::{Error, SimpleQueryMessage, Transaction, error::SqlState};

use super::origins::Origins;
use crate::{
    database::ROLLUP_LOCK,
    model::{Row, Slot},
};

/// Two things asked of the database on one way, the first one first: neither waits for the other's answer.
pub(super) async fn together<T, U>(
    one: impl Future<Output = Result<T, Error>>,
    other: impl Future<Output = Result<U, Error>>,
) -> Result<(T, U), Error> {
    match join(one, other).await {
        (Ok(one), Ok(other)) => Ok((one, other)),
        // After the first error the transaction takes nothing more: what comes then says only that.
        (Err(error), Err(other)) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            Err(other)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// What housekeeping has done.
#[derive(Clone, Copy)]
pub(super) struct Done {
    /// Up to where rollups are made.
    pub(super) rolled_until: Slot,
    /// Counts what was judged again.
    pub(super) judged_again: i64,
}

/// What housekeeping has done, and no more of it until the end of the transaction. Two statements in one message: a statement sees
/// what was committed when it began, and the first may wait for its lock.
pub(super) async fn done(transaction: &Transaction<'_>) -> Result<Done, Error> {
    let statements = format!(
        "SELECT pg_advisory_xact_lock_shared({ROLLUP_LOCK});
         SELECT (extract(epoch FROM rolled_until) * 1000000)::int8, judged_again FROM rollup_state"
    );
    let answer = transaction.simple_query(&statements).await?;
    let row = answer.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let number = |n| row.and_then(|row| row.get(n)?.parse().ok());
    // Without its row nothing is known to be made, so housekeeping will compute all: it makes the row at its next start.
    Ok(Done {
        rolled_until: Slot::from_micros(number(0).unwrap_or(0)),
        judged_again: number(1).unwrap_or(0),
    })
}

/// Notes what of `rows` is late.
pub(super) async fn note(
    transaction: &Transaction<'_>,
    rolled_until: Slot,
    rows: &[Row],
    origins: &Origins,
) -> Result<(), Error> {
    let late = rows.iter().filter(|row| row.slot < rolled_until);
    // A row without numbers is refused before this.
    let late = late.filter_map(|row| {
        let (site, location) = origins.ids(&row.origin)?;
        Some((row.slot.floor(Slot::HOUR), location, site))
    });
    match values(late.collect(), "'hour',") {
        Some(values) => {
            let note = format!(
                "INSERT INTO rollup_dirty (period, start, location_id, site_ids) VALUES {values}"
            );
            transaction.batch_execute(&note).await
        }
        None => Ok(()),
    }
}

/// The rows of a note, as SQL: each hour and location with all of its sites, after the columns `before` them. `None` without any.
pub(super) fn values(mut late: Vec<(Slot, i32, i32)>, before: &str) -> Option<String> {
    late.sort_unstable();
    late.dedup();
    let mut values = String::new();
    for group in late.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (hour, location, first) = group[0];
        let comma = if values.is_empty() { "" } else { "," };
        // Numbers and a time only. Writing into a String can't fail.
        let _ = write!(values, "{comma}({before}'{hour}',{location},'{{{first}");
        for (_, _, site) in &group[1..] {
            let _ = write!(values, ",{site}");
        }
        values.push_str("}')");
    }
    (!values.is_empty()).then_some(values)
}
