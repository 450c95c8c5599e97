//! Says where to read on in each partition, and records breaks: one transaction.

use slog::{Logger, error, warn};
use tokio::time::Instant;

use super::{
    position::{Break, Doubts, reconcile},
    seam::{FoundBreak, StoreSession, StoreTransaction},
};
use crate::{
    database::StoreError,
    metrics::Metrics,
    model::{Locate, Position},
};

/// What answering a question needs.
pub(super) struct Locating<'a, S> {
    pub(super) session: &'a mut S,
    pub(super) doubts: &'a mut Doubts,
    pub(super) metrics: &'a Metrics,
    pub(super) log: &'a Logger,
}

impl<S: StoreSession> Locating<'_, S> {
    /// Where to read on in each partition. One that is in doubt is left out, to be asked about again.
    pub(super) async fn answer(self, question: &Locate) -> Result<Vec<Position>, StoreError> {
        let topic = &*question.topic;
        let mut transaction = self.session.begin().await?;
        let mut positions = Vec::with_capacity(question.held.len());
        for held in &question.held {
            let stored = transaction.stored_or_begin(topic, *held).await?;
            let is_other = is_other(question, held.partition, stored.next);
            let (next, gap) = if is_other {
                (held.low, Some(Break::Recreated))
            } else {
                reconcile(stored.next, *held)
            };
            if gap == Some(Break::Recreated)
                && !is_other
                && !self.doubts.confirm(
                    topic,
                    held.partition,
                    stored.next,
                    question.asked,
                    Instant::now(),
                )
            {
                warn!(self.log, "the broker's end is before the stored offset: looking again before the topic counts as made again";
                    "topic" => topic, "partition" => held.partition, "stored_next" => stored.next, "broker_high" => held.high);
                continue;
            }
            self.doubts.forget(topic, held.partition);
            let Some(gap) = gap else {
                let known = stored.cluster.as_deref().zip(question.cluster.as_deref());
                positions.push(Position {
                    partition: held.partition,
                    next,
                    last: stored.last,
                    is_moved: known.is_some_and(|(stored, asked)| stored != asked),
                });
                continue;
            };
            error!(self.log, "the topic's offsets do not go on where the database left off";
                "topic" => topic, "partition" => held.partition, "reason" => gap.as_str(),
                "stored_next" => stored.next, "broker_low" => held.low, "broker_high" => held.high, "reading_from" => next);
            self.metrics.gaps.with_label_values(&[gap.as_str()]).inc();
            let found = FoundBreak {
                topic,
                partition: held.partition,
                reason: gap.as_str(),
                from: stored.next,
                to: next,
                cluster: question.cluster.as_deref(),
            };
            transaction.record_break(found).await?;
            positions.push(Position {
                partition: held.partition,
                next,
                last: None,
                is_moved: false,
            });
        }
        transaction.commit().await?;
        Ok(positions)
    }
}

/// Whether the broker was seen to hold another message at an offset of `partition` that was stored.
fn is_other(question: &Locate, partition: i32, stored_next: i64) -> bool {
    let mut others = question.others.iter();
    others.any(|(other, offset)| *other == partition && *offset < stored_next)
}
