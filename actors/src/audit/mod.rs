//! Compares what is stored with what must be: counted in the database, a site's range at a time, in one read-only snapshot.
//!
//! The statements are in `sql.rs`; what each category means is in docs/reliability.md.

mod answer;
mod sql;

use std::{collections::HashMap, time::SystemTime};

use sitewatch_config::{Cron, PostgresSettings};
use tokio_postgres::{Row, Transaction, types::ToSql};

pub use self::answer::{Audit, AuditQuestion, Conflict, Counts, SiteAudit};
use crate::{
    database::{AskError, ask, slots_between},
    model::Slot,
};

type Pair = (i32, i32);

/// A stretch of one revision that lies in the range.
struct Span {
    pair: Pair,
    since: SystemTime,
    from: SystemTime,
    to: SystemTime,
    cron: Option<String>,
    stored: u64,
    expected: u64,
    strays: bool,
}

/// Connects and compares.
///
/// # Errors
/// If PostgreSQL does not answer or refuses, or has no such tables, or there is nothing of that name.
pub async fn audit(
    settings: &PostgresSettings,
    question: &AuditQuestion,
) -> Result<Audit, AskError> {
    let mut client = ask(
        settings,
        &["site_revision", "check_result", "check_conflict"],
    )
    .await?;
    // One snapshot: what comes in meanwhile is neither missing nor there.
    let transaction = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    // Compiling the statements takes longer than it saves; and an answer may take its time.
    transaction
        .batch_execute("SET LOCAL jit = off; SET LOCAL statement_timeout = 0")
        .await?;
    for (what, name, query) in [
        (
            "site",
            &question.site,
            "SELECT EXISTS (SELECT FROM site WHERE name = $1 OR starts_with(name, $1 || '@'))",
        ),
        (
            "location",
            &question.location,
            "SELECT EXISTS (SELECT FROM location WHERE name = $1)",
        ),
    ] {
        if let Some(name) = name
            && !transaction
                .query_one(query, &[name])
                .await?
                .get::<_, bool>(0)
        {
            return Err(AskError::Unknown(what, name.clone()));
        }
    }
    let mut work = Work {
        transaction,
        question,
        sites: HashMap::new(),
        answer: Audit::default(),
    };
    let spans = work.count().await?;
    work.find_missing(&spans).await?;
    work.find_unscheduled(&spans).await?;
    work.tell_facts().await?;
    let Work {
        sites, mut answer, ..
    } = work;
    answer.sites = sites.into_values().collect();
    answer
        .sites
        .sort_by(|a, b| (&a.site, &a.location).cmp(&(&b.site, &b.location)));
    Ok(answer)
}

struct Work<'a> {
    transaction: Transaction<'a>,
    question: &'a AuditQuestion,
    sites: HashMap<Pair, SiteAudit>,
    answer: Audit,
}

