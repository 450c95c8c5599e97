//! Judge 2: the topic, read from its beginning by a plain consumer, against the tables.
//!
//! Every check in the topic is a row once, which says what one of its messages says, and that of a result where there is one; there is no
//! other row; every message that can't be stored is a dead letter once, and no other is; no gap is told of where there is none. It does
//! not use the node's own decoder.

use std::time::{Duration, Instant};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Headers as _},
};
use serde::Deserialize;

use super::{
    Findings, Identity, slot,
    table::{Said, Table},
};
use crate::{
    Failure,
    kafka::{self, TOPIC, client},
    poison::HEADER,
};

/// How long the topic may keep silent before its end is reached.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) messages: u64,
    /// Messages of checks; the same check may come in several.
    pub(crate) checks: u64,
    /// Checks that came in more than one message.
    pub(crate) repeats: u64,
    pub(crate) poison: u64,
    /// Messages of another kind, such as the announcements of sites.
    pub(crate) others: u64,
    /// Runs of offsets that Kafka has skipped: partition, from, to.
    gaps: Vec<(i32, i64, i64)>,
}

/// What a message of any kind may say.
#[derive(Deserialize)]
struct Identified {
    kind: Option<String>,
    site: Option<String>,
    location: Option<String>,
    slot: Option<String>,
    outcome: Option<String>,
    error: Option<String>,
    status: Option<i16>,
    total_us: Option<i32>,
    lateness_us: Option<i64>,
}

/// Judges. Blocks.
///
/// # Errors
/// If the topic can't be read.
pub(crate) fn judge(
    inside: &str,
    table: &mut Table,
    findings: &mut Findings,
) -> Result<Read, Failure> {
    let mut read = Read::default();
    for (partition, end) in (0..).zip(kafka::ends(inside)?) {
        judge_partition(inside, partition, end, table, findings, &mut read)?;
    }
    for (identity, row) in &table.checks {
        let words = || table.names.words(*identity);
        if !row.in_topic {
            let finding = &mut findings.unexplained;
            finding.add(|| format!("a row that is not in the topic: {}", words()));
        } else if row.has_result && table.is_placeholder(row.said) {
            let finding = &mut findings.lost;
            finding.add(|| format!("a placeholder in the place of a result: {}", words()));
        } else if !row.is_told {
            let finding = &mut findings.changed;
            finding.add(|| format!("no message says {:?}: {}", row.said, words()));
        }
    }
    for ((partition, offset), count) in &table.dead {
        findings.duplicate.add_many(count.saturating_sub(1), || {
            format!("dead_letter has {count} times: partition {partition}, offset {offset}")
        });
    }
    for (partition, reason, from, to) in &table.gaps {
        if reason != "absent" || !read.gaps.contains(&(*partition, *from, *to)) {
            findings.unexplained.add(|| {
                format!("kafka_gap tells of one that is not there: {reason}, partition {partition}, {from} to {to}")
            });
        }
    }
    Ok(read)
}

fn judge_partition(
    inside: &str,
    partition: i32,
    end: i64,
    table: &mut Table,
    findings: &mut Findings,
    read: &mut Read,
) -> Result<(), Failure> {
    let mut config = client(inside);
    config
        .set("group.id", "torture-judge")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, partition, Offset::Offset(0))?;
    consumer.assign(&list)?;
    let (mut next, mut heard) = (0, Instant::now());
    while next < end {
        let Some(polled) = consumer.poll(Duration::from_millis(500)) else {
            if heard.elapsed() > PATIENCE {
                return Err(format!(
                    "the judge can't read partition {partition} on from {next} to {end}"
                )
                .into());
            }
            continue;
        };
        // Errors of a connection come and go.
        let Ok(message) = polled else { continue };
        heard = Instant::now();
        if message.offset() > next {
            read.gaps.push((partition, next, message.offset()));
        }
        next = message.offset() + 1;
        judge_message(&message, table, findings, read);
    }
    Ok(())
}

fn judge_message(
    message: &BorrowedMessage<'_>,
    table: &mut Table,
    findings: &mut Findings,
    read: &mut Read,
) {
    read.messages += 1;
    let source = (message.partition(), message.offset());
    let poisonous = message
        .headers()
        .is_some_and(|headers| headers.iter().any(|header| header.key == HEADER));
    let is_dead = table.dead.contains_key(&source);
    let place = || format!("partition {}, offset {}", source.0, source.1);
    if poisonous {
        read.poison += 1;
        if !is_dead {
            findings
                .lost
                .add(|| format!("not in dead_letter: {}", place()));
        }
        return;
    }
    if is_dead {
        findings
            .unexplained
            .add(|| format!("in dead_letter without a reason: {}", place()));
    }
    match check(message.payload().unwrap_or_default(), table) {
        Some(Some((identity, said))) => {
            read.checks += 1;
            let is_result = !table.is_placeholder(said);
            match table.checks.get_mut(&identity) {
                Some(row) => {
                    read.repeats += u64::from(std::mem::replace(&mut row.in_topic, true));
                    row.is_told |= row.said == said;
                    row.has_result |= is_result;
                }
                None => findings.lost.add(|| {
                    format!(
                        "in the topic ({}), not in check_result: {}",
                        place(),
                        table.names.words(identity)
                    )
                }),
            }
        }
        Some(None) => read.others += 1,
        None => findings
            .unexplained
            .add(|| format!("a message that nobody can read: {}", place())),
    }
}

/// The check that a message tells of, and what it says. `Some(None)`: it tells of something else. `None`: it can't be read.
fn check(payload: &[u8], table: &mut Table) -> Option<Option<(Identity, Said)>> {
    let message: Identified = serde_json::from_slice(payload).ok()?;
    if message.kind.is_some_and(|kind| kind != "check") {
        return Some(None);
    }
    let (site, location) = (message.site?, message.location?);
    let slot = slot(&message.slot?)?;
    let error = message.error.as_deref();
    let said = Said {
        outcome: table.outcomes.number(&message.outcome?)?,
        error: error.map_or(Some(0), |word| table.errors.number(word))?,
        status: message.status,
        total_us: message.total_us,
        lateness_ms: i32::try_from(message.lateness_us? / 1000).ok()?,
    };
    let names = &mut table.names;
    let identity = (names.number(&site), names.number(&location), slot);
    Some(Some((identity, said)))
}
