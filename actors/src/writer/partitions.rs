//! Partitions of the check tables: made ahead, and on demand for late slots.

use slog::info;
use tokio_postgres::Client;

use super::error::SessionError;
use crate::model::Slot;

const DAY: i64 = 86_400_000_000;

/// Partitions kept ready ahead of the present, the current one included.
const AHEAD: i64 = 8;

/// The tables that `make_partition` of `schema.sql` knows.
const TABLES: [&str; 2] = ["check_result", "check_detail"];

/// The advisory lock under which partitions are made, so that consumers do not get in each other's way.
const LOCK: i64 = 0x7369_7465_0002;

/// A half-open range of slots, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Span {
    const EVER: Self = Self {
        from: i64::MIN,
        to: i64::MAX,
    };

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
    /// Of each partitioned table: somebody may have dropped or detached one of the one only.
    known: [Vec<Span>; TABLES.len()],
}

impl Partitions {
    /// None known yet; new ones will be `days` wide.
    pub(super) fn new(days: u16) -> Self {
        Self {
            width: i64::from(days.max(1)) * DAY,
            known: Default::default(),
        }
    }

    /// Forgets what is known, after the database has contradicted it.
    pub(super) fn forget(&mut self) {
        self.known = Default::default();
    }

    /// The slots around `slot` for which all tables have a partition.
    fn around(&self, slot: i64) -> Option<Span> {
        let mut all = Span::EVER;
        for table in &self.known {
            let span = table.iter().find(|span| span.contains(slot))?;
            all = Span {
                from: all.from.max(span.from),
                to: all.to.min(span.to),
            };
        }
        Some(all)
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
            last = self.around(slot);
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
        self.forget();
        for row in transaction.query(EXISTING, &[&&TABLES[..]]).await? {
            let table: i64 = row.get(0);
            let span = Span {
                from: row.get(1),
                to: row.get(2),
            };
            if let Some(known) = usize::try_from(table - 1)
                .ok()
                .and_then(|n| self.known.get_mut(n))
            {
                known.push(span);
            }
        }
        let mut made: Option<Span> = None;
        for slot in slots {
            for (table, known) in TABLES.iter().zip(&mut self.known) {
                let Some(span) = plan(slot, self.width, known) else {
                    continue;
                };
                let (from, to) = (Slot::from_micros(span.from), Slot::from_micros(span.to));
                transaction
                    .execute(
                        "SELECT make_partition($1, $2, $3)",
                        &[table, &from.to_system_time(), &to.to_system_time()],
                    )
                    .await?;
                known.push(span);
                made = Some(made.map_or(span, |all| Span {
                    from: all.from.min(span.from),
                    to: all.to.max(span.to),
                }));
            }
        }
        transaction.commit().await?;
        if let Some(made) = made {
            info!(log, "partitions made"; "to" => %Slot::from_micros(made.to), "from" => %Slot::from_micros(made.from));
        }
        Ok(())
    }
}

/// The bounds of the existing partitions, read from the catalogue (the session's time zone is UTC). Somebody's partition
/// may be open on one side.
const EXISTING: &str = "
    SELECT number, CASE WHEN bounds[1] = 'MINVALUE' THEN -9223372036854775808
                        ELSE (extract(epoch FROM trim(bounds[1], '''')::timestamptz) * 1000000)::int8 END,
                   CASE WHEN bounds[2] = 'MAXVALUE' THEN 9223372036854775807
                        ELSE (extract(epoch FROM trim(bounds[2], '''')::timestamptz) * 1000000)::int8 END
      FROM (SELECT number, regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$FROM \\((.+?)\\) TO \\((.+?)\\)$re$) AS bounds
              FROM unnest($1::text[]) WITH ORDINALITY AS wanted(name, number)
              JOIN pg_inherits i ON i.inhparent = to_regclass(quote_ident(wanted.name))
              JOIN pg_class c ON c.oid = i.inhrelid
             WHERE NOT i.inhdetachpending) AS partition
     WHERE bounds IS NOT NULL";

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
