//! Asking the writer where to read on: one question at a time, with a back-off after a failure.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    intake::Intake,
    model::{Locate, Position, Topic, Watermarks, WriterOrder},
    retry::Retry,
};

/// When to ask again if the writer has no room for a question.
const NO_ROOM: Duration = Duration::from_millis(100);
/// When to ask again if an answer was in doubt.
const IN_DOUBT: Duration = Duration::from_secs(1);

/// What the broker said of partitions.
pub(super) struct Seen {
    /// When it was asked.
    pub(super) asked: Instant,
    /// What it holds of each.
    pub(super) held: Vec<Watermarks>,
    /// Those in which it holds another message than was stored, each with the offset.
    pub(super) others: Vec<(i32, i64)>,
}

/// The question that is open, or when the next one may be asked.
pub(super) struct Inquiry {
    answer: Option<oneshot::Receiver<Vec<Position>>>,
    not_before: Instant,
    retry: Retry,
}

impl Inquiry {
    /// No question yet; one may be asked at once.
    pub(super) fn new() -> Self {
        Self {
            answer: None,
            not_before: Instant::now(),
            retry: Retry::for_connections(),
        }
    }

    /// There is something new to ask.
    pub(super) fn hurry(&mut self) {
        self.not_before = Instant::now();
    }

    /// It did not work: the next question after a delay.
    pub(super) fn back_off(&mut self) {
        self.not_before = Instant::now() + self.retry.next_delay();
    }

    /// The answer leaves a partition out.
    pub(super) fn in_doubt(&mut self) {
        self.not_before = Instant::now() + IN_DOUBT;
    }

    /// It worked: delays begin anew.
    pub(super) fn succeeded(&mut self) {
        self.retry.reset();
    }

    /// Whether a question may be asked now.
    pub(super) fn may_ask(&self) -> bool {
        self.answer.is_none() && self.not_before <= Instant::now()
    }

    /// Asks, told what the broker has said.
    pub(super) fn ask(&mut self, writer: &Intake<WriterOrder>, topic: &Topic, seen: Seen) {
        let (sender, answer) = oneshot::channel();
        let question = Locate {
            topic: Arc::clone(&topic.name),
            cluster: topic.cluster.clone(),
            held: seen.held,
            others: seen.others,
            asked: seen.asked,
            answer: sender,
        };
        match writer.try_offer(WriterOrder::Locate(question)) {
            Ok(()) => self.answer = Some(answer),
            Err(_) => self.not_before = Instant::now() + NO_ROOM,
        }
    }

    /// The answer, once.
    pub(super) fn answer(&mut self) -> Option<Vec<Position>> {
        match self.answer.as_mut()?.try_recv() {
            Ok(positions) => {
                self.answer = None;
                Some(positions)
            }
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => {
                self.answer = None;
                self.back_off();
                None
            }
        }
    }
}
