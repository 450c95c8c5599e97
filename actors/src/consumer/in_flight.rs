//! Batches that the writer has and has not settled.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::model::{BatchEnd, OffsetRange, Position};

/// Where each partition of a batch goes on after it.
pub(super) type Reach = Vec<Position>;

/// Where a batch reaches.
pub(super) fn reach(ranges: &[OffsetRange]) -> Reach {
    ranges
        .iter()
        .map(|range| Position {
            partition: range.partition,
            next: range.next,
            last: range.last,
            is_moved: false,
        })
        .collect()
}

/// Batches at the writer, oldest first.
#[derive(Default)]
pub(super) struct InFlight(VecDeque<(Reach, oneshot::Receiver<BatchEnd>)>);

impl InFlight {
    /// Notes a batch that was handed over.
    pub(super) fn push(&mut self, reach: Reach, end: oneshot::Receiver<BatchEnd>) {
        self.0.push_back((reach, end));
    }

    /// Whether all are settled.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest batch with its end, if it has ended.
    pub(super) fn next_settled(&mut self) -> Option<(Reach, BatchEnd)> {
        let end = match self.0.front_mut()?.1.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => BatchEnd::Lost,
            Ok(end) => end,
        };
        self.0.pop_front().map(|(reach, _)| (reach, end))
    }
}