impl Work<'_> {
    fn range(&self) -> (SystemTime, SystemTime) {
        let AuditQuestion { since, until, .. } = self.question;
        (since.to_system_time(), until.to_system_time())
    }

    fn late_ms(&self) -> i32 {
        i32::try_from(self.question.late.as_millis()).unwrap_or(i32::MAX)
    }

    fn site(&mut self, pair: Pair) -> &mut SiteAudit {
        self.sites.entry(pair).or_default()
    }

    async fn count(&mut self) -> Result<Vec<Span>, AskError> {
        let (from, to) = self.range();
        let rows = self
            .transaction
            .query(
                sql::COUNT,
                &[
                    &from,
                    &to,
                    &self.question.site,
                    &self.question.location,
                    &self.late_ms(),
                    &self.question.grace.as_secs_f64(),
                ],
            )
            .await?;
        let mut spans = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut span = Span {
                pair: (row.get("site_id"), row.get("location_id")),
                since: row.get("since"),
                from: row.get("lo"),
                to: row.get("hi"),
                cron: row.get("cron"),
                stored: 0,
                expected: 0,
                strays: number(row, "strays") > 0,
            };
            let mut counts = Counts {
                expected: number(row, "expected"),
                stored: number(row, "stored"),
                missed: number(row, "missed"),
                late: number(row, "late"),
                duplicate: number(row, "duplicate"),
                ..Counts::default()
            };
            if let Some(cron) = &span.cron {
                match Cron::new(cron) {
                    Ok(cron) => {
                        let slots = slots_between(&cron, span.from, span.to);
                        let found = self
                            .transaction
                            .query_one(
                                sql::COUNT_CALENDAR,
                                &[
                                    &span.pair.0,
                                    &span.pair.1,
                                    &span.from,
                                    &span.to,
                                    &slots,
                                    &self.late_ms(),
                                ],
                            )
                            .await?;
                        counts = Counts {
                            expected: slots.len() as u64,
                            stored: number(&found, "stored"),
                            missed: number(&found, "missed"),
                            late: number(&found, "late"),
                            duplicate: number(&found, "duplicate"),
                            ..Counts::default()
                        };
                        span.strays = number(&found, "strays") > 0;
                    }
                    Err(why) => {
                        self.answer.unreadable.push(format!("{cron:?}: {why}"));
                        continue;
                    }
                }
            }
            (span.stored, span.expected) = (counts.stored, counts.expected);
            let site = self.site(span.pair);
            (site.site, site.location) = (row.get("site"), row.get("location"));
            site.counts.add(&counts);
            spans.push(span);
        }
        Ok(spans)
    }

    /// Finds the slots without a row and tells why there is none.
    async fn find_missing(&mut self, spans: &[Span]) -> Result<(), AskError> {
        let bad: Vec<_> = spans
            .iter()
            .filter(|span| span.stored < span.expected)
            .collect();
        if bad.is_empty() {
            return Ok(());
        }
        let every: Vec<_> = bad
            .iter()
            .filter(|span| span.cron.is_none())
            .copied()
            .collect();
        let mut given = Given::default();
        for span in &bad {
            if let Some(cron) = span.cron.as_deref().and_then(|cron| Cron::new(cron).ok()) {
                for slot in slots_between(&cron, span.from, span.to) {
                    given.push(span, slot);
                }
            }
        }
        let every = Columns::of(&every);
        let rows = self
            .transaction
            .query(
                sql::MISSING,
                &[
                    &every.sites,
                    &every.locations,
                    &every.since,
                    &every.from,
                    &every.to,
                    &given.sites,
                    &given.locations,
                    &given.since,
                    &given.slots,
                    &i32::from(self.question.slots),
                ],
            )
            .await?;
        for row in &rows {
            let listed = usize::from(self.question.slots);
            let site = self.site((row.get("site_id"), row.get("location_id")));
            site.counts.missing += number(row, "missing");
            site.counts.producer_down += number(row, "producer_down");
            // The producer came back without the site: after its end nothing was due.
            site.counts.expected -= number(row, "over").min(site.counts.expected);
            let room = listed.saturating_sub(site.missing.len());
            site.missing
                .extend(slots(row, "examples").into_iter().take(room));
        }
        Ok(())
    }

    /// Finds the rows that no revision expects.
    async fn find_unscheduled(&mut self, spans: &[Span]) -> Result<(), AskError> {
        let (from, to) = self.range();
        let with_strays: Vec<_> = spans.iter().filter(|span| span.strays).collect();
        let mut own = Given::default();
        for span in &with_strays {
            if let Some(cron) = span.cron.as_deref().and_then(|cron| Cron::new(cron).ok()) {
                for slot in slots_between(&cron, span.from, span.to) {
                    own.push(span, slot);
                }
            }
        }
        let strays = Columns::of(&with_strays);
        let rows = self
            .transaction
            .query(
                sql::UNSCHEDULED,
                &[
                    &from,
                    &to,
                    &self.question.site,
                    &self.question.location,
                    &strays.sites,
                    &strays.locations,
                    &strays.since,
                    &strays.from,
                    &strays.to,
                    &own.sites,
                    &own.locations,
                    &own.slots,
                    &self.question.grace.as_secs_f64(),
                    &i32::from(self.question.slots),
                ],
            )
            .await?;
        for row in &rows {
            let site = self.site((row.get("site_id"), row.get("location_id")));
            (site.site, site.location) = (row.get("site"), row.get("location"));
            site.counts.unscheduled += number(row, "unscheduled");
            site.unscheduled = slots(row, "examples");
        }
        Ok(())
    }

    async fn tell_facts(&mut self) -> Result<(), AskError> {
        let (from, to) = self.range();
        let unannounced = self
            .transaction
            .query_one(
                sql::UNANNOUNCED,
                &[&from, &to, &self.question.site, &self.question.location],
            )
            .await?;
        self.answer.unannounced = number(&unannounced, "unannounced");
        let gaps = self.transaction.query(sql::GAPS, &[&from, &to]).await?;
        let letters = self.transaction.query(sql::LETTERS, &[&from, &to]).await?;
        let by_reason = |rows: &[Row]| {
            rows.iter()
                .map(|row| (row.get("reason"), number(row, "n")))
                .collect()
        };
        let asked: [&(dyn ToSql + Sync); 4] =
            [&from, &to, &self.question.site, &self.question.location];
        let conflicts = self.transaction.query(sql::CONFLICTS, &asked).await?;
        let conflict = |row: &Row| Conflict {
            site: row.get("site"),
            location: row.get("location"),
            number: number(row, "n"),
            slot: Slot::from_system_time(row.get("slot")),
            stored: row.get("stored"),
            refused: row.get("refused"),
        };
        self.answer.conflicts = conflicts.iter().map(conflict).collect();
        self.answer.gaps = by_reason(&gaps);
        self.answer.dead_letters = by_reason(&letters);
        Ok(())
    }
}

/// Spans as arrays for a statement.
#[derive(Default)]
struct Columns {
    sites: Vec<i32>,
    locations: Vec<i32>,
    since: Vec<SystemTime>,
    from: Vec<SystemTime>,
    to: Vec<SystemTime>,
}

impl Columns {
    fn of(spans: &[&Span]) -> Self {
        Self {
            sites: spans.iter().map(|span| span.pair.0).collect(),
            locations: spans.iter().map(|span| span.pair.1).collect(),
            since: spans.iter().map(|span| span.since).collect(),
            from: spans.iter().map(|span| span.from).collect(),
            to: spans.iter().map(|span| span.to).collect(),
        }
    }
}

/// Slots of calendars as arrays for a statement.
#[derive(Default)]
struct Given {
    sites: Vec<i32>,
    locations: Vec<i32>,
    since: Vec<SystemTime>,
    slots: Vec<SystemTime>,
}

impl Given {
    fn push(&mut self, span: &Span, slot: SystemTime) {
        self.sites.push(span.pair.0);
        self.locations.push(span.pair.1);
        self.since.push(span.since);
        self.slots.push(slot);
    }
}

fn number(row: &Row, column: &str) -> u64 {
    u64::try_from(row.get::<_, Option<i64>>(column).unwrap_or_default()).unwrap_or_default()
}

fn slots(row: &Row, column: &str) -> Vec<Slot> {
    let times: Option<Vec<SystemTime>> = row.get(column);
    times
        .unwrap_or_default()
        .into_iter()
        .map(Slot::from_system_time)
        .collect()
}
