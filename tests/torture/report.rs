//! What the run tells at its end.

use std::{fmt::Write as _, time::Duration};

use crate::{
    director::Done,
    fault::Fault,
    judges::{Finding, Findings, Judged},
    nodes::Nodes,
};

/// What the report is made of.
pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) faults_for: Duration,
    pub(crate) took: Duration,
    pub(crate) requests: u64,
    pub(crate) done: &'a Done,
    pub(crate) nodes: &'a Nodes,
    pub(crate) judged: &'a Judged,
    /// Ends and the like that nothing explains.
    pub(crate) problems: &'a [String],
}

impl Report<'_> {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        let Findings {
            lost,
            duplicate,
            changed,
            unexplained,
        } = &self.judged.findings;
        let found = [lost, duplicate, changed, unexplained];
        found.iter().all(|finding| finding.count == 0) && self.problems.is_empty()
    }

    /// The whole, in words and tables.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Judged {
            table, read, heard, ..
        } = self.judged;
        let minutes = |time: Duration| time.as_secs_f64() / 60.0;
        writeln!(
            out,
            "\nseed {}: faults for {:.1} minutes, {:.1} minutes with start, recovery and judges",
            self.seed,
            minutes(self.faults_for),
            minutes(self.took)
        )?;
        writeln!(out, "\n| fault | times |\n| --- | --- |")?;
        for kind in Fault::KINDS {
            if let Some(times) = self.done.faults.get(kind) {
                writeln!(out, "| {kind} | {times} |")?;
            }
        }
        let total: u32 = self.done.faults.values().sum();
        writeln!(out, "| all | {total} |")?;
        for (kind, (times, why)) in &self.done.skipped {
            writeln!(out, "not done: {kind}, {times} times: {why}")?;
        }
        writeln!(out, "\n| actor | restarts | why |\n| --- | --- | --- |")?;
        for ((actor, reason), times) in &heard.restarts {
            writeln!(out, "| {actor} | {times} | {reason} |")?;
        }
        writeln!(
            out,
            "\nlives of processes {}, of which given up after too many failures {}",
            self.nodes.lives(),
            self.nodes.gave_up
        )?;
        let peaks: Vec<_> = self.nodes.peaks().iter().collect();
        let peaks = peaks
            .iter()
            .map(|(node, peak)| format!("{} {} MB", node.name(), *peak / 1_000_000));
        writeln!(out, "peak memory: {}", peaks.collect::<Vec<_>>().join(", "))?;
        writeln!(out, "\n| rows by outcome | |\n| --- | --- |")?;
        for ((outcome, error), rows) in &table.by_outcome {
            writeln!(out, "| {outcome} {error} | {rows} |")?;
        }
        for (reason, rows) in &table.by_reason {
            writeln!(out, "| dead letter, {reason} | {rows} |")?;
        }
        writeln!(
            out,
            "\nrequests {}, messages {} (checks {}, of which said before {}; unstorable {}, others {})",
            self.requests, read.messages, read.checks, read.repeats, read.poison, read.others
        )?;
        writeln!(out, "rows {}", table.checks.len())?;
        let sums = self.judged.audit.iter();
        let sums = sums.map(|(name, sum)| format!("{name} {sum}"));
        writeln!(out, "audit: {}", sums.collect::<Vec<_>>().join(", "))?;
        let history = &self.judged.history;
        writeln!(
            out,
            "rollups of hours {}, incidents {}",
            history.hours, history.incidents
        )?;
        writeln!(out, "accepted {}", heard.accepted.lines)?;
        let Findings {
            lost,
            duplicate,
            changed,
            unexplained,
        } = &self.judged.findings;
        writeln!(
            out,
            "lost {}, duplicate {}, changed {}, unexplained {}",
            lost.count,
            duplicate.count,
            changed.count,
            unexplained.count + self.problems.len() as u64
        )?;
        for (what, finding) in [
            ("lost", lost),
            ("duplicate", duplicate),
            ("changed", changed),
            ("unexplained", unexplained),
        ] {
            tell(out, what, finding)?;
        }
        for problem in self.problems {
            writeln!(out, "unexplained: {problem}")?;
        }
        if !self.is_clean() {
            writeln!(out, "\nwarnings and errors in the logs:")?;
            for (said, times) in &heard.complaints {
                writeln!(out, "{times:7} × {said}")?;
            }
        }
        Ok(())
    }
}

fn tell(out: &mut String, what: &str, finding: &Finding) -> std::fmt::Result {
    for example in &finding.first {
        writeln!(out, "{what}: {example}")?;
    }
    let more = finding.count.saturating_sub(finding.first.len() as u64);
    if more > 0 && !finding.first.is_empty() {
        writeln!(out, "{what}: … {more} more")?;
    }
    Ok(())
}
