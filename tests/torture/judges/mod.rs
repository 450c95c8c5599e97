//! The judges: each looks in its own way for what was lost, doubled, or is there without a reason.

pub(crate) mod accepted;
pub(crate) mod audit;
pub(crate) mod history;
pub(crate) mod lives;
pub(crate) mod table;
pub(crate) mod topic;
mod trial;

use std::{collections::HashMap, time::Duration};

use crate::{
    Failure,
    logs::{self, Heard},
    rig::Rig,
};
use table::Table;
use topic::Read;

/// How many of a finding are told one by one.
const TOLD: usize = 5;

/// What a judge has found of one sort.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) count: u64,
    /// The first few, in words.
    pub(crate) first: Vec<String>,
}

impl Finding {
    pub(crate) fn add(&mut self, what: impl FnOnce() -> String) {
        self.add_many(1, what);
    }

    pub(crate) fn add_many(&mut self, count: u64, what: impl FnOnce() -> String) {
        if count > 0 {
            self.count += count;
            if self.first.len() < TOLD {
                self.first.push(what());
            }
        }
    }
}

/// All that the judges have found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What was accepted or is in the topic, and is not in the tables.
    pub(crate) lost: Finding,
    /// What is there more than once.
    pub(crate) duplicate: Finding,
    /// What says something else than it said when it was sent.
    pub(crate) changed: Finding,
    /// What is there and should not be.
    pub(crate) unexplained: Finding,
}

/// What the judges have read, and what they say.
pub(crate) struct Judged {
    pub(crate) table: Table,
    pub(crate) read: Read,
    pub(crate) heard: Heard,
    /// The sums of the audit's figures.
    pub(crate) audit: Vec<(String, u64)>,
    /// How many rollups and incidents there are.
    pub(crate) history: history::Counts,
    pub(crate) findings: Findings,
    /// What else is wrong.
    pub(crate) problems: Vec<String>,
}

/// Lets all judges judge what has happened since `since`, and tries whether they would see what is wrong.
pub(crate) async fn judge(rig: &Rig, since: jiff::Timestamp) -> Result<Judged, Failure> {
    let patience = Duration::from_secs(30);
    let mut db = rig.postgres.connect_within("sitewatch", patience).await?;
    let mut findings = Findings::default();
    let table = Table::read(&db, &mut findings).await?;
    let (read, mut table, mut findings) = judge_topic(rig, table, findings).await?;
    let heard = logs::read(&rig.folder, &mut table, &mut findings)?;
    let url = rig.postgres.own_url();
    let audit = audit::judge(&rig.folder, &url, since, &heard.lives, &mut findings).await?;
    let panics = heard.panics.iter();
    let mut problems: Vec<_> = panics
        .map(|panic| format!("a panic that was not injected: {panic}"))
        .collect();
    if heard.accepted.lines == 0 {
        problems.push("no producer has said what is durable".to_owned());
    }
    let (wrong, history) = history::judge(&rig.folder, &url, &db).await?;
    problems.extend(wrong);
    problems.extend(trial::try_judges(rig, &mut db, &findings).await?);
    Ok(Judged {
        table,
        read,
        heard,
        audit,
        history,
        findings,
        problems,
    })
}

async fn judge_topic(
    rig: &Rig,
    mut table: Table,
    mut findings: Findings,
) -> Result<(Read, Table, Findings), Failure> {
    let inside = rig.kafka.inside();
    let reading = tokio::task::spawn_blocking(move || {
        let read = topic::judge(&inside, &mut table, &mut findings);
        read.map(|read| (read, table, findings))
    });
    reading.await?
}

/// A check: site, location and slot, in little room.
pub(crate) type Identity = (u32, u32, i64);

/// Gives names numbers.
#[derive(Default)]
pub(crate) struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// A check in words.
    pub(crate) fn words(&self, (site, location, slot): Identity) -> String {
        let name = |number: u32| self.names.get(number as usize).map_or("?", String::as_str);
        let slot = jiff::Timestamp::from_microsecond(slot).unwrap_or_default();
        format!(
            "site {:?}, location {:?}, slot {slot:.6}",
            name(site),
            name(location)
        )
    }
}

/// Microseconds since 1970 of a slot as it stands in messages and logs.
pub(crate) fn slot(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_microsecond)
}
