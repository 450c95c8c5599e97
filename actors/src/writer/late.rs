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

/// Up to where rollups are made, until the end of the transaction. Two statements in one message: a statement sees what was
/// committed when it began, and the first may wait for its lock.
pub(super) async fn rolled_until(transaction: &Transaction<'_>) -> Result<Slot, Error> {
    let statements = format!(
        "SELECT pg_advisory_xact_lock_shared({ROLLUP_LOCK});
         SELECT (extract(epoch FROM rolled_until) * 1000000)::int8 FROM rollup_state"
    );
    let answer = transaction.simple_query(&statements).await?;
    let micros = answer.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    // Without its row nothing is known to be made, so housekeeping will compute all: it makes the row at its next start.
    Ok(Slot::from_micros(micros.unwrap_or(0)))
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
    let mut late: Vec<(Slot, i32, i32)> = late
        .filter_map(|row| {
            let (site, location) = origins.ids(&row.origin)?;
            Some((row.slot.floor(Slot::HOUR), location, site))
        })
        .collect();
    if late.is_empty() {
        return Ok(());
    }
    late.sort_unstable();
    late.dedup();
    let mut notes =
        "INSERT INTO rollup_dirty (period, start, location_id, site_ids) VALUES ".to_owned();
    for (n, group) in late.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).enumerate() {
        let (hour, location, first) = group[0];
        let comma = if n == 0 { "" } else { "," };
        // Numbers and a time only. Writing into a String can't fail.
        let _ = write!(notes, "{comma}('hour','{hour}',{location},'{{{first}");
        for (_, _, site) in &group[1..] {
            let _ = write!(notes, ",{site}");
        }
        notes.push_str("}')");
    }
    transaction.batch_execute(&notes).await
}
