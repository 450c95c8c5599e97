//! A watchdog over the loops of a process: a loop that has not come round for a while stands still.
//!
//! A loop that waits for Kafka, for PostgreSQL or for room does come round. One that is blocked, by a disk that does not answer
//! or by a lock, does not, and neither does one whose thread is gone.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long one turn of a loop may take.
pub const LONGEST_TURN: Duration = Duration::from_secs(30);

/// How often a loop that waits says that it is alive.
pub const EVERY: Duration = Duration::from_secs(1);

/// The time of a loop that is not watched.
const RESTING: u64 = u64::MAX;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(RESTING - 1)
}

/// The loops of a process. Clones share them.
#[derive(Clone, Default)]
pub struct Watchdog(Arc<Mutex<BTreeMap<String, Pulse>>>);

/// A loop that stands still.
#[derive(Debug, PartialEq, Eq)]
pub struct Still {
    /// Its name.
    pub name: String,
    /// The time since it last came round.
    pub since: Duration,
}

impl Watchdog {
    /// Returns the pulse of the loop of this name; it is the same one after a restart. It is watched from its first beat on.
    pub fn pulse(&self, name: impl Into<String>) -> Pulse {
        let mut pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.entry(name.into()).or_default().clone()
    }

    /// Returns the loops that have not come round for [`LONGEST_TURN`], by name.
    pub fn standing_still(&self) -> Vec<Still> {
        self.standing_still_at(now())
    }

    fn standing_still_at(&self, now: u64) -> Vec<Still> {
        let pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let still = |(name, pulse): (&String, &Pulse)| {
            let last = pulse.0.load(Ordering::Relaxed);
            // One that rests, or has come round meanwhile, is ahead.
            let since = Duration::from_millis(now.saturating_sub(last));
            (since >= LONGEST_TURN).then(|| Still {
                name: name.clone(),
                since,
            })
        };
        pulses.iter().filter_map(still).collect()
    }
}

/// What keeps a process from doing its work, in words. Clones share it.
#[derive(Clone, Default)]
pub struct Obstacles(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Obstacles {
    /// Notes an obstacle, or that it is gone, under a name of its own.
    pub fn set(&self, name: &'static str, obstacle: Option<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match obstacle {
            Some(obstacle) => known.insert(name, obstacle),
            None => known.remove(name),
        };
    }

    /// Returns all of them.
    pub fn all(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}

/// The pulse of one loop: when it last came round. Clones share it.
#[derive(Clone)]
pub struct Pulse(Arc<AtomicU64>);

impl Default for Pulse {
    /// Returns the pulse of a loop that nobody watches.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(RESTING)))
    }
}

impl Pulse {
    /// The loop has come round.
    pub fn beat(&self) {
        self.0.store(now(), Ordering::Relaxed);
    }

    /// The loop has ended in order, or does what may take any time: it is not watched until its next beat.
    pub fn rest(&self) {
        self.0.store(RESTING, Ordering::Relaxed);
    }

    /// Waits for `work`, and beats meanwhile: waiting is no standing still, blocking the thread is.
    pub async fn beat_while<T>(&self, work: impl Future<Output = T>) -> T {
        let (mut work, mut ticks) = (pin!(work), tokio::time::interval(EVERY));
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.beat();
                    return done;
                }
                _ = ticks.tick() => self.beat(),
            }
        }
    }

    /// Beats for ever: the pulse of the thread on which this runs.
    pub async fn beat_on(self) {
        self.beat_while(std::future::pending()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_come_round_stands_still_until_it_does_or_rests() {
        let watchdog = Watchdog::default();
        let (reader, writer) = (watchdog.pulse("reader"), watchdog.pulse("writer"));
        let later = now() + 31_000;
        assert_eq!(watchdog.standing_still_at(later), [], "nothing has begun");
        reader.beat();
        writer.beat();
        assert_eq!(watchdog.standing_still_at(now() + 29_000), []);
        let names = |now| {
            let still = watchdog.standing_still_at(now);
            let names: Vec<_> = still.into_iter().map(|still| still.name).collect();
            names.join(" ")
        };
        assert_eq!(names(later), "reader writer");
        // The loop of a later life has the same name.
        watchdog.pulse("writer").rest();
        assert_eq!(names(later), "reader");
        let still = watchdog.standing_still_at(now() + 45_000);
        assert!(still[0].since >= Duration::from_secs(44), "{still:?}");
    }

    #[actix_rt::test]
    async fn who_waits_comes_round() {
        tokio::time::pause();
        let pulse = Pulse::default();
        let waited = pulse.beat_while(async {
            pulse.rest();
            tokio::time::sleep(EVERY * 2).await;
            pulse.0.load(Ordering::Relaxed)
        });
        assert_ne!(waited.await, RESTING);
    }
}
