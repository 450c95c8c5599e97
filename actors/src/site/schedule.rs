//! When a site is due. Pure.
//!
//! Slots are `phase + k * interval` since 1970, the phase a stable hash of the site's name: the same on every node, after
//! every restart and reload, and spread evenly over the interval.

use std::{hash::Hasher, time::Duration};

use siphasher::sip::SipHasher13;
use sitewatch_config::{Cron, ScheduleOptions};

use crate::model::{Due, Slot};

/// The schedule of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(When);

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Every { phase: i64, interval: i64 },
    Calendar(Cron),
}

/// Slots that have passed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The latest of them, oldest first.
    pub slots: Vec<Slot>,
    /// How many earlier ones there are.
    pub earlier: u64,
}

impl Schedule {
    /// The schedule of the site `name`.
    pub fn new(name: &str, options: &ScheduleOptions) -> Self {
        match &options.cron {
            Some(cron) => Self(When::Calendar(cron.clone())),
            None => Self::every(name, options.interval),
        }
    }

    /// The schedule of the site `name` that is checked every `interval` (at least a microsecond).
    pub fn every(name: &str, interval: Duration) -> Self {
        let interval = i64::try_from(interval.as_micros())
            .unwrap_or(i64::MAX)
            .max(1);
        let mut hasher = SipHasher13::new();
        hasher.write(name.as_bytes());
        let phase = hasher.finish() % interval.unsigned_abs();
        // Less than `interval`, which is an i64.
        Self(When::Every {
            phase: phase as i64,
            interval,
        })
    }

    /// As it is announced.
    pub(super) fn due(&self) -> Due {
        match &self.0 {
            When::Every { phase, interval } => Due::Every {
                interval_us: *interval,
                phase_us: *phase,
            },
            When::Calendar(cron) => Due::Calendar {
                cron: cron.as_str().to_owned(),
            },
        }
    }

    /// The first slot after `time`.
    pub fn next_after(&self, time: Slot) -> Slot {
        match &self.0 {
            When::Every { phase, interval } => {
                let passed = (time.as_micros() - phase).rem_euclid(*interval);
                Slot::from_micros(time.as_micros() - passed + interval)
            }
            // A calendar that never comes is refused by the settings; at the end of time there is no next instant.
            When::Calendar(cron) => {
                Slot::from_micros(cron.next_after(time.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }

    /// The slots after `slot` up to and including `now`: those that passed while `slot` was being worked on. At most `most`
    /// of them one by one.
    pub fn passed(&self, slot: Slot, now: Slot, most: usize) -> Passed {
        if now <= slot {
            return Passed::default();
        }
        match &self.0 {
            When::Every { interval, .. } => {
                let count = now.micros_since(slot) / interval;
                let told = count.min(i64::try_from(most).unwrap_or(i64::MAX));
                let at = |k| Slot::from_micros(slot.as_micros() + interval * k);
                Passed {
                    slots: (count - told + 1..=count).map(at).collect(),
                    earlier: (count - told).unsigned_abs(),
                }
            }
            When::Calendar(_) => {
                let mut passed = std::collections::VecDeque::new();
                let (mut next, mut earlier) = (self.next_after(slot), 0);
                while next <= now {
                    passed.push_back(next);
                    if passed.len() > most {
                        passed.pop_front();
                        earlier += 1;
                    }
                    next = self.next_after(next);
                }
                Passed {
                    slots: passed.into(),
                    earlier,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_slot_is_the_first_one_later(name in ".{0,20}", secs in 1u64..100_000, now in 0i64..2_000_000_000_000_000) {
            let (schedule, now) = (Schedule::every(&name, Duration::from_secs(secs)), Slot::from_micros(now));
            let (next, interval) = (schedule.next_after(now), i64::try_from(secs).unwrap() * 1_000_000);
            prop_assert!(next > now && next.micros_since(now) <= interval);
            prop_assert_eq!(schedule.next_after(next).micros_since(next), interval);
            // The same from anywhere in between: a restart changes nothing.
            prop_assert_eq!(schedule.next_after(Slot::from_micros(next.as_micros() - 1)), next);
        }

        #[test]
        fn every_slot_is_either_worked_on_or_passed(secs in 1u64..100, took in 0i64..1_000_000_000) {
            let schedule = Schedule::every("a", Duration::from_secs(secs));
            let slot = schedule.next_after(Slot::from_micros(1_700_000_000_000_000));
            let now = Slot::from_micros(slot.as_micros() + took);
            let mut expected = schedule.next_after(slot);
            for passed in schedule.passed(slot, now, usize::MAX).slots {
                prop_assert_eq!(passed, expected);
                expected = schedule.next_after(expected);
            }
            prop_assert_eq!(expected, schedule.next_after(now));
        }

        #[test]
        fn of_many_passed_slots_the_latest_are_told(took in 0i64..1_000_000_000, most in 0usize..5) {
            let minute = "* * * * * UTC".to_owned();
            let calendar = Schedule(When::Calendar(Cron::new(&minute).map_err(TestCaseError::fail)?));
            for schedule in [Schedule::every("a", Duration::from_secs(60)), calendar] {
                let slot = schedule.next_after(Slot::from_micros(1_700_000_000_000_000));
                let now = Slot::from_micros(slot.as_micros() + took);
                let (all, some) = (schedule.passed(slot, now, usize::MAX), schedule.passed(slot, now, most));
                prop_assert_eq!(some.slots.len(), all.slots.len().min(most));
                prop_assert_eq!(some.earlier as usize + some.slots.len(), all.slots.len());
                prop_assert!(all.slots.ends_with(&some.slots));
            }
        }
    }

    #[test]
    fn the_phase_is_pinned() {
        // Nodes of different versions must agree: this value may never change.
        let schedule = Schedule::every("https://example.org/", Duration::from_secs(60));
        assert_eq!(
            schedule.next_after(Slot::from_micros(0)).as_micros(),
            44_984_647
        );
    }

    /// The phases of `count` sites, in buckets of 100 ms.
    fn spread(count: u32, interval_seconds: u64) -> Vec<u32> {
        let mut buckets = vec![0; usize::try_from(interval_seconds * 10).unwrap()];
        for n in 0..count {
            let name = format!("https://host-{n}.example.org/");
            let schedule = Schedule::every(&name, Duration::from_secs(interval_seconds));
            let phase = schedule.next_after(Slot::from_micros(0)).as_micros();
            let bucket = usize::try_from(phase / 100_000).unwrap() % buckets.len();
            buckets[bucket] += 1;
        }
        buckets
    }

    #[test]
    fn ten_thousand_sites_are_spread() {
        for interval in [10, 30] {
            let buckets = spread(10_000, interval);
            let (mean, peak) = (
                10_000 / buckets.len() as u32,
                *buckets.iter().max().unwrap(),
            );
            assert!(
                peak <= 2 * mean,
                "{interval} s: mean {mean} in 100 ms, peak {peak}"
            );
        }
        // With 17 in 100 ms chance alone makes a peak of about 34.
        let peak = *spread(10_000, 60).iter().max().unwrap();
        assert!(peak <= 40, "mean 17 in 100 ms, peak {peak}");
    }
}
