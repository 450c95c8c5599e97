//! What a report says of a site, and what these figures are of several sites together.

use std::{iter, time::Duration};

/// Checks by outcome, without those in maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Up.
    pub up: i64,
    /// Degraded: works, but over a limit.
    pub degraded: i64,
    /// Down.
    pub down: i64,
    /// Not known.
    pub unknown: i64,
    /// How many were due; `None` as long as the site's calendar is not written down.
    pub expected: Option<i64>,
}

impl Counts {
    /// Checks that told something.
    pub fn observed(&self) -> i64 {
        self.up + self.degraded + self.down
    }

    /// In percent of those that told something; `None` without any.
    pub fn uptime(&self) -> Option<f64> {
        let observed = self.observed();
        (observed > 0).then(|| 100.0 * (self.up + self.degraded) as f64 / observed as f64)
    }

    /// In percent of those that were due: how many told something.
    pub fn coverage(&self) -> Option<f64> {
        let expected = self.expected.filter(|expected| *expected > 0)?;
        Some(100.0 * self.observed().min(expected) as f64 / expected as f64)
    }

    fn add(&mut self, others: &Self) {
        self.up += others.up;
        self.degraded += others.degraded;
        self.down += others.down;
        self.unknown += others.unknown;
        self.expected = self
            .expected
            .zip(others.expected)
            .map(|(one, other)| one + other);
    }
}

/// How many checks may fail: what the targets of sites leave, each of its own checks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// So many may.
    pub allowed: f64,
    /// So many did.
    pub failed: i64,
}

impl Budget {
    /// Of a site whose target, in percent, is this.
    pub(super) fn of(counts: &Counts, target: f64) -> Self {
        Self {
            allowed: counts.observed() as f64 * (100.0 - target) / 100.0,
            failed: counts.down,
        }
    }

    /// In percent of those that may fail: what is left. Below 0 if there were more; `None` without checks.
    pub fn left(&self) -> Option<f64> {
        (self.allowed > 0.0).then(|| 100.0 * (1.0 - self.failed as f64 / self.allowed))
    }

    fn add(&mut self, other: &Self) {
        self.allowed += other.allowed;
        self.failed += other.failed;
    }
}

/// The incidents of a site, whichever locations saw them, or of all sites of a group. Maintenance is taken off; what lies in it as a
/// whole is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incidents {
    /// How many.
    pub count: i64,
    /// How long in all, inside the range.
    pub lasted: Duration,
    /// The longest.
    pub longest: Duration,
    /// Whether one goes on at the end of the range.
    pub open: bool,
}

impl Incidents {
    fn add(&mut self, others: &Self) {
        self.count += others.count;
        self.lasted += others.lasted;
        self.longest = self.longest.max(others.longest);
        self.open |= others.open;
    }
}

/// A stretch of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Checks that were up or degraded, with those in maintenance.
    pub good: i64,
    /// Checks that were down.
    pub bad: i64,
    /// The mean time of those that were up or degraded, in ms.
    pub mean_ms: Option<f64>,
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        let sum = |it: &Self| it.mean_ms.map(|mean| mean * it.good as f64);
        let sums = [sum(self), sum(other)];
        let sum = sums.iter().flatten().sum::<f64>();
        self.good += other.good;
        self.bad += other.bad;
        self.mean_ms = (self.good > 0 && sums != [None, None]).then(|| sum / self.good as f64);
    }
}

/// What is said of a site, and of all sites of a group.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Checks.
    pub counts: Counts,
    /// Incidents.
    pub incidents: Incidents,
    /// The 50th, 95th and 99th percentile of the total time, in ms.
    pub percentiles_ms: [Option<f64>; 3],
    /// Of the sites that have a target.
    pub budget: Option<Budget>,
    /// One for each stretch of [`Report::bucket`](super::Report::bucket).
    pub buckets: Vec<Bucket>,
}

impl Figures {
    /// Those of several sites; percentiles can't be made of percentiles.
    pub(super) fn together<'a>(
        sites: impl Iterator<Item = &'a Self>,
        percentiles_ms: [Option<f64>; 3],
    ) -> Self {
        let mut all = Self {
            percentiles_ms,
            ..Self::default()
        };
        // What is due is known of all, as long as there is none of which it is not.
        all.counts.expected = Some(0);
        sites.for_each(|site| all.add(site));
        all
    }

    /// Adds what can be added: all but the percentiles.
    fn add(&mut self, others: &Self) {
        self.counts.add(&others.counts);
        self.incidents.add(&others.incidents);
        if let Some(budget) = &others.budget {
            self.budget.get_or_insert_default().add(budget);
        }
        let most = self.buckets.len().max(others.buckets.len());
        self.buckets.resize(most, Bucket::default());
        for (sum, bucket) in iter::zip(&mut self.buckets, &others.buckets) {
            sum.add(bucket);
        }
    }
}
