//! Delays between tries: the only module that uses the crate `backoff`.
//!
//! `backoff` is unmaintained (RUSTSEC-2025-0012), is required by this project's users, and is confined to this file so
//! that replacing it touches nothing else. Its default gives up after 15 minutes; a monitor never does, so
//! `max_elapsed_time` is always `None` here.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

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
                randomization_factor: 0.0,
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
        let nominal = self.delays.next_backoff().unwrap_or(cap);
        // Drawn here and not by `backoff`, whose generator can't be seeded: a simulation must replay exactly alike.
        nominal.mul_f64(0.5 + fastrand::f64()).min(cap)
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
