//! Judge 3: what the producers have said to be durable, against the tables.

use super::{Findings, Identity, slot, table::Table};
use crate::logs::Line;

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Lines that told of a result that is durable.
    pub(crate) lines: u64,
}

impl Accepted {
    /// Judges one line of a producer's log.
    pub(crate) fn hear(
        &mut self,
        location: &str,
        line: &Line<'_>,
        table: &mut Table,
        findings: &mut Findings,
    ) {
        if line.msg != "accepted" {
            return;
        }
        let (Some(site), Some(slot)) = (&line.site, line.slot.as_deref().and_then(slot)) else {
            return;
        };
        self.lines += 1;
        let identity: Identity = (table.names.number(site), table.names.number(location), slot);
        if !table.checks.contains_key(&identity) {
            findings.lost.add(|| {
                format!(
                    "accepted, not in check_result: {}",
                    table.names.words(identity)
                )
            });
        }
    }
}
