//! Takes partitions away: noted, detached, and dropped after a grace, each by itself, so that whatever interrupts it is gone on with
//! later. What is detached comes back when it is not too old after all, as after a clock was set right.

use std::time::{Duration, Instant, SystemTime};

use slog::{Logger, debug, info, warn};
use tokio_postgres::{Client, Error, Row, error::SqlState};

use super::retention::{Class, Needed, Reason, reason};
use crate::{
    database::{Partition, Span},
    model::Slot,
};

/// So long nothing is dropped after a drop that had to wait too long: the rest of the housekeeping does not wait with it each time.
const PAUSE: Duration = Duration::from_secs(30);

/// What is to be done with partitions that are on their way out, and by which time.
pub(super) struct Order<'a> {
    /// The time by which rows are too old; `None` while that is not known: nothing is destroyed then.
    pub(super) horizon: Option<Slot>,
    /// The database's time.
    pub(super) now: Slot,
    /// How long a detached partition stays.
    pub(super) grace: Duration,
    pub(super) classes: &'a [Class],
}

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

    /// Goes on with what an earlier pass has begun. Returns how many partitions are gone.
    pub(super) async fn finish(
        &mut self,
        client: &mut Client,
        order: &Order<'_>,
        log: &Logger,
    ) -> Result<u64, Error> {
        let begun = client.query(BEGUN, &[]).await?;
        let begun: Vec<_> = begun.iter().map(Begun::of).collect();
        if !begun.iter().any(|it| it.state != State::Detached) {
            // Whatever was waited for, somebody else has finished.
            self.waited_at = None;
        }
        let mut dropped = 0;
        for partition in begun {
            if !partition.may {
                self.refused(&partition.name, log);
                continue;
            }
            let finished = finish_one(client, &partition, order, log).await;
            dropped += self.unless_waiting(finished, &partition.name, log)?;
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

    /// Takes one away. Returns how many are gone from their table.
    pub(super) async fn drop(
        &mut self,
        client: &mut Client,
        partition: &Partition,
        going: Going<'_>,
        log: &Logger,
    ) -> Result<u64, Error> {
        let facts = client.query_one(FACTS, &[&partition.name]).await?;
        let (may, bytes): (bool, i64) = (facts.get(0), facts.get(1));
        if !may {
            self.refused(&partition.name, log);
            return Ok(0);
        }
        let gone = take_away(client, partition, &going).await;
        let gone = self.unless_waiting(gone, &partition.name, log)?;
        if gone > 0 {
            let (reason, to) = (going.reason.as_str(), Slot::from_micros(partition.span.to));
            if going.stays.is_zero() {
                info!(log, "partition dropped"; "bytes" => bytes, "reason" => reason, "to" => %to, "partition" => &partition.name);
            } else {
                info!(log, "partition detached: it is dropped later, see postgres.retention.grace"; "bytes" => bytes,
                    "dropped_in" => %humantime::format_duration(going.stays), "reason" => reason, "to" => %to,
                    "partition" => &partition.name);
            }
        }
        Ok(gone)
    }
}

/// Why and how a partition goes.
pub(super) struct Going<'a> {
    pub(super) class: &'a Class,
    pub(super) reason: Reason,
    pub(super) now: Slot,
    /// How long it stays as a table of its own.
    pub(super) stays: Duration,
}

/// Where a partition is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Part of its table: whether it is to go is decided anew.
    Attached,
    /// Not seen in its table any more, and still in the way of another one.
    HalfDetached,
    /// A table of its own, or no table any more.
    Detached,
}

/// A partition that an earlier pass has noted.
struct Begun {
    name: String,
    parent: String,
    state: State,
    /// Whether this user may drop it and forget it.
    may: bool,
    /// Whether it had no rows, but another width than new ones.
    is_misfit: bool,
    detached_at: Option<Slot>,
    /// What it was for, unless an earlier version has detached it.
    span: Option<Span>,
}

impl Begun {
    fn of(row: &Row) -> Self {
        let slot = |n| {
            row.get::<_, Option<SystemTime>>(n)
                .map(Slot::from_system_time)
        };
        Self {
            name: row.get(0),
            parent: row.get(1),
            state: match row.get(2) {
                Some(false) => State::Attached,
                Some(true) => State::HalfDetached,
                None => State::Detached,
            },
            may: row.get(3),
            is_misfit: row.get::<_, &str>(4) == Reason::Width.as_str(),
            detached_at: slot(5),
            span: slot(6).zip(slot(7)).map(|(from, to)| Span {
                from: from.as_micros(),
                to: to.as_micros(),
            }),
        }
    }
}

/// Goes on with one that was noted. Returns how many are gone by that.
async fn finish_one(
    client: &mut Client,
    begun: &Begun,
    order: &Order<'_>,
    log: &Logger,
) -> Result<u64, Error> {
    let Begun { name, parent, .. } = begun;
    match begun.state {
        State::Attached => {
            forget(client, name).await?;
            return Ok(0);
        }
        State::HalfDetached => {
            let finalize = format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE");
            client.batch_execute(&finalize).await?;
        }
        State::Detached => {}
    }
    let gone_now = u64::from(begun.detached_at.is_none());
    // One that was interrupted, or detached by a clock that was ahead.
    let detached_at = begun.detached_at.filter(|at| *at <= order.now);
    if detached_at.is_none() {
        detached(client, name, order.now).await?;
    }
    if let (Some(span), Some(horizon)) = (begun.span, order.horizon)
        && !begun.is_misfit
        && let Some(class) = order
            .classes
            .iter()
            .find(|it| it.tables.contains(&&**parent))
        && reason(span, horizon, class.kept).is_none()
    {
        return bring_back(client, begun, span, class, log)
            .await
            .map(|()| 0);
    }
    let grace = i64::try_from(order.grace.as_micros()).unwrap_or(i64::MAX);
    let since = detached_at.unwrap_or(order.now);
    let is_over = |horizon: Slot| horizon.micros_since(since) >= grace;
    if begun.is_misfit || order.grace.is_zero() || order.horizon.is_some_and(is_over) {
        client
            .batch_execute(&format!("DROP TABLE IF EXISTS {name}"))
            .await?;
        fail::fail_point!("housekeeping::dropped");
        forget(client, name).await?;
        info!(log, "detached partition dropped"; "partition" => name);
    }
    Ok(gone_now)
}

