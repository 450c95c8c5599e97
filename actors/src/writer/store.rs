//! One batch, one transaction: rows, dead letters and offsets, or nothing.

use std::{pin::pin, time::Duration};

use slog::{Logger, debug, warn};
use tokio_postgres::{
    Transaction,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use super::{
    error::{SessionError, plain},
    jsonb::Jsonb,
    letters,
    origins::Origins,
    revisions,
    session::Session,
    sqlstate::{Remedy, remedy_of},
};
use crate::model::{Batch, DeadLetter, DeadReason, Row};

/// What a stored batch brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// New rows.
    pub(super) rows: u64,
    /// Rows that were there already.
    pub(super) duplicates: u64,
    /// Rows that the database refused, now dead letters.
    pub(super) refused: u64,
}

/// How storing a batch ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Committed.
    Stored(Stored),
    /// Another owner has moved an offset: nothing was stored.
    Fenced,
    /// An earlier try, whose commit was not heard of, had succeeded.
    AlreadyStored,
}

/// What one try needs besides the batch.
pub(super) struct Try<'a> {
    pub(super) session: &'a mut Session,
    pub(super) log: &'a Logger,
    /// Whether an earlier try of this batch got as far as its commit.
    pub(super) commit_unknown: &'a mut bool,
}

impl Try<'_> {
    /// Stores `batch`, choosing the fast way first and the careful one where it must.
    pub(super) async fn store(mut self, batch: &Batch) -> Result<End, SessionError> {
        self.session
            .origins
            .learn(&mut self.session.client, batch.origins())
            .await?;
        let mut way = Way::Direct;
        for _ in 0..4 {
            let slots = batch.rows.iter().map(|row| row.slot);
            self.session
                .partitions
                .cover(&mut self.session.client, self.log, slots)
                .await?;
            match self.transact(batch, way).await {
                Err(SessionError::Database(error)) => match remedy_of(&error) {
                    Remedy::Absorb | Remedy::SetAside => {
                        debug!(self.log, "the direct way is closed to this batch"; "reason" => plain(&error));
                        way = Way::Staged;
                    }
                    Remedy::Repartition => self.session.partitions.forget(),
                    Remedy::Retry => {
                        warn!(self.log, "PostgreSQL asks for another try"; "reason" => plain(&error));
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    Remedy::Reconnect | Remedy::Drift | Remedy::Denied => return Err(error.into()),
                },
                end => return end,
            }
        }
        // The staged way meets neither duplicates nor bad rows as errors: two tries in a row mean something else.
        self.transact(batch, Way::Staged).await
    }

    async fn transact(&mut self, batch: &Batch, way: Way) -> Result<End, SessionError> {
        let transaction = self.session.client.transaction().await?;
        if !(move_offsets(&transaction, batch).await? && letters::take(&transaction, batch).await?)
        {
            let moved = *self.commit_unknown && moved_already(&transaction, batch).await?;
            transaction.rollback().await?;
            return Ok(if moved {
                End::AlreadyStored
            } else {
                End::Fenced
            });
        }
        let origins = &self.session.origins;
        let (mut stored, refused) = match way {
            Way::Direct => (
                copy_direct(&transaction, &batch.rows, origins).await?,
                Vec::new(),
            ),
            Way::Staged => store_staged(&transaction, &batch.rows, origins).await?,
        };
        write_dead_letters(&transaction, batch, &refused).await?;
        stored.refused += revisions::store(&transaction, batch, origins).await?;
        fail::fail_point!("writer::before_commit");
        *self.commit_unknown = true;
        transaction.commit().await?;
        Ok(End::Stored(stored))
    }
}

#[derive(Clone, Copy)]
enum Way {
    /// Straight into the partitioned table: fails as a whole on a duplicate or a bad row.
    Direct,
    /// Through the stage: about half as fast.
    Staged,
}

