//! The node's clock: tells the time of day by the wall clock, and knows when somebody has set that.
//!
//! Slots are instants of the wall clock. Set by more than is usual, it makes no time pass: the slots in between are not due, and nobody
//! has missed them. Whoever waits for slots asks for such steps and goes around them.
//!
//! Small steps back, as of NTP, are not followed at once: their slots would come twice. The node's clock goes on by the monotonic clock
//! then, a little slower, until the wall clock has caught up with it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use slog::{Logger, error};
use tokio::time::Instant;

use crate::{
    model::Slot,
    time::{WallClock, wall_clock},
};

/// How much slower it goes until the wall clock has caught up: by one part in so many.
const SLOWER: i64 = 8;

/// Smaller steps of the wall clock are followed at once: they are what NTP does all the time.
const TOLERANCE_US: i64 = 1_000;

/// A wall clock that went on by so much more than the time that passed was set forward.
const FORWARD_US: i64 = 2_000_000;

/// A wall clock that is behind by more than this is followed at once: going slower would take minutes.
const BACK_US: i64 = 30_000_000;

/// The steps that are remembered. Whoever has not asked for so many has slept through hours of them, and goes around them all at once.
const REMEMBERED: usize = 64;

/// The node's clock. Cheap to read.
#[derive(Debug)]
pub struct Clock {
    wall: WallClock,
    /// The time since the machine was started, with the time that it slept: `None` where a test's time is tokio's alone.
    since_boot: Option<fn() -> Duration>,
    log: Option<Logger>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Reading>,
    /// The latest steps, oldest first.
    steps: VecDeque<Step>,
    /// How many there were before these.
    earlier: u64,
}

/// What the clocks said, and what the node's clock said then.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    since_boot: Duration,
    told: i64,
}

/// A step of the wall clock: it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The time that it would have been.
    pub from: Slot,
    /// The time that it was made.
    pub to: Slot,
}

impl Default for Clock {
    /// Follows the machine's wall clock. What passes while the machine sleeps is time, too.
    fn default() -> Self {
        Self {
            since_boot: Some(since_boot),
            ..Self::by(wall_clock)
        }
    }
}

impl Clock {
    /// Follows `wall`.
    pub fn by(wall: WallClock) -> Self {
        Self {
            wall,
            since_boot: None,
            log: None,
            state: Mutex::default(),
        }
    }

    /// Tells each step to `log`.
    #[must_use]
    pub fn telling(self, log: Logger) -> Self {
        Self {
            log: Some(log),
            ..self
        }
    }

    /// Returns the time of day.
    pub fn now(&self) -> Slot {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, wall) = (Instant::now(), set_by_tests((self.wall)().as_micros()));
        let since_boot = self.since_boot.map_or(Duration::ZERO, |read| read());
        let told = match state.last {
            None => wall,
            Some(last) => {
                // Each stands still at times: one while the machine sleeps, the other while a test's time goes on by itself.
                let passed = at
                    .saturating_duration_since(last.at)
                    .max(since_boot.saturating_sub(last.since_boot));
                let (told, step) = go_on(last.told, micros(passed), wall);
                if let Some(step) = step {
                    self.note(&mut state, step);
                }
                told
            }
        };
        state.last = Some(Reading {
            at,
            since_boot,
            told,
        });
        Slot::from_micros(told)
    }

    fn note(&self, state: &mut State, step: Step) {
        if state.steps.len() == REMEMBERED {
            state.steps.pop_front();
            state.earlier += 1;
        }
        state.steps.push_back(step);
        if let Some(log) = &self.log {
            let by_us = step.to.micros_since(step.from);
            // To the nearest second: between the two readings a moment has passed.
            let by_s = (by_us + 500_000 * by_us.signum()) / 1_000_000;
            error!(log, "the clock was set: slots in between are not due, going on at the new time"; "by_s" => by_s,
                "from" => %step.from, "to" => %step.to);
        }
    }

    /// Returns how many steps there have been.
    pub fn steps(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.earlier + state.steps.len() as u64
    }

    /// Returns the oldest step that is remembered of those after the first `seen` ones.
    pub fn step_after(&self, seen: u64) -> Option<Step> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(seen.saturating_sub(state.earlier)).ok()?;
        state.steps.get(place).copied()
    }
}

