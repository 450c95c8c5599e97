//! Drops partitions: noted, detached, dropped, each by itself, so that whatever interrupts it is gone on with later.

use std::time::Duration;

use sitewatch_config::Retention;
use slog::{Logger, info, warn};
use tokio_postgres::{Client, Error};

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

/// Drops partitions.
#[derive(Default)]
pub(super) struct Dropper {
    /// Whether it was said that this user may not.
    told: bool,
}

impl Dropper {
    /// Goes on with what an earlier one has begun.
    pub(super) async fn finish(&self, client: &Client, log: &Logger) -> Result<u64, Error> {
        let mut dropped = 0;
        for row in client.query(BEGUN, &[]).await? {
            let (name, parent): (String, String) = (row.get(0), row.get(1));
            match row.get::<_, Option<bool>>(2) {
                // It never was detached: whether it is to go is decided anew.
                Some(false) => {}
                detaching => {
                    if detaching == Some(true) {
                        let finalize =
                            format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE");
                        client.batch_execute(&finalize).await?;
                    }
                    client
                        .batch_execute(&format!("DROP TABLE IF EXISTS {name}"))
                        .await?;
                    info!(log, "a partition whose dropping was interrupted is gone"; "partition" => &name);
                    dropped += 1;
                }
            }
            forget(client, &name).await?;
        }
        Ok(dropped)
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
        let Partition { name, parent, span } = partition;
        let facts = client.query_one(FACTS, &[name]).await?;
        let (may, bytes): (bool, i64) = (facts.get(0), facts.get(1));
        if !may {
            if !std::mem::replace(&mut self.told, true) {
                warn!(log, "partitions are to be dropped, but only the owner of the tables can: run `sitewatch-node housekeep` as \
                    the owner, as once a day"; "partition" => name, "reason" => reason.as_str());
            }
            return Ok(0);
        }
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
        info!(log, "partition dropped"; "bytes" => bytes, "reason" => reason.as_str(),
            "to" => %Slot::from_micros(span.to), "partition" => name);
        Ok(1)
    }
}

async fn forget(client: &Client, name: &str) -> Result<(), Error> {
    let forget = "DELETE FROM partition_drop WHERE name = $1";
    client.execute(forget, &[&name]).await.map(drop)
}

/// What was noted, and whether it is attached (`false`), half detached (`true`), or neither.
const BEGUN: &str = "
    SELECT d.name, d.parent, i.inhdetachpending
      FROM partition_drop d
      LEFT JOIN pg_inherits i ON i.inhrelid = to_regclass(d.name) AND i.inhparent = to_regclass(d.parent)";

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
}
