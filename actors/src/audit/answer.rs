//! What the audit is asked, and what it answers.

use std::{collections::BTreeMap, time::Duration};

use crate::model::Slot;

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct AuditQuestion {
    /// From this slot on.
    pub since: Slot,
    /// Up to before this one; what may still be under way is left out in any case.
    pub until: Slot,
    /// Only this site, with all its addresses.
    pub site: Option<String>,
    /// Only from this location.
    pub location: Option<String>,
    /// More lateness than this counts.
    pub late: Duration,
    /// How long after its longest possible check a slot is left alone, so that its row can come through Kafka.
    pub grace: Duration,
    /// At most so many slots of each kind are listed for a site.
    pub slots: u16,
}

/// Numbers of rows, by what they are; see docs/reliability.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are those of the table in the docs")]
pub struct Counts {
    pub expected: u64,
    pub stored: u64,
    pub missed: u64,
    pub late: u64,
    pub missing: u64,
    pub producer_down: u64,
    pub duplicate: u64,
    pub unscheduled: u64,
}

impl Counts {
    /// Whether something is wrong for which nothing accounts.
    pub fn is_wrong(&self) -> bool {
        self.missing + self.duplicate + self.unscheduled > 0
    }

    /// Adds the numbers of another.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.stored += other.stored;
        self.missed += other.missed;
        self.late += other.late;
        self.missing += other.missing;
        self.producer_down += other.producer_down;
        self.duplicate += other.duplicate;
        self.unscheduled += other.unscheduled;
    }
}

/// A site at a location.
#[derive(Clone, Debug, Default)]
pub struct SiteAudit {
    /// The name under which the rows are.
    pub site: String,
    /// Where it is checked from.
    pub location: String,
    /// The numbers.
    pub counts: Counts,
    /// The first few slots that are missing.
    pub missing: Vec<Slot>,
    /// The first few slots that nobody announced.
    pub unscheduled: Vec<Slot>,
}

/// Results of a site at a location that were dropped, since their slots have others that say something else.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The site's name.
    pub site: String,
    /// The location.
    pub location: String,
    /// The number of results in the hours of the range.
    pub number: u64,
    /// The slot of the first one.
    pub slot: Slot,
    /// The stored result of this slot, as JSON.
    pub stored: String,
    /// The dropped result, as JSON.
    pub refused: String,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Each site at each location.
    pub sites: Vec<SiteAudit>,
    /// Rows from before their site was announced for the first time, or of a site that never was.
    pub unannounced: u64,
    /// Calendars that can't be read, with the reason: left out.
    pub unreadable: Vec<String>,
    /// Slots that had two results, most of them first.
    pub conflicts: Vec<Conflict>,
    /// Breaks in topics, noticed in the range: reason and number.
    pub gaps: BTreeMap<String, u64>,
    /// Dead letters received in the range: reason and number.
    pub dead_letters: BTreeMap<String, u64>,
}