/// Makes a detached partition one of its table again. Another one may have its slots by now: then it stays where it is.
async fn bring_back(
    client: &mut Client,
    begun: &Begun,
    span: Span,
    class: &Class,
    log: &Logger,
) -> Result<(), Error> {
    let Begun { name, parent, .. } = begun;
    let (from, to) = (Slot::from_micros(span.from), Slot::from_micros(span.to));
    let transaction = client.transaction().await?;
    let attach = format!(
        "ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"
    );
    match transaction.batch_execute(&attach).await {
        Ok(()) => {}
        Err(error) if error.code() == Some(&SqlState::INVALID_OBJECT_DEFINITION) => {
            debug!(log, "a detached partition is not too old, but another one has its slots"; "partition" => name);
            return Ok(());
        }
        // Somebody has dropped it.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            drop(transaction);
            return forget(client, name).await;
        }
        Err(error) => return Err(error),
    }
    transaction
        .execute("DELETE FROM partition_drop WHERE name = $1", &[name])
        .await?;
    if let Some(Needed { since, .. }) = class.needed_for {
        // The latest one comes back first: later ones that are still away can't.
        let again = format!(
            "UPDATE rollup_state SET {since} = $1 WHERE {since} > $1
                AND NOT EXISTS (SELECT FROM partition_drop WHERE parent = $2 AND from_slot >= $3)"
        );
        let (from, to) = (from.to_system_time(), to.to_system_time());
        transaction.execute(&again, &[&from, parent, &to]).await?;
    }
    transaction.commit().await?;
    warn!(log, "a detached partition is not too old any more and is back: was a clock wrong, or is more kept now?";
        "partition" => name, "to" => %to);
    Ok(())
}

/// Takes one away, unless something that needs it is not computed yet. Returns how many are gone.
async fn take_away(
    client: &mut Client,
    partition: &Partition,
    going: &Going<'_>,
) -> Result<u64, Error> {
    let Partition {
        name, parent, span, ..
    } = partition;
    if going.reason == Reason::Width {
        let is_empty = format!("SELECT NOT EXISTS (SELECT FROM {name})");
        if !client.query_one(&is_empty, &[]).await?.get::<_, bool>(0) {
            return Ok(0);
        }
    }
    // Somebody's own may be open at one end: it is not brought back.
    let is_closed = span.from > i64::MIN && span.to < i64::MAX;
    let bound = |micros| is_closed.then(|| Slot::from_micros(micros).to_system_time());
    let (from, to) = (bound(span.from), bound(span.to));
    let transaction = client.transaction().await?;
    if let Some(Needed { period, since }) = going.class.needed_for
        && going.reason == Reason::Retention
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
        .execute(NOTE, &[name, parent, &going.reason.as_str(), &from, &to])
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
    if !going.stays.is_zero() {
        detached(client, name, going.now).await?;
        return Ok(1);
    }
    client.batch_execute(&format!("DROP TABLE {name}")).await?;
    fail::fail_point!("housekeeping::dropped");
    forget(client, name).await?;
    Ok(1)
}

async fn detached(client: &Client, name: &str, now: Slot) -> Result<(), Error> {
    let note = "UPDATE partition_drop SET detached_at = $2 WHERE name = $1";
    client
        .execute(note, &[&name, &now.to_system_time()])
        .await
        .map(drop)
}

async fn forget(client: &Client, name: &str) -> Result<(), Error> {
    let forget = "DELETE FROM partition_drop WHERE name = $1";
    client.execute(forget, &[&name]).await.map(drop)
}

/// What was noted, whether it is attached (`false`), half detached (`true`), or neither, whether this user may drop it and forget it, and
/// the rest of the note. First what need not wait, and of these the latest slots.
const BEGUN: &str = "
    SELECT d.name, d.parent, i.inhdetachpending,
           coalesce(pg_has_role(p.relowner, 'USAGE'), true) AND has_table_privilege('partition_drop', 'DELETE'),
           d.reason, d.detached_at, d.from_slot, d.to_slot
      FROM partition_drop d
      LEFT JOIN pg_class p ON p.oid = to_regclass(d.parent)
      LEFT JOIN pg_inherits i ON i.inhrelid = to_regclass(d.name) AND i.inhparent = to_regclass(d.parent)
     ORDER BY i.inhdetachpending NULLS FIRST, d.to_slot DESC";

const FACTS: &str = "
    SELECT pg_has_role(c.relowner, 'USAGE'), pg_total_relation_size(c.oid) FROM pg_class c WHERE c.oid = to_regclass($1)";

/// Whether what is computed from rows before `$1` is. An hour that is noted will note its day.
const COMPUTED: &str = "
    SELECT rolled_until >= $1 AND NOT EXISTS (SELECT FROM rollup_dirty WHERE period IN ('hour', $2) AND start < $1) FROM rollup_state";

const NOTE: &str = "
    INSERT INTO partition_drop (name, parent, reason, from_slot, to_slot) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING";

#[cfg(test)]
mod tests {
    use super::*;

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
