//! Drops partitions: noted, detached, dropped, each by itself, so that whatever interrupts it is gone on with later.

use std::time::{Duration, Instant};

use sitewatch_config::Retention;
use slog::{Logger, debug, info, warn};
use tokio_postgres::{Client, Error, error::SqlState};

use super::rollup::DAYS_TABLES;
use crate::{
    database::{CHECKS, Partition, Span},
    model::Slot,
};

/// Why a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its rows are older than they are kept.
    Retention,
    /// It was made ahead with another width.
    Width,
}

impl Reason {
    /// The word in the column `partition_drop.reason`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Width => "width",
        }
    }
}

/// Tables whose rows are kept equally long.
pub(super) struct Class {
    pub(super) tables: &'static [&'static str],
    pub(super) kept: Option<Duration>,
    /// What is computed from their rows must have been, before they go.
    needed_for: Option<Needed>,
}

/// What is computed from rows.
#[derive(Clone, Copy)]
struct Needed {
    period: &'static str,
    /// The column of `rollup_state` that says from where on it still can be.
    since: &'static str,
}

/// The classes, with how long each is kept.
pub(super) fn classes(retention: &Retention) -> [Class; 3] {
    let needed = |period, since| Some(Needed { period, since });
    let class = |tables, kept, needed_for| Class {
        tables,
        kept,
        needed_for,
    };
    [
        class(CHECKS, retention.raw, needed("hour", "raw_since")),
        class(
            &["rollup_hour"],
            retention.hourly,
            needed("day", "hours_since"),
        ),
        class(DAYS_TABLES, retention.daily, None),
    ]
}

/// Whether all rows of a partition are older than they are kept.
pub(super) fn reason(span: Span, now: Slot, kept: Option<Duration>) -> Option<Reason> {
    let kept = i64::try_from(kept?.as_micros()).ok()?;
    let oldest = now.as_micros().saturating_sub(kept);
    (span.to <= oldest).then_some(Reason::Retention)
}

/// So long nothing is dropped after a drop that had to wait too long: the rest of the housekeeping does not wait with it each time.
const PAUSE: Duration = Duration::from_secs(30);

/// Drops partitions.
#[derive(Default)]
pub(super) struct Dropper {
    /// Whether it was said that this user may not.
    told: bool,
    /// When a drop had last waited too long.
    waited_at: Option<Instant>,
}

impl Dropper {
    /// Whether a drop waits for those who read the partition, so that none is tried for a while.
    pub(super) fn is_waiting(&self) -> bool {
        self.waited_at.is_some_and(|at| at.elapsed() <= PAUSE)
    }

    /// Returns true if a drop has waited too long and was not done since, whether or not it is time to try it again.
    pub(super) fn has_left_some(&self) -> bool {
        self.waited_at.is_some()
    }

    /// Goes on with what an earlier one has begun. Gives how many are gone.
    pub(super) async fn finish(&mut self, client: &Client, log: &Logger) -> Result<u64, Error> {
        let begun = client.query(BEGUN, &[]).await?;
        if begun.is_empty() {
            // Whatever was waited for, somebody else has finished.
            self.waited_at = None;
        }
        let mut dropped = 0;
        for row in begun {
            let (name, parent): (String, String) = (row.get(0), row.get(1));
            if !row.get::<_, bool>(3) {
                self.refused(&name, log);
                continue;
            }
            let finished = finish_one(client, &name, &parent, row.get(2), log).await;
            dropped += self.unless_waiting(finished, &name, log)?;
            if self.is_waiting() {
                break;
            }
        }
        Ok(dropped)
    }

    /// Tells once that this user may not.
    fn refused(&mut self, name: &str, log: &Logger) {
        if !std::mem::replace(&mut self.told, true) {
            warn!(log, "partitions are to be dropped, but only the owner of the tables can: run `sitewatch-node housekeep` as \
                the owner, as once a day"; "partition" => name);
        }
    }

    /// How many are gone: none if the drop has waited for those who read the partition for postgres.lock_timeout. It is gone on with
    /// later, and nothing is wrong.
    fn unless_waiting(
        &mut self,
        done: Result<u64, Error>,
        name: &str,
        log: &Logger,
    ) -> Result<u64, Error> {
        match done {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                if self.waited_at.replace(Instant::now()).is_none() {
                    info!(log, "a partition is dropped when those who read it have done so"; "partition" => name);
                } else {
                    debug!(log, "a partition is still read"; "partition" => name);
                }
                Ok(0)
            }
            Ok(gone) => {
                self.waited_at = self.waited_at.filter(|_| gone == 0);
                Ok(gone)
            }
            Err(error) => Err(error),
        }
    }

    /// Drops one. Gives how many are gone.
    pub(super) async fn drop(
        &mut self,
        client: &mut Client,
        partition: &Partition,
        class: &Class,
        reason: Reason,
        log: &Logger,
    ) -> Result<u64, Error> {
        let facts = client.query_one(FACTS, &[&partition.name]).await?;
        let (may, bytes): (bool, i64) = (facts.get(0), facts.get(1));
        if !may {
            self.refused(&partition.name, log);
            return Ok(0);
        }
        let gone = drop_one(client, partition, class, reason).await;
        let gone = self.unless_waiting(gone, &partition.name, log)?;
        if gone > 0 {
            info!(log, "partition dropped"; "bytes" => bytes, "reason" => reason.as_str(),
                "to" => %Slot::from_micros(partition.span.to), "partition" => &partition.name);
        }
        Ok(gone)
    }
}

