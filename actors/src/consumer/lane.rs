//! A lane: what is read from some of the partitions, on its way to the one writer that they have.
//!
//! A partition never changes its lane, so its batches are stored in their order, and a question about it waits behind them.

use std::time::Duration;

use sitewatch_config::BatchSettings;
use tokio::time::{Instant, timeout};

use super::{
    buffer::Buffer,
    in_flight::{InFlight, reach},
    inquiry::{Inquiry, Seen},
};
use crate::{
    intake::{Intake, Room},
    model::{Receipt, Topic, WriterOrder},
};

/// How long a full lane waits for room at its writer before its partitions are paused: pausing throws away what was fetched
/// ahead, so short waits are better sat out.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// The way to one writer.
pub(super) struct Lane {
    pub(super) buffer: Buffer,
    pub(super) in_flight: InFlight,
    pub(super) inquiry: Inquiry,
    /// Whether its partitions are paused, because the writer has no room.
    pub(super) paused: bool,
    writer: Intake<WriterOrder>,
}

impl Lane {
    /// An empty lane to `writer`.
    pub(super) fn new(writer: Intake<WriterOrder>) -> Self {
        Self {
            buffer: Buffer::default(),
            in_flight: InFlight::default(),
            inquiry: Inquiry::new(),
            paused: false,
            writer,
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.in_flight.is_empty()
    }

    /// Asks the writer where to read on, told what the broker said when it was asked.
    pub(super) fn ask(&mut self, topic: &Topic, seen: Seen) {
        self.inquiry.ask(&self.writer, topic, seen);
    }

    /// Hands the buffer over if it is due and there is room. Whether it is stuck: full, and without room, also after a short
    /// wait unless it is paused already. One that is not full does not wait: it grows meanwhile.
    pub(super) async fn hand_over(&mut self, topic: &Topic, settings: &BatchSettings) -> bool {
        if self.buffer.due_in(settings, Instant::now()) != Some(Duration::ZERO) {
            return false;
        }
        let full = self.buffer.is_full(settings.max_rows);
        let mut room = self.writer.try_reserve();
        if room.is_none() && full && !self.paused {
            let reserved = timeout(SHORT_WAIT, self.writer.reserve()).await;
            room = reserved.ok().flatten();
        }
        match room {
            None => full,
            Some(room) => {
                fill(room, &mut self.buffer, &mut self.in_flight, topic);
                false
            }
        }
    }

    /// Hands over what there is, due or not, if there is room.
    pub(super) fn hand_over_rest(&mut self, topic: &Topic) {
        if !self.buffer.is_empty()
            && let Some(room) = self.writer.try_reserve()
        {
            fill(room, &mut self.buffer, &mut self.in_flight, topic);
        }
    }
}

fn fill(room: Room<'_, WriterOrder>, buffer: &mut Buffer, in_flight: &mut InFlight, topic: &Topic) {
    let (receipt, end) = Receipt::new();
    if let Some(batch) = buffer.take(topic, receipt) {
        in_flight.push(reach(&batch.ranges), end);
        room.fill(WriterOrder::Store(batch));
    }
}

/// Which of so many lanes a partition has.
pub(super) fn lane_of(partition: i32, lanes: usize) -> usize {
    partition.unsigned_abs() as usize % lanes.max(1)
}
