//! When a site is due. Pure.
//!
//! Slots are `phase + k * interval` since 1970, the phase a stable hash of the site's name: the same on every node, after
//! every restart and reload, and spread evenly over the interval.

use std::{hash::Hasher, time::Duration};

use siphasher::sip::SipHasher13;

use crate::model::Slot;

/// The schedule of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    phase: i64,
    interval: i64,
}

impl Schedule {
    /// The schedule of the site `name` that is checked every `interval` (at least a microsecond).
    pub fn new(name: &str, interval: Duration) -> Self {
        let interval = i64::try_from(interval.as_micros())
            .unwrap_or(i64::MAX)
            .max(1);
        let mut hasher = SipHasher13::new();
        hasher.write(name.as_bytes());
        let phase = hasher.finish() % interval.unsigned_abs();
        // Less than `interval`, which is an i64.
        Self {
            phase: phase as i64,
            interval,
        }
    }

    /// The first slot after `time`.
    pub fn next_after(&self, time: Slot) -> Slot {
        let passed = (time.as_micros() - self.phase).rem_euclid(self.interval);
        Slot::from_micros(time.as_micros() - passed + self.interval)
    }

    /// The slots after `slot` up to and including `now`: those that passed while `slot` was being worked on. Oldest
    /// first.
    pub fn passed(&self, slot: Slot, now: Slot) -> impl ExactSizeIterator<Item = Slot> + use<> {
        let (start, interval) = (slot.as_micros(), self.interval);
        let count = usize::try_from(now.micros_since(slot).max(0) / interval).unwrap_or(usize::MAX);
        (0..count).map(move |k| Slot::from_micros(start + interval * (k as i64 + 1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_slot_is_the_first_one_later(name in ".{0,20}", secs in 1u64..100_000, now in 0i64..2_000_000_000_000_000) {
            let (schedule, now) = (Schedule::new(&name, Duration::from_secs(secs)), Slot::from_micros(now));
            let (next, interval) = (schedule.next_after(now), i64::try_from(secs).unwrap() * 1_000_000);
            prop_assert!(next > now && next.micros_since(now) <= interval);
            prop_assert_eq!(schedule.next_after(next).micros_since(next), interval);
            // The same from anywhere in between: a restart changes nothing.
            prop_assert_eq!(schedule.next_after(Slot::from_micros(next.as_micros() - 1)), next);
        }

        #[test]
        fn every_slot_is_either_worked_on_or_passed(secs in 1u64..100, took in 0i64..1_000_000_000) {
            let schedule = Schedule::new("a", Duration::from_secs(secs));
            let slot = schedule.next_after(Slot::from_micros(1_700_000_000_000_000));
            let now = Slot::from_micros(slot.as_micros() + took);
            let mut expected = schedule.next_after(slot);
            for passed in schedule.passed(slot, now) {
                prop_assert_eq!(passed, expected);
                expected = schedule.next_after(expected);
            }
            prop_assert_eq!(expected, schedule.next_after(now));
        }
    }

    #[test]
    fn the_phase_is_pinned() {
        // Nodes of different versions must agree: this value may never change.
        let schedule = Schedule::new("https://example.org/", Duration::from_secs(60));
        assert_eq!(
            schedule.next_after(Slot::from_micros(0)).as_micros(),
            44_984_647
        );
    }

    #[test]
    fn ten_thousand_sites_are_spread() {
        let mut buckets = [0u32; 600];
        for n in 0..10_000 {
            let schedule = Schedule::new(&format!("site {n}"), Duration::from_secs(60));
            buckets[usize::try_from(schedule.phase / 100_000).unwrap()] += 1;
        }
        assert!(
            buckets.iter().max() <= Some(&40),
            "mean 17 in 100 ms, peak {:?}",
            buckets.iter().max()
        );
    }
}