/// Goes on with one that was noted. `detaching`: whether it is half detached; `None`: it is not attached any more.
async fn finish_one(
    client: &Client,
    name: &str,
    parent: &str,
    detaching: Option<bool>,
    log: &Logger,
) -> Result<u64, Error> {
    let mut dropped = 0;
    // One that never was detached: whether it is to go is decided anew.
    if detaching != Some(false) {
        if detaching == Some(true) {
            let finalize = format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE");
            client.batch_execute(&finalize).await?;
        }
        client
            .batch_execute(&format!("DROP TABLE IF EXISTS {name}"))
            .await?;
        info!(log, "a partition whose dropping was interrupted is gone"; "partition" => name);
        dropped = 1;
    }
    forget(client, name).await?;
    Ok(dropped)
}

/// Drops one, unless something that needs it is not computed yet. Gives how many are gone.
async fn drop_one(
    client: &mut Client,
    partition: &Partition,
    class: &Class,
    reason: Reason,
) -> Result<u64, Error> {
    let Partition {
        name, parent, span, ..
    } = partition;
    if reason == Reason::Width {
        let is_empty = format!("SELECT NOT EXISTS (SELECT FROM {name})");
        if !client.query_one(&is_empty, &[]).await?.get::<_, bool>(0) {
            return Ok(0);
        }
    }
    let transaction = client.transaction().await?;
    if let Some(Needed { period, since }) = class.needed_for
        && reason == Reason::Retention
    {
        let until = Slot::from_micros(span.to).to_system_time();
        let computed = transaction.query_one(COMPUTED, &[&until, &period]).await?;
        if !computed.get::<_, bool>(0) {
            return Ok(0);
        }
        let no_more = format!("UPDATE rollup_state SET {since} = greatest({since}, $1)");
        transaction.execute(&no_more, &[&until]).await?;
    }
    transaction
        .execute(NOTE, &[name, parent, &reason.as_str()])
        .await?;
    transaction.commit().await?;
    fail::fail_point!("housekeeping::noted");
    // Waits for the transactions that see it, and nobody waits for it.
    client
        .batch_execute(&format!(
            "ALTER TABLE {parent} DETACH PARTITION {name} CONCURRENTLY"
        ))
        .await?;
    fail::fail_point!("housekeeping::detached");
    client.batch_execute(&format!("DROP TABLE {name}")).await?;
    fail::fail_point!("housekeeping::dropped");
    forget(client, name).await?;
    Ok(1)
}

async fn forget(client: &Client, name: &str) -> Result<(), Error> {
    let forget = "DELETE FROM partition_drop WHERE name = $1";
    client.execute(forget, &[&name]).await.map(drop)
}

/// What was noted, whether it is attached (`false`), half detached (`true`), or neither, and whether this user may drop it and forget it.
const BEGUN: &str = "
    SELECT d.name, d.parent, i.inhdetachpending,
           coalesce(pg_has_role(p.relowner, 'USAGE'), true) AND has_table_privilege('partition_drop', 'DELETE')
      FROM partition_drop d
      LEFT JOIN pg_class p ON p.oid = to_regclass(d.parent)
      LEFT JOIN pg_inherits i ON i.inhrelid = to_regclass(d.name) AND i.inhparent = to_regclass(d.parent)
     ORDER BY i.inhdetachpending NULLS FIRST -- what need not wait";

const FACTS: &str = "
    SELECT pg_has_role(c.relowner, 'USAGE'), pg_total_relation_size(c.oid) FROM pg_class c WHERE c.oid = to_regclass($1)";

/// Whether what is computed from rows before `$1` is. An hour that is noted will note its day.
const COMPUTED: &str = "
    SELECT rolled_until >= $1 AND NOT EXISTS (SELECT FROM rollup_dirty WHERE period IN ('hour', $2) AND start < $1) FROM rollup_state";

const NOTE: &str = "
    INSERT INTO partition_drop (name, parent, reason) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn a_partition_goes_when_its_youngest_row_is_too_old() {
        let span = Span {
            from: 10 * DAY,
            to: 17 * DAY,
        };
        let kept = Some(Duration::from_secs(90 * 86_400));
        let on = |day| reason(span, Slot::from_micros(day * DAY), kept);
        assert_eq!(on(106), None);
        assert_eq!(on(107), Some(Reason::Retention));
        assert_eq!(reason(span, Slot::from_micros(i64::MAX), None), None);
        let endless = Span {
            to: i64::MAX,
            ..span
        };
        assert_eq!(reason(endless, Slot::from_micros(200 * DAY), kept), None);
    }

    #[test]
    fn a_drop_that_waits_is_left_also_when_it_is_time_to_try_it_again() {
        let mut dropper = Dropper::default();
        assert!(!dropper.is_waiting() && !dropper.has_left_some());
        dropper.waited_at = Some(Instant::now());
        assert!(dropper.is_waiting() && dropper.has_left_some());
        dropper.waited_at = Instant::now().checked_sub(PAUSE + Duration::from_secs(1));
        assert!(!dropper.is_waiting() && dropper.has_left_some());
    }
}
