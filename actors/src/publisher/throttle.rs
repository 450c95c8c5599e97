//! How much of the backlog may go to Kafka now. Pure.
//!
//! Consumers store what stands in Kafka in its order. A backlog that is sent as fast as Kafka takes it would stand before
//! all that is checked meanwhile: of a day's results, for a minute. So only about a second's work of the consumers is kept
//! waiting in Kafka. The rest waits in the spool, where fresh results overtake it, and the consumers never run dry: it is as
//! fast. The window follows the greatest rate at which consumers were seen to go on lately, times the time that it may take;
//! that it is found by looking, and grows by itself while it is too small, is TCP BBR's idea (Cardwell et al., 2016).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::outside::PartitionLag;

/// How long what waits in Kafka may take to be stored. Well above the time from one commit of the consumers, which they make
/// every 200 ms, to what is seen of it: or the window would not grow.
const WAIT: f64 = 1.0;

/// A rate is that of so long.
const SAMPLE: Duration = Duration::from_secs(1);

/// The greatest rate of so long counts: over a pause of the database the consumers must not run dry.
const LATELY: Duration = Duration::from_secs(10);

/// After so long without a sign of a consumer, none is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// However slow the consumers are, so much may wait: one part in so many of the first window.
const FLOOR_PART: u64 = 25;

/// However far they are behind, so much is sent with each look: a backlog never stands still.
const TRICKLE_PART: u64 = 250;

/// The same while they store nothing at all. Then nobody waits for fresh results, and a backlog is safer in Kafka than on
/// one disk.
const STANDSTILL_PART: u64 = 10;

/// Watches the consumers, and says how much may be sent.
#[derive(Debug)]
pub(super) struct Throttle {
    /// What may wait in Kafka before anything is known of the consumers, in messages.
    first: u64,
    /// What was seen in the last [`SAMPLE`].
    seen: VecDeque<(Instant, Vec<PartitionLag>)>,
    /// Messages a second, by time. The greatest first: a smaller one counts only when those before it are too old.
    rates: VecDeque<(Instant, f64)>,
    /// Since when nothing was seen.
    blind: Option<Instant>,
}

impl Throttle {
    pub(super) fn new(first: usize) -> Self {
        Self {
            first: (first as u64).max(1),
            seen: VecDeque::new(),
            rates: VecDeque::new(),
            blind: None,
        }
    }

    /// How much may be sent before the first look. A backlog that is not larger delays nobody.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Kafka was away, or there was no backlog: what was seen before says nothing.
    pub(super) fn forget(&mut self) {
        *self = Self::new(usize::try_from(self.first).unwrap_or(usize::MAX));
    }

    /// The consumers were seen: how many messages may be sent until the next look, beside those that are on their way.
    pub(super) fn seen(&mut self, now: Instant, lags: Vec<PartitionLag>) -> u64 {
        self.blind = None;
        let waiting: u64 = lags.iter().map(PartitionLag::waiting).sum();
        self.seen.push_back((now, lags));
        while self.seen.len() > 2 && now - self.seen[1].0 >= SAMPLE {
            self.seen.pop_front();
        }
        if let (Some((then, before)), Some((_, lags))) = (self.seen.front(), self.seen.back())
            && now - *then >= SAMPLE / 2
        {
            let rate = went_on(before, lags) as f64 / (now - *then).as_secs_f64();
            self.rates.retain(|(at, _)| now - *at < LATELY);
            while self.rates.back().is_some_and(|(_, last)| *last <= rate) {
                self.rates.pop_back();
            }
            self.rates.push_back((now, rate));
        }
        let window = match self.rates.front() {
            None => self.first,
            Some((_, rate)) => ((rate * WAIT) as u64).max(self.first / FLOOR_PART),
        };
        window.saturating_sub(waiting).max(self.trickle())
    }

    /// No consumer was seen. `None`: as much as Kafka takes.
    pub(super) fn seen_none(&mut self, now: Instant) -> Option<u64> {
        let blind = *self.blind.get_or_insert(now);
        (now - blind < PATIENCE).then(|| self.trickle())
    }

    fn trickle(&self) -> u64 {
        let moves = self.rates.front().is_some_and(|(_, rate)| *rate > 0.0);
        let part = if moves { TRICKLE_PART } else { STANDSTILL_PART };
        (self.first / part).max(1)
    }
}

