//! Results that have come in and are not yet where nothing is lost. They hold their senders' permits, which bounds them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::turn::Record;
use crate::{intake::Permit, model::Report};

/// What is made durable in one turn, in bytes: a segment is read into memory as a whole.
const TURN_BYTES: usize = 8 << 20;

/// A result with the permit of its sender, which is given back when the result counts as checked.
pub(super) struct Held {
    pub(super) report: Report,
    pub(super) payload: Arc<[u8]>,
    /// Whether Kafka refused it with others in one request: it is sent alone.
    pub(super) alone: bool,
    #[allow(dead_code, reason = "what counts is when it is dropped")]
    pub(super) permit: Permit,
}

/// Results that have come in, oldest first.
#[derive(Default)]
pub(super) struct Arrivals {
    waiting: VecDeque<Held>,
    /// The number of the oldest ones that are being made durable.
    in_turn: usize,
    /// Those on their way to Kafka that are not in the spool, by number.
    unspooled: HashMap<u64, Held>,
    numbers: u64,
}

impl Arrivals {
    pub(super) fn add(&mut self, held: Held) {
        self.waiting.push_back(held);
    }

    /// How many wait for a turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() - self.in_turn
    }

    /// All that are here.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.unspooled.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records of those that wait, the oldest first, as many as fit into a turn. They stay here until
    /// [`Arrivals::durable`]: a turn that fails has lost none.
    pub(super) fn begin(&mut self) -> Vec<Record> {
        let mut bytes = 0;
        let fits = |held: &&Held| {
            let first = bytes == 0;
            bytes += held.payload.len();
            first || bytes <= TURN_BYTES
        };
        self.in_turn = self.waiting.iter().take_while(fits).count();
        let record = |held: &Held| Record {
            key: Arc::clone(held.report.site()),
            payload: Arc::clone(&held.payload),
        };
        self.waiting.iter().take(self.in_turn).map(record).collect()
    }

    /// Those of the last turn, which are durable now.
    pub(super) fn durable(&mut self) -> Vec<Held> {
        let count = std::mem::take(&mut self.in_turn);
        self.waiting.drain(..count).collect()
    }

    /// The last turn has made none durable.
    pub(super) fn give_back(&mut self) {
        self.in_turn = 0;
    }

    /// Takes the oldest one that waits, to be sent from memory. Returns it with its number.
    pub(super) fn next_unspooled(&mut self) -> Option<(u64, &Held)> {
        if self.in_turn > 0 {
            return None;
        }
        let held = self.waiting.pop_front()?;
        self.numbers += 1;
        Some((
            self.numbers,
            self.unspooled.entry(self.numbers).or_insert(held),
        ))
    }

    /// Lets one that was sent from memory wait again.
    pub(super) fn wait_again(&mut self, number: u64) {
        if let Some(held) = self.unspooled.remove(&number) {
            // Behind those of a turn that is under way.
            self.waiting.insert(self.in_turn, held);
        }
    }

    /// As [`Arrivals::wait_again`], to be sent alone.
    pub(super) fn wait_to_go_alone(&mut self, number: u64) {
        if let Some(held) = self.unspooled.get_mut(&number) {
            held.alone = true;
        }
        self.wait_again(number);
    }

    /// Whether one that is sent from memory is to go alone.
    pub(super) fn goes_alone(&self, number: u64) -> bool {
        self.unspooled.get(&number).is_some_and(|held| held.alone)
    }

    /// Lets all that were sent from memory wait again, for a disk that takes results again: while Kafka is away they are only in
    /// memory. Some may reach Kafka twice; the consumer absorbs duplicates.
    pub(super) fn all_wait_again(&mut self) {
        let mut unspooled: Vec<_> = self.unspooled.drain().collect();
        unspooled.sort_unstable_by_key(|(number, _)| *number);
        // Behind those of a turn that is under way.
        let later = self.waiting.split_off(self.in_turn);
        self.waiting
            .extend(unspooled.into_iter().map(|(_, held)| held));
        self.waiting.extend(later);
    }

    /// Removes one that was sent from memory and is in Kafka.
    pub(super) fn delivered(&mut self, number: u64) -> Option<Held> {
        self.unspooled.remove(&number)
    }
}
