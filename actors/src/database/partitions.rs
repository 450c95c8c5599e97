//! Partitions: made ahead, and on demand for late slots.

use std::time::Duration;

use sitewatch_config::PartitionWidth;
use slog::info;
use tokio::time::Instant;
use tokio_postgres::{Client, GenericClient, Row, Transaction};

use super::{
    error::SessionError,
    width::{Span, misfits, plan, width_for},
};
use crate::model::Slot;

/// Partitions kept ready ahead of the present, besides the current one.
const AHEAD: usize = 7;

/// The same as long as no site is announced: their width is a guess.
const AHEAD_OF_UNKNOWN: usize = 1;

/// How long the number of checks a day is taken for what it was: it takes a look at all revisions of all sites.
const COUNTED_FOR: Duration = Duration::from_secs(3600);

/// The checks: two tables that are partitioned alike.
pub(crate) const CHECKS: &[&str] = &["check_result", "check_detail"];

/// The advisory lock under which partitions are made, so that consumers do not get in each other's way.
const LOCK: i64 = 0x7369_7465_0002;

/// What is known of the existing partitions of tables that are partitioned alike. `make_partition` of `schema.sql` knows them.
pub(crate) struct Partitions {
    tables: &'static [&'static str],
    /// The width of new ones, if somebody has set it.
    width: Option<PartitionWidth>,
    /// The number of checks a day, when it was last counted.
    counted: Option<(Instant, f64)>,
    /// Of each partitioned table: somebody may have dropped or detached one of the one only.
    known: Vec<Vec<Span>>,
}

impl Partitions {
    /// None known yet; new ones will be so wide, or as wide as is best.
    pub(crate) fn new(tables: &'static [&'static str], width: Option<PartitionWidth>) -> Self {
        Self {
            tables,
            width,
            counted: None,
            known: vec![Vec::new(); tables.len()],
        }
    }

    /// Forgets what is known, after the database has contradicted it.
    pub(crate) fn forget(&mut self) {
        self.known.iter_mut().for_each(Vec::clear);
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

    /// Makes the current partition and some ahead. Gives those, of another width than new ones have, that begin after `free`:
    /// nothing is in them yet, and they are in the way.
    pub(crate) async fn make_ahead(
        &mut self,
        client: &mut Client,
        log: &slog::Logger,
        now: Slot,
        free: Slot,
    ) -> Result<Vec<Span>, SessionError> {
        let transaction = self.look(client).await?;
        let (width, is_known) = self.width(&transaction).await?;
        let ahead = if is_known { AHEAD } else { AHEAD_OF_UNKNOWN };
        let mut all = self.known.concat();
        all.sort();
        all.dedup();
        let mut slots = vec![now.as_micros()];
        for _ in 0..ahead {
            let last = slots[slots.len() - 1];
            let span = self.around(last).or_else(|| plan(last, width, &all));
            // Somebody's own may have no end.
            match span {
                Some(span) if span.to < i64::MAX => slots.push(span.to),
                _ => break,
            }
        }
        let misfits = if is_known {
            misfits(&all, free.as_micros(), width)
        } else {
            Vec::new()
        };
        self.make(transaction, log, width, slots).await?;
        Ok(misfits)
    }

    /// Makes the partitions that `slots` need and that are not there.
    pub(crate) async fn cover(
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
            return Ok(());
        }
        let transaction = self.look(client).await?;
        let (width, _) = self.width(&transaction).await?;
        self.make(transaction, log, width, needed).await
    }

    /// The width of new partitions, and whether that is no guess.
    async fn width(
        &mut self,
        transaction: &Transaction<'_>,
    ) -> Result<(PartitionWidth, bool), tokio_postgres::Error> {
        if let Some(width) = self.width {
            return Ok((width, true));
        }
        // That there are none is nothing that lasts.
        let lately = |(at, number): &(Instant, f64)| at.elapsed() < COUNTED_FOR && *number > 0.0;
        let checks_a_day = match self.counted.filter(lately) {
            Some((_, known)) => known,
            None => {
                let counted: f64 = transaction.query_one(CHECKS_A_DAY, &[]).await?.get(0);
                self.counted = Some((Instant::now(), counted));
                counted
            }
        };
        Ok((width_for(checks_a_day), checks_a_day > 0.0))
    }

    /// Learns which partitions there are, in a transaction in which nobody else makes any.
    async fn look<'a>(
        &mut self,
        client: &'a mut Client,
    ) -> Result<Transaction<'a>, tokio_postgres::Error> {
        let transaction = client.transaction().await?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        self.forget();
        for partition in existing(&transaction, self.tables).await? {
            let tables = self.tables.iter().zip(&mut self.known);
            for (_, known) in tables.filter(|(table, _)| **table == partition.parent) {
                known.push(partition.span);
            }
        }
        Ok(transaction)
    }

    async fn make(
        &mut self,
        transaction: Transaction<'_>,
        log: &slog::Logger,
        width: PartitionWidth,
        slots: Vec<i64>,
    ) -> Result<(), SessionError> {
        let mut made: Option<Span> = None;
        for slot in slots {
            for (table, known) in self.tables.iter().zip(&mut self.known) {
                let Some(span) = plan(slot, width, known) else {
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

/// How many checks the sites announce that are checked now. How often a calendar is due is not known here: once an hour, say.
const CHECKS_A_DAY: &str = "
    SELECT coalesce(sum(86400e6 / coalesce(interval_us, 3600e6)), 0)::float8 FROM due_span WHERE due_until = 'infinity'";

/// A partition.
pub(crate) struct Partition {
    pub(crate) parent: String,
    /// As it is to be written in a statement.
    pub(crate) name: String,
    pub(crate) span: Span,
    /// Whether it is half detached: its rows are not seen any more, but no other one can have its slots yet.
    pub(crate) is_going: bool,
}

/// The partitions of these tables, in the order of their slots.
pub(crate) async fn existing(
    client: &impl GenericClient,
    tables: &[&str],
) -> Result<Vec<Partition>, tokio_postgres::Error> {
    let rows = client.query(EXISTING, &[&tables]).await?;
    let partition = |row: Row| Partition {
        parent: row.get(0),
        name: row.get(1),
        span: Span {
            from: row.get(2),
            to: row.get(3),
        },
        is_going: row.get(4),
    };
    Ok(rows.into_iter().map(partition).collect())
}

/// The bounds are read from the catalogue (the session's time zone is UTC). Somebody's partition may be open on one side.
const EXISTING: &str = "
    SELECT parent, name,
           CASE WHEN bounds[1] = 'MINVALUE' THEN -9223372036854775808
                ELSE (extract(epoch FROM trim(bounds[1], '''')::timestamptz) * 1000000)::int8 END AS from_slot,
           CASE WHEN bounds[2] = 'MAXVALUE' THEN 9223372036854775807
                ELSE (extract(epoch FROM trim(bounds[2], '''')::timestamptz) * 1000000)::int8 END, is_going
      FROM (SELECT wanted.name AS parent, c.oid::regclass::text AS name, i.inhdetachpending AS is_going,
                   regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$FROM \\((.+?)\\) TO \\((.+?)\\)$re$) AS bounds
              FROM unnest($1::text[]) AS wanted(name)
              JOIN pg_inherits i ON i.inhparent = to_regclass(quote_ident(wanted.name))
              JOIN pg_class c ON c.oid = i.inhrelid) AS partition
     WHERE bounds IS NOT NULL
     ORDER BY from_slot, parent";
