//! When a producer's disk failed. Results are only in memory then, until Kafka has them, and none of them counts: a process
//! that is killed meanwhile takes them along, and the audit, which knows nothing of the disk, finds slots without a row.

use super::slot;
use crate::logs::Line;

/// One life of a producer's process, told by its log.
#[derive(Debug)]
struct Life {
    location: String,
    /// The first slot that was accepted, in microseconds since 1970.
    first: Option<i64>,
    disk_failed: bool,
}

/// The lives of all producers, those of each in their order.
#[derive(Debug, Default)]
pub(crate) struct Lives(Vec<Life>);

impl Lives {
    /// A log begins.
    pub(crate) fn begin(&mut self, location: &str) {
        self.0.push(Life {
            location: location.to_owned(),
            first: None,
            disk_failed: false,
        });
    }

    /// Hears a line of the log that began last.
    pub(crate) fn hear(&mut self, line: &Line<'_>) {
        let Some(life) = self.0.last_mut() else {
            return;
        };
        if line.msg.starts_with("the spool can't be written") {
            life.disk_failed = true;
        }
        if line.msg == "accepted"
            && let Some(slot) = line.slot.as_deref().and_then(slot)
        {
            life.first = Some(life.first.map_or(slot, |first| first.min(slot)));
        }
    }

    /// Whether a result of `slot` may have gone with the process that had it in its memory: it belongs to a life in which the
    /// disk failed and which was not the last one. Between two lives it may belong to either.
    pub(crate) fn explain(&self, location: &str, slot: i64) -> bool {
        let mine: Vec<_> = self
            .0
            .iter()
            .filter(|life| life.location == location)
            .collect();
        let begun = |life: &&Life| life.first.is_some_and(|first| first <= slot);
        let Some(at) = mine.iter().rposition(begun) else {
            return false;
        };
        let died = at + 1 < mine.len();
        // One whose first results were lost has accepted later ones only, or none.
        let next = mine[at + 1..]
            .iter()
            .take_while(|life| life.first.is_none_or(|first| first > slot))
            .take(2)
            .any(|life| life.disk_failed);
        died && (mine[at].disk_failed || next)
    }
}
