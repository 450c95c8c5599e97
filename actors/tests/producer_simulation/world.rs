//! What a simulation is made of besides the actors: chance from a seed, what was accepted, and what Kafka has.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
};

/// What is switched off, to see whether the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    /// The disk says that all is durable, and keeps nothing over a crash.
    NoSpool,
}

/// A check's identity in a simulation: the site's number and the slot.
pub(crate) type Identity = (String, i64);

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) accepted: usize,
    pub(crate) messages: usize,
    pub(crate) duplicates: usize,
    pub(crate) crashes: u32,
    pub(crate) kills: u32,
    pub(crate) panics: u32,
    pub(crate) disk_faults: u32,
    pub(crate) outages: u32,
    /// A hash of all that happened, in its order.
    pub(crate) trace: u64,
}

impl Verdict {
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.messages += other.messages;
        self.duplicates += other.duplicates;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.panics += other.panics;
        self.disk_faults += other.disk_faults;
        self.outages += other.outages;
    }
}

/// Shared by all parts of a simulation.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

pub(crate) struct State {
    pub(crate) random: fastrand::Rng,
    pub(crate) accepted: BTreeSet<Identity>,
    /// What Kafka has, and how often.
    pub(crate) topic: BTreeMap<Identity, u32>,
    /// Kafka does not answer.
    pub(crate) outage: bool,
    /// Faults happen.
    pub(crate) rough: bool,
    pub(crate) told: Verdict,
    hasher: DefaultHasher,
    print: bool,
}

impl World {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            accepted: BTreeSet::new(),
            topic: BTreeMap::new(),
            outage: false,
            rough: true,
            told: Verdict::default(),
            hasher: DefaultHasher::new(),
            print,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.state().random.u64(0..end)
    }

    /// Whether something with this chance in a thousand happens; nothing does once all is to end well.
    pub(crate) fn happens(&self, in_thousand: u64) -> bool {
        let state = &mut *self.state();
        state.rough && state.random.u64(0..1000) < in_thousand
    }

    /// Notes that something has happened.
    pub(crate) fn note(&self, what: &str) {
        let state = &mut *self.state();
        what.hash(&mut state.hasher);
        if state.print {
            println!("{what}");
        }
    }

    pub(crate) fn verdict(&self) -> Result<Verdict, String> {
        let state = self.state();
        let lost: Vec<_> = state
            .accepted
            .iter()
            .filter(|it| !state.topic.contains_key(*it))
            .collect();
        if let Some(first) = lost.first() {
            return Err(format!(
                "{} of {} accepted results are lost, such as {first:?}",
                lost.len(),
                state.accepted.len()
            ));
        }
        Ok(Verdict {
            accepted: state.accepted.len(),
            messages: state.topic.values().sum::<u32>() as usize,
            duplicates: state.topic.values().filter(|count| **count > 1).count(),
            trace: state.hasher.finish(),
            ..state.told.clone()
        })
    }
}