/// Goes on from the time that was told last, after the time that has passed. Returns the time to tell, and the step if there was one.
fn go_on(last: i64, passed: i64, wall: i64) -> (i64, Option<Step>) {
    let expected = last + passed;
    let ahead = expected - wall;
    if !(-FORWARD_US..=BACK_US).contains(&ahead) {
        let step = Step {
            from: Slot::from_micros(expected),
            to: Slot::from_micros(wall),
        };
        return (wall, Some(step));
    }
    if ahead <= TOLERANCE_US {
        // Forward, or as good as equal.
        return (wall.max(last), None);
    }
    // Slower, but not so much slower that the wall clock is overtaken.
    (expected - (passed / SLOWER).min(ahead), None)
}

fn since_boot() -> Duration {
    let read = clock_gettime(ClockId::Boottime);
    // Neither is ever negative.
    Duration::new(
        read.tv_sec.unsigned_abs(),
        u32::try_from(read.tv_nsec).unwrap_or_default(),
    )
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

    /// What the node's clock tells at one reading a second, while the wall clock is set at some of them; and the steps.
    fn run(sets: &[(usize, i64)], seconds: usize) -> (Vec<i64>, Vec<(usize, i64)>) {
        let mut wall = 1_700_000_000_000_000;
        let (mut told, mut steps) = (vec![wall], Vec::new());
        for second in 1..=seconds {
            wall += 1_000_000;
            wall += sets
                .iter()
                .filter(|(at, _)| *at == second)
                .map(|(_, by)| by)
                .sum::<i64>();
            let (now, step) = go_on(told[second - 1], 1_000_000, wall);
            told.push(now);
            steps.extend(step.map(|step| (second, step.to.micros_since(step.from))));
        }
        (told, steps)
    }

    #[test]
    fn set_back_a_little_it_goes_on_slower_until_both_agree() {
        let (told, steps) = run(&[(10, -29_000_000)], 300);
        let rate = told[20] - told[19];
        assert_eq!((rate, steps.len()), (875_000, 0));
        let wall_at_the_end = told[0] + 300_000_000 - 29_000_000;
        assert_eq!(told[300], wall_at_the_end);
    }

    #[test]
    fn set_by_more_it_follows_at_once_and_says_so() {
        for by in [HOUR, 3_000_000, -HOUR, -31_000_000] {
            let (told, steps) = run(&[(10, by)], 20);
            assert_eq!(told[10] - told[9], by + 1_000_000);
            assert_eq!(told[11] - told[10], 1_000_000);
            assert_eq!(steps, [(10, by)]);
        }
        assert_eq!(run(&[(10, 1_900_000)], 20).1, []);
    }

    #[test]
    fn steps_are_told_to_each_who_asks_from_where_it_was() {
        let clock = Clock::by(|| Slot::from_micros(0));
        let step = |n: i64| Step {
            from: Slot::from_micros(n),
            to: Slot::from_micros(-n),
        };
        assert_eq!((clock.steps(), clock.step_after(0)), (0, None));
        for n in 0..REMEMBERED as i64 + 2 {
            clock.note(&mut clock.state.lock().unwrap(), step(n));
        }
        assert_eq!(clock.steps(), REMEMBERED as u64 + 2);
        // The first two are forgotten.
        assert_eq!(clock.step_after(0), Some(step(2)));
        assert_eq!(clock.step_after(5), Some(step(5)));
        assert_eq!(clock.step_after(clock.steps()), None);
    }

    proptest! {
        #[test]
        fn without_a_step_it_never_runs_backwards_or_stands_still(
            sets in proptest::collection::vec((1usize..200, -HOUR..HOUR), 0..6)
        ) {
            let (told, steps) = run(&sets, 200);
            for (second, pair) in (1..).zip(told.windows(2)) {
                if !steps.iter().any(|(at, _)| *at == second) {
                    prop_assert!(pair[1] - pair[0] >= 1_000_000 - 1_000_000 / SLOWER - TOLERANCE_US);
                }
            }
        }
    }
}
