//! Delays between tries: the only module that uses the crate `backoff`.
//!
//! `backoff` is unmaintained (RUSTSEC-2025-0012), is required by this project's users, and is confined to this file so
//! that replacing it touches nothing else. Its default gives up after 15 minutes; a monitor never does, so
//! `max_elapsed_time` is always `None` here.

use std::{cell::Cell, time::Duration};

use backoff::{ExponentialBackoff, backoff::Backoff};

thread_local! {
    static STEADY: Cell<bool> = const { Cell::new(false) };
}

/// From now on the delays made on this thread are their nominal values, without chance: a simulation replays alike.
pub fn without_chance_on_this_thread() {
    STEADY.set(true);
}

/// Growing, jittered delays for one thing that is tried again and again.
pub struct Retry {
    delays: ExponentialBackoff,
}

impl Retry {
    /// Delays that start near `base`, double with each try and stay at or below `cap`. Each is drawn between half of its
    /// nominal value and one and a half times it, so that many clients do not come back at the same instant.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            delays: ExponentialBackoff {
                current_interval: base,
                initial_interval: base,
                multiplier: 2.0,
                randomization_factor: if STEADY.get() { 0.0 } else { 0.5 },
                max_interval: cap,
                max_elapsed_time: None,
                ..ExponentialBackoff::default()
            },
        }
    }

    /// For connections to a service: 100 ms to 10 s.
    pub fn for_connections() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// How long to wait before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let cap = self.delays.max_interval;
        // `None` comes only from `max_elapsed_time`, which is never set.
        self.delays.next_backoff().unwrap_or(cap).min(cap)
    }

    /// Starts again from the base, after a success.
    pub fn reset(&mut self) {
        self.delays.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_never_end() {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(5));
        assert!(retry.next_delay() <= Duration::from_millis(150));
        let late: Vec<_> = (0..10_000).map(|_| retry.next_delay()).skip(20).collect();
        assert!(
            late.iter()
                .all(|d| (Duration::from_millis(2500)..=Duration::from_secs(5)).contains(d))
        );
        retry.reset();
        assert!(retry.next_delay() <= Duration::from_millis(150));
    }
}
