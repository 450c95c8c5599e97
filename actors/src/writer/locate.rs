//! Says where to read on in each partition, and records breaks: one transaction.

use slog::{Logger, error, warn};
use tokio::time::Instant;

use super::{
    position::{Break, Doubts, reconcile},
    seam::{StoreSession, StoreTransaction},
};
use crate::{database::StoreError, metrics::Metrics, model::Locate};

/// What answering a question needs.
pub(super) struct Locating<'a, S> {
    pub(super) session: &'a mut S,
    pub(super) doubts: &'a mut Doubts,
    pub(super) metrics: &'a Metrics,
    pub(super) log: &'a Logger,
}

impl<S: StoreSession> Locating<'_, S> {
    /// The offset to read next of each partition. One that is in doubt is left out, to be asked about again.
    pub(super) async fn answer(self, question: &Locate) -> Result<Vec<(i32, i64)>, StoreError> {
        let topic = &*question.topic;
        let mut transaction = self.session.begin().await?;
        let mut positions = Vec::with_capacity(question.held.len());
        for held in &question.held {
            let stored = transaction.stored_or_begin(topic, *held).await?;
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
                transaction
                    .record_break(topic, held.partition, gap.as_str(), stored, next)
                    .await?;
            }
            positions.push((held.partition, next));
        }
        transaction.commit().await?;
        Ok(positions)
    }
}