/// By how many messages the consumers have gone on from `before` to `after`.
fn went_on(before: &[PartitionLag], after: &[PartitionLag]) -> u64 {
    let of = |partition| before.iter().find(|lag| lag.partition == partition);
    let pairs = after
        .iter()
        .filter_map(|lag| Some((of(lag.partition)?, lag)));
    // Offsets that were set back, by hand, are no progress.
    let steps = pairs.map(|(before, after)| after.committed.saturating_sub(before.committed));
    steps.filter_map(|step| u64::try_from(step).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1000;
    const LOOK: Duration = Duration::from_millis(200);

    /// A producer with an endless backlog and consumers that store so many messages a second, seen so late.
    struct Model {
        throttle: Throttle,
        sent: i64,
        stored: Vec<i64>,
        now: Instant,
    }

    impl Model {
        fn new() -> Self {
            Self {
                throttle: Throttle::new(FIRST as usize),
                sent: FIRST as i64,
                stored: vec![0],
                now: Instant::now(),
            }
        }

        /// One look. Gives what waits in Kafka.
        fn look(&mut self, per_second: i64, looks_late: usize) -> i64 {
            let last = *self.stored.last().unwrap();
            let step = (per_second / 5).min(self.sent - last);
            self.stored.push(last + step);
            self.now += LOOK;
            let seen = self.stored[self.stored.len().saturating_sub(1 + looks_late)];
            let lag = PartitionLag {
                partition: 0,
                committed: seen,
                end: self.sent,
            };
            self.sent += self.throttle.seen(self.now, vec![lag]) as i64;
            self.sent - (last + step)
        }
    }

    #[test]
    fn consumers_are_kept_busy_and_about_a_second_of_their_work_waits() {
        for (per_second, late) in [(100, 1), (2_000, 0), (20_000, 2), (200_000, 3)] {
            let mut model = Model::new();
            for _ in 0..75 {
                model.look(per_second, late);
            }
            let before = *model.stored.last().unwrap();
            let waiting: Vec<i64> = (0..50).map(|_| model.look(per_second, late)).collect();
            let stored = model.stored.last().unwrap() - before;
            assert_eq!(stored, per_second * 10, "{per_second}: they run dry");
            let most = *waiting.iter().max().unwrap();
            assert!(most <= per_second * 13 / 10, "{per_second}: {most} wait");
        }
    }

    #[test]
    fn a_pause_of_the_database_does_not_shrink_the_window_and_lets_little_through() {
        let mut model = Model::new();
        for _ in 0..100 {
            model.look(100_000, 1);
        }
        let before = model.sent;
        for _ in 0..25 {
            model.look(0, 1);
        }
        let through = model.sent - before;
        assert!(through <= 25 * 100 + 40_000, "{through} in five seconds");
        let before = *model.stored.last().unwrap();
        for _ in 0..25 {
            model.look(100_000, 1);
        }
        assert_eq!(model.stored.last().unwrap() - before, 500_000);
    }

    #[test]
    fn a_backlog_goes_on_a_little_however_far_consumers_are_behind() {
        let mut throttle = Throttle::new(FIRST as usize);
        let lag = PartitionLag {
            partition: 3,
            committed: 5,
            end: 1_000_000,
        };
        assert_eq!(throttle.seen(Instant::now(), vec![lag]), 100);
    }

    #[test]
    fn where_nobody_is_seen_nobody_is_waited_for_long() {
        let (mut throttle, start) = (Throttle::new(FIRST as usize), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(throttle.seen_none(at(0)), Some(100));
        assert_eq!(throttle.seen_none(at(9)), Some(100));
        assert_eq!(throttle.seen_none(at(10)), None);
        assert_eq!(throttle.seen(at(11), Vec::new()), FIRST);
        assert_eq!(throttle.seen_none(at(12)), Some(100));
    }

    #[test]
    fn offsets_that_are_set_back_are_no_progress() {
        let lag = |partition, committed| PartitionLag {
            partition,
            committed,
            end: 0,
        };
        let before = [lag(0, 10), lag(1, 10)];
        assert_eq!(went_on(&before, &[lag(0, 5), lag(1, 14), lag(2, 99)]), 4);
    }
}
