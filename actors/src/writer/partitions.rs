//! Partitions of the check tables: made ahead, and on demand for late slots.

use slog::info;
use tokio_postgres::Client;

use super::error::SessionError;
use crate::model::Slot;

const DAY: i64 = 86_400_000_000;

/// Partitions kept ready ahead of the present, the current one included.
const AHEAD: i64 = 8;

/// The advisory lock under which partitions are made, so that consumers do not get in each other's way.
const LOCK: i64 = 0x7369_7465_0002;

/// A half-open range of slots, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Span {
    fn contains(self, slot: i64) -> bool {
        self.from <= slot && slot < self.to
    }
}

/// The partition to make for `slot`: of the full width, aligned to it, but cut where others already are (they may be of
/// another width). `None` if one is there.
fn plan(slot: i64, width: i64, existing: &[Span]) -> Option<Span> {
    if existing.iter().any(|span| span.contains(slot)) {
        return None;
    }
    let start = slot - slot.rem_euclid(width);
    let from = existing
        .iter()
        .map(|span| span.to)
        .filter(|to| *to <= slot)
        .fold(start, i64::max);
    let to = existing
        .iter()
        .map(|span| span.from)
        .filter(|from| *from > slot)
        .fold(start + width, i64::min);
    Some(Span { from, to })
}

/// What is known of the existing partitions.
pub(super) struct Partitions {
    width: i64,
    known: Vec<Span>,
}

impl Partitions {
    /// None known yet; new ones will be `days` wide.
    pub(super) fn new(days: u16) -> Self {
        Self {
            width: i64::from(days.max(1)) * DAY,
            known: Vec::new(),
        }
    }

    /// Forgets what is known, after the database has contradicted it.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Makes the partitions from the present on.
    pub(super) async fn make_ahead(
        &mut self,
        client: &mut Client,
        log: &slog::Logger,
        now: Slot,
    ) -> Result<(), SessionError> {
        let slots: Vec<_> = (0..AHEAD)
            .map(|k| now.as_micros() + k * self.width)
            .collect();
        self.make(client, log, slots).await
    }

    /// Makes the partitions that `slots` need and that are not there.
    pub(super) async fn cover(
        &mut self,
        client: &mut Client,
        log: &slog::Logger,
        slots: impl Iterator<Item = Slot>,
    ) -> Result<(), SessionError> {
        let mut last: Option<Span> = None;
        let mut needed = Vec::new();
        for slot in slots.map(Slot::as_micros) {
            // Slots of a batch lie close together: mostly the first look is enough.
            if last.is_some_and(|span| span.contains(slot)) {
                continue;
            }
            last = self.known.iter().copied().find(|span| span.contains(slot));
            if last.is_none() {
                needed.push(slot);
            }
        }
        if needed.is_empty() {
            Ok(())
        } else {
            self.make(client, log, needed).await
        }
    }

    async fn make(
        &mut self,
        client: &mut Client,
        log: &slog::Logger,
        slots: Vec<i64>,
    ) -> Result<(), SessionError> {
        let transaction = client.transaction().await?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        let existing = transaction.query(EXISTING, &[]).await?;
        self.known = existing
            .iter()
            .map(|row| Span {
                from: row.get(0),
                to: row.get(1),
            })
            .collect();
        let mut made: Option<Span> = None;
        for slot in slots {
            let Some(span) = plan(slot, self.width, &self.known) else {
                continue;
            };
            for table in ["check_result", "check_detail"] {
                transaction.batch_execute(&create(table, span)).await?;
            }
            self.known.push(span);
            made = Some(made.map_or(span, |all| Span {
                from: all.from.min(span.from),
                to: all.to.max(span.to),
            }));
        }
        transaction.commit().await?;
        if let Some(made) = made {
            info!(log, "partitions made"; "to" => %Slot::from_micros(made.to), "from" => %Slot::from_micros(made.from));
        }
        Ok(())
    }
}

/// The bounds of the existing partitions, read from the catalogue (the session's time zone is UTC).
const EXISTING: &str = "
    SELECT (extract(epoch FROM bounds[1]::timestamptz) * 1000000)::int8,
           (extract(epoch FROM bounds[2]::timestamptz) * 1000000)::int8
      FROM (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$FROM \\('(.+?)'\\) TO \\('(.+?)'\\)$re$) AS bounds
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'check_result'::regclass AND NOT i.inhdetachpending) AS partition
     WHERE bounds IS NOT NULL";

/// Creates apart and attaches: unlike `CREATE … PARTITION OF`, that takes no ACCESS EXCLUSIVE lock on the parent, so
/// writers and readers go on.
fn create(table: &str, span: Span) -> String {
    let (from, to) = (Slot::from_micros(span.from), Slot::from_micros(span.to));
    let date: String = from
        .to_string()
        .chars()
        .take(13)
        .filter(char::is_ascii_digit)
        .collect();
    format!(
        "CREATE TABLE {table}_{date} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
         ALTER TABLE {table} ATTACH PARTITION {table}_{date} FOR VALUES FROM ('{from}') TO ('{to}');"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn partitions_cover_every_slot_and_never_overlap(
            steps in prop::collection::vec((0i64..400, 1i64..40), 1..60)
        ) {
            let mut existing: Vec<Span> = Vec::new();
            for (day, width) in steps {
                let slot = day * DAY + 12_345;
                if let Some(span) = plan(slot, width * DAY, &existing) {
                    prop_assert!(span.contains(slot));
                    prop_assert!(existing.iter().all(|other| span.to <= other.from || other.to <= span.from));
                    existing.push(span);
                } else {
                    prop_assert!(existing.iter().any(|span| span.contains(slot)));
                }
            }
        }
    }
}
