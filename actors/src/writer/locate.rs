//! Says where to read on in each partition, and records breaks: one transaction.

use std::time::Instant;

use slog::{Logger, error, warn};
use tokio_postgres::{Error, Transaction};

use super::{
    position::{Break, Doubts, reconcile},
    session::Session,
};
use crate::{
    metrics::Metrics,
    model::{Locate, Watermarks},
};

/// What answering a question needs.
pub(super) struct Locating<'a> {
    pub(super) session: &'a mut Session,
    pub(super) doubts: &'a mut Doubts,
    pub(super) metrics: &'a Metrics,
    pub(super) log: &'a Logger,
}

impl Locating<'_> {
    /// The offset to read next of each partition. One that is in doubt is left out, to be asked about again.
    pub(super) async fn answer(self, question: &Locate) -> Result<Vec<(i32, i64)>, Error> {
        let topic = &*question.topic;
        let transaction = self.session.client.transaction().await?;
        let mut positions = Vec::with_capacity(question.held.len());
        for held in &question.held {
            let stored = stored_or_begin(&transaction, topic, *held).await?;
            let (next, gap) = reconcile(stored, *held);
            if gap == Some(Break::Recreated)
                && !self.doubts.confirm(
                    topic,
                    held.partition,
                    stored,
                    question.asked,
                    Instant::now(),
                )
            {
                warn!(self.log, "the broker's end is before the stored offset: looking again before the topic counts as made again";
                    "topic" => topic, "partition" => held.partition, "stored_next" => stored, "broker_high" => held.high);
                continue;
            }
            self.doubts.forget(topic, held.partition);
            if let Some(gap) = gap {
                error!(self.log, "the topic's offsets do not go on where the database left off";
                    "topic" => topic, "partition" => held.partition, "reason" => gap.as_str(),
                    "stored_next" => stored, "broker_low" => held.low, "broker_high" => held.high, "reading_from" => next);
                self.metrics.gaps.with_label_values(&[gap.as_str()]).inc();
                record(&transaction, topic, held.partition, gap, stored, next).await?;
            }
            positions.push((held.partition, next));
        }
        transaction.commit().await?;
        Ok(positions)
    }
}

/// The stored offset, locked. At the first meeting with a partition it is the oldest message that there is: inserted only
/// where there is none, since another consumer may have begun meanwhile and be further.
async fn stored_or_begin(
    transaction: &Transaction<'_>,
    topic: &str,
    held: Watermarks,
) -> Result<i64, Error> {
    let stored = "SELECT next FROM kafka_offset WHERE topic = $1 AND partition = $2 FOR UPDATE";
    if let Some(row) = transaction
        .query_opt(stored, &[&topic, &held.partition])
        .await?
    {
        return Ok(row.get(0));
    }
    transaction
        .execute(
            "INSERT INTO kafka_offset (topic, partition, next) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[&topic, &held.partition, &held.low],
        )
        .await?;
    let row = transaction
        .query_one(stored, &[&topic, &held.partition])
        .await?;
    Ok(row.get(0))
}

async fn record(
    transaction: &Transaction<'_>,
    topic: &str,
    partition: i32,
    gap: Break,
    from: i64,
    to: i64,
) -> Result<(), Error> {
    transaction
        .execute(
            "INSERT INTO kafka_gap (topic, partition, reason, from_offset, to_offset) VALUES ($1, $2, $3, $4, $5)",
            &[&topic, &partition, &gap.as_str(), &from, &to],
        )
        .await?;
    transaction
        .execute(
            "UPDATE kafka_offset SET next = $3, updated_at = now() WHERE topic = $1 AND partition = $2",
            &[&topic, &partition, &to],
        )
        .await?;
    Ok(())
}