/// Moves the offsets on from where the batch begins; `false` if they are not there, which fences off a consumer that does
/// not know yet that it has lost a partition.
async fn move_offsets(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<bool, tokio_postgres::Error> {
    let (partitions, expected, next) = columns(batch);
    let moved = transaction
        .execute(
            "UPDATE kafka_offset AS stored SET next = batch.next, updated_at = now()
               FROM unnest($2::int4[], $3::int8[], $4::int8[]) AS batch(partition, expected, next)
              WHERE stored.topic = $1 AND stored.partition = batch.partition AND stored.next = batch.expected",
            &[&&*batch.topic, &partitions, &expected, &next],
        )
        .await?;
    for range in &batch.ranges {
        for (from, to) in &range.absent {
            transaction
                .execute(
                    "INSERT INTO kafka_gap (topic, partition, reason, from_offset, to_offset) VALUES ($1, $2, 'absent', $3, $4)",
                    &[&&*batch.topic, &range.partition, from, to],
                )
                .await?;
        }
    }
    Ok(moved == batch.ranges.len() as u64)
}

async fn moved_already(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<bool, tokio_postgres::Error> {
    let (partitions, _, next) = columns(batch);
    let there: i64 = transaction
        .query_one(
            "SELECT count(*) FROM kafka_offset AS stored
               JOIN unnest($2::int4[], $3::int8[]) AS batch(partition, next) USING (partition)
              WHERE stored.topic = $1 AND stored.next >= batch.next",
            &[&&*batch.topic, &partitions, &next],
        )
        .await?
        .get(0);
    Ok(there == batch.ranges.len() as i64)
}

fn columns(batch: &Batch) -> (Vec<i32>, Vec<i64>, Vec<i64>) {
    let ranges = &batch.ranges;
    (
        ranges.iter().map(|range| range.partition).collect(),
        ranges.iter().map(|range| range.from).collect(),
        ranges.iter().map(|range| range.next).collect(),
    )
}

const RESULT_TYPES: [Type; 8] = [
    Type::TIMESTAMPTZ,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT2,
    Type::INT2,
    Type::INT2,
];

const DETAIL_TYPES: [Type; 3] = [Type::TEXT, Type::JSONB, Type::JSONB];

async fn copy_direct(
    transaction: &Transaction<'_>,
    rows: &[Row],
    origins: &Origins,
) -> Result<Stored, tokio_postgres::Error> {
    let sink = transaction
        .copy_in(
            "COPY check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error)
             FROM STDIN BINARY",
        )
        .await?;
    let mut copy = pin!(BinaryCopyInWriter::new(sink, &RESULT_TYPES));
    for row in rows {
        let columns = Columns::of(row, origins);
        copy.as_mut().write(&columns.narrow()).await?;
    }
    let stored = copy.finish().await?;
    let detailed = rows.iter().filter(|row| row.detail.is_some());
    if detailed.clone().next().is_some() {
        let sink = transaction
            .copy_in("COPY check_detail (slot, site_id, location_id, detail, facts, capture) FROM STDIN BINARY")
            .await?;
        let types: Vec<_> = RESULT_TYPES[..3]
            .iter()
            .cloned()
            .chain(DETAIL_TYPES)
            .collect();
        let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
        for row in detailed {
            let columns = Columns::of(row, origins);
            copy.as_mut()
                .write(&[
                    &columns.slot,
                    &columns.site,
                    &columns.location,
                    &columns.detail,
                    &columns.facts,
                    &columns.capture,
                ])
                .await?;
        }
        copy.finish().await?;
    }
    Ok(Stored {
        rows: stored,
        ..Stored::default()
    })
}

/// Stores `rows` through the stage. Duplicates are absorbed; a range with a row that the database refuses is halved until
/// the row is alone: bad rows × log n tries.
async fn store_staged<'a>(
    transaction: &Transaction<'_>,
    rows: &'a [Row],
    origins: &Origins,
) -> Result<(Stored, Vec<(&'a Row, String)>), tokio_postgres::Error> {
    let (mut stored, mut refused) = (Stored::default(), Vec::new());
    let mut ranges = vec![rows];
    while let Some(range) = ranges.pop() {
        transaction.batch_execute("SAVEPOINT part").await?;
        match store_part(transaction, range, origins).await {
            Ok(new) => {
                transaction.batch_execute("RELEASE SAVEPOINT part").await?;
                stored.rows += new;
                stored.duplicates += range.len() as u64 - new;
            }
            Err(error) if remedy_of(&error) == Remedy::SetAside => {
                transaction
                    .batch_execute("ROLLBACK TO SAVEPOINT part")
                    .await?;
                if let [row] = range {
                    stored.refused += 1;
                    refused.push((row, plain(&error)));
                } else {
                    let (first, second) = range.split_at(range.len() / 2);
                    ranges.extend([second, first]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((stored, refused))
}

async fn store_part(
    transaction: &Transaction<'_>,
    rows: &[Row],
    origins: &Origins,
) -> Result<u64, tokio_postgres::Error> {
    transaction.batch_execute("TRUNCATE staged_check").await?;
    let sink = transaction
        .copy_in("COPY staged_check FROM STDIN BINARY")
        .await?;
    let types: Vec<_> = RESULT_TYPES.into_iter().chain(DETAIL_TYPES).collect();
    let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in rows {
        let columns = Columns::of(row, origins);
        let [
            slot,
            site,
            location,
            total,
            lateness,
            status,
            outcome,
            error,
        ] = columns.narrow();
        copy.as_mut()
            .write(&[
                slot,
                site,
                location,
                total,
                lateness,
                status,
                outcome,
                error,
                &columns.detail,
                &columns.facts,
                &columns.capture,
            ])
            .await?;
    }
    copy.finish().await?;
    let new = transaction
        .execute(
            "INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error)
             SELECT slot, site_id, location_id, total_us, lateness_ms, status, outcome, error FROM staged_check
             ON CONFLICT DO NOTHING",
            &[],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO check_detail (slot, site_id, location_id, detail, facts, capture)
             SELECT slot, site_id, location_id, detail, facts, capture FROM staged_check WHERE detail IS NOT NULL
             ON CONFLICT DO NOTHING",
            &[],
        )
        .await?;
    Ok(new)
}

/// A row as its columns.
struct Columns<'a> {
    slot: std::time::SystemTime,
    site: Option<i32>,
    location: Option<i32>,
    outcome: i16,
    error: Option<i16>,
    detail: Option<&'a str>,
    facts: Option<Jsonb<'a>>,
    capture: Option<Jsonb<'a>>,
    row: &'a Row,
}

impl<'a> Columns<'a> {
    fn of(row: &'a Row, origins: &Origins) -> Self {
        // `learn` has run for the batch; were a number missing all the same, NOT NULL would make the row a dead letter.
        let (site, location) = origins.ids(&row.origin).unzip();
        let detail = row.detail.as_deref();
        let json = |text: &'a Option<String>| text.as_deref().map(Jsonb);
        Self {
            slot: row.slot.to_system_time(),
            site,
            location,
            outcome: row.outcome.id(),
            error: row.error.map(crate::model::ErrorKind::id),
            detail: detail.map(|detail| detail.text.as_str()),
            facts: detail.and_then(|detail| json(&detail.facts)),
            capture: detail.and_then(|detail| json(&detail.capture)),
            row,
        }
    }

    fn narrow(&self) -> [&(dyn ToSql + Sync); 8] {
        let row = self.row;
        [
            &self.slot,
            &self.site,
            &self.location,
            &row.total_us,
            &row.lateness_ms,
            &row.status,
            &self.outcome,
            &self.error,
        ]
    }
}

async fn write_dead_letters(
    transaction: &Transaction<'_>,
    batch: &Batch,
    refused: &[(&Row, String)],
) -> Result<(), tokio_postgres::Error> {
    let refused = refused.iter().map(|(row, detail)| DeadLetter {
        source: row.source,
        reason: DeadReason::Refused,
        detail: detail.clone(),
        key: Some(row.origin.site.clone().into_bytes()),
        payload: row.payload.to_vec(),
    });
    for letter in batch.dead.iter().cloned().chain(refused) {
        let (partition, offset) = letter.source;
        // PostgreSQL's text can't hold NUL, and a library's message may quote one.
        let detail = letter.detail.replace('\0', "\u{fffd}");
        transaction
            .execute(
                "INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, key, payload)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[&&*batch.topic, &partition, &offset, &letter.reason.as_str(), &detail, &letter.key, &letter.payload],
            )
            .await?;
    }
    Ok(())
}
