//! When to start an actor again, and after how long. Pure: the caller says what time it is.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::retry::Retry;

/// A restart intensity as in Erlang/OTP's supervisors: at most `max` restarts in any window of `within`, with growing
/// delays; beyond that the supervisor gives up and its own supervisor decides.
pub struct RestartPolicy {
    max: usize,
    within: Duration,
    delays: Retry,
    restarts: VecDeque<Instant>,
}

impl RestartPolicy {
    /// The policy that the settings describe.
    pub fn new(settings: &sitewatch_config::RestartSettings) -> Self {
        Self {
            max: settings.max,
            within: settings.within,
            delays: Retry::new(settings.base, settings.cap),
            restarts: VecDeque::new(),
        }
    }

    /// The delay before the next restart after a failure at `now`, or `None` when the intensity is exceeded.
    pub fn after_failure(&mut self, now: Instant) -> Option<Duration> {
        while self
            .restarts
            .front()
            .is_some_and(|first| now.duration_since(*first) > self.within)
        {
            self.restarts.pop_front();
        }
        if self.restarts.is_empty() {
            self.delays.reset();
        }
        if self.restarts.len() >= self.max {
            return None;
        }
        self.restarts.push_back(now);
        Some(self.delays.next_delay())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sitewatch_config::RestartSettings;

    use super::*;

    fn policy(max: usize, within: u64) -> RestartPolicy {
        RestartPolicy::new(&RestartSettings {
            max,
            within: Duration::from_millis(within),
            base: Duration::from_millis(100),
            cap: Duration::from_secs(5),
        })
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_restarts_than_allowed(
            max in 0usize..6, within in 1u64..2_000, gaps in prop::collection::vec(0u64..1_000, 1..80)
        ) {
            let (mut policy, mut now) = (policy(max, within), Instant::now());
            let mut granted: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                let recent = granted.iter().filter(|t| now - **t <= Duration::from_millis(within)).count();
                let decision = policy.after_failure(now);
                // Exactly the intensity: granted while there is room, refused when there is none.
                prop_assert_eq!(decision.is_some(), recent < max);
                if let Some(delay) = decision {
                    prop_assert!(delay <= Duration::from_secs(5));
                    granted.push(now);
                }
            }
        }
    }

    #[test]
    fn delays_start_again_after_a_quiet_window() {
        let (mut policy, start) = (policy(20, 60_000), Instant::now());
        for _ in 0..15 {
            policy.after_failure(start);
        }
        let later = policy.after_failure(start + Duration::from_secs(61));
        assert!(later.is_some_and(|delay| delay <= Duration::from_millis(150)));
    }
}
