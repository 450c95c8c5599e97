//! The node's clock: tells the time of day, and never runs backwards or stands still.
//!
//! Slots are instants of the wall clock, and that clock may be set. Set forward, the slots in between pass without a check.
//! Set back, an hour would come twice: its slots are taken, and a check of them would be lost as a duplicate. So the node's
//! clock goes on by the monotonic clock then, a little slower, until the wall clock has caught up with it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    model::Slot,
    time::{WallClock, wall_clock},
};

/// How much slower it goes until the wall clock has caught up: by one part in so many.
const SLOWER: i64 = 8;

/// Smaller steps of the wall clock are followed at once: they are what NTP does all the time.
const TOLERANCE_US: i64 = 1_000;

/// The node's clock. Cheap to read.
#[derive(Debug)]
pub struct Clock {
    wall: WallClock,
    last: Mutex<Option<Reading>>,
}

/// What both clocks said, and what the node's clock said then.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    told: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::by(wall_clock)
    }
}

impl Clock {
    /// A clock that follows `wall`.
    pub fn by(wall: WallClock) -> Self {
        Self {
            wall,
            last: Mutex::default(),
        }
    }

    /// The time of day.
    pub fn now(&self) -> Slot {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, wall) = (Instant::now(), set_by_tests((self.wall)().as_micros()));
        let told = match *last {
            None => wall,
            Some(last) => go_on(last, at, wall),
        };
        *last = Some(Reading { at, told });
        Slot::from_micros(told)
    }
}

fn go_on(last: Reading, at: Instant, wall: i64) -> i64 {
    let passed = micros(at.saturating_duration_since(last.at));
    let ahead = last.told + passed - wall;
    if ahead <= TOLERANCE_US {
        // Forward, or as good as equal.
        return wall.max(last.told);
    }
    // Slower, but not so much slower that the wall clock is overtaken.
    last.told + passed - (passed / SLOWER).min(ahead)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Lets tests set the clock: by microseconds, from one reading on.
fn set_by_tests(wall: i64) -> i64 {
    fail::fail_point!("clock::set", |step| wall
        + step
            .and_then(|step| step.parse::<i64>().ok())
            .unwrap_or_default());
    wall
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// What the node's clock tells at one reading a second, while the wall clock is set at some of them.
    fn run(steps: &[(usize, i64)], seconds: usize) -> Vec<i64> {
        let start = Instant::now();
        let mut wall = 1_700_000_000_000_000;
        let mut last = Reading {
            at: start,
            told: wall,
        };
        let mut told = vec![wall];
        for second in 1..=seconds {
            wall += 1_000_000;
            wall += steps
                .iter()
                .filter(|(at, _)| *at == second)
                .map(|(_, step)| step)
                .sum::<i64>();
            let at = start + Duration::from_secs(second as u64);
            last = Reading {
                at,
                told: go_on(last, at, wall),
            };
            told.push(last.told);
        }
        told
    }

    #[test]
    fn set_back_it_goes_on_slower_until_both_agree() {
        let told = run(&[(10, -60_000_000)], 600);
        let rate = told[20] - told[19];
        assert_eq!(rate, 875_000);
        let wall_at_the_end = told[0] + 600_000_000 - 60_000_000;
        assert_eq!(told[600], wall_at_the_end);
    }

    #[test]
    fn set_forward_it_follows_at_once() {
        let told = run(&[(10, HOUR)], 20);
        assert_eq!(told[10] - told[9], HOUR + 1_000_000);
        assert_eq!(told[11] - told[10], 1_000_000);
    }

    proptest! {
        #[test]
        fn it_never_runs_backwards_or_stands_still(steps in proptest::collection::vec((1usize..200, -HOUR..HOUR), 0..6)) {
            for pair in run(&steps, 200).windows(2) {
                prop_assert!(pair[1] - pair[0] >= 1_000_000 - 1_000_000 / SLOWER - TOLERANCE_US);
            }
        }
    }
}
