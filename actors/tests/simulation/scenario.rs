//! One simulation from its seed to its verdict.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use actix::System;
use futures_util::future;
use serde_json::json;
use sitewatch_actors::{
    metrics::Metrics,
    model::{CheckResult, Outcome, Slot},
    publisher::spool::MemoryDisk,
};
use slog::{Discard, Drain, Logger, OwnedKVList, Record, o};
use tokio::time::{Instant, sleep};

use super::{
    checked::Checked,
    database::{Database, Key, Mutation, REFUSED_LATENESS_MS, Said, Tables},
    kafka::{Kafka, STALE},
    process::Process,
    producer::Producer,
    sites::is_of_a_producer,
    world::{EPOCH, World},
};

/// So much simulated time, once faults have ended, is enough for everything.
const ENOUGH: Duration = Duration::from_secs(600);

pub(crate) struct Verdict {
    /// Of the whole trace.
    pub(crate) hash: u64,
    pub(crate) problems: Vec<String>,
    /// How often what has happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// Runs the simulation of `seed`; prints its trace if asked to.
pub(crate) fn run(seed: u64, mutation: Mutation, print: bool) -> Verdict {
    // The delays between tries are drawn from the thread's generator.
    fastrand::seed(seed);
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing")
    });
    system.block_on(simulate(seed, mutation, print))
}

async fn simulate(seed: u64, mutation: Mutation, print: bool) -> Verdict {
    let world = World::new(seed, print);
    let stale = match mutation {
        Mutation::OldEnds => 10 * STALE,
        _ => STALE,
    };
    let kafka = Kafka::new(&world, stale);
    let database = Database::new(&world, mutation);
    let metrics = Metrics::new().expect("the names are valid");
    let log = if print {
        Logger::root(Print.fuse(), o!())
    } else {
        Logger::root(Discard, o!())
    };
    let mut tasks = vec![
        actix_rt::spawn(Rc::clone(&kafka).coordinate()),
        actix_rt::spawn(Rc::clone(&kafka).come_and_go()),
        actix_rt::spawn(Rc::clone(&database).outages()),
        actix_rt::spawn(Rc::clone(&world).set_clocks()),
    ];
    for number in 0..2 + world.below(2) {
        let process = Process {
            number,
            world: Rc::clone(&world),
            kafka: Rc::clone(&kafka),
            database: Rc::clone(&database),
            metrics: metrics.clone(),
            log: log.clone(),
        };
        tasks.push(actix_rt::spawn(process.live()));
    }
    let checked = Rc::<RefCell<Checked>>::default();
    let (mut producers, mut lives) = (Vec::new(), Vec::new());
    for number in 0..1 + world.below(2) {
        let disk = MemoryDisk::new();
        disk.lie_about_sync(mutation == Mutation::NoSpool);
        let producer = Producer {
            number,
            world: Rc::clone(&world),
            kafka: Rc::clone(&kafka),
            disk,
            checked: Rc::clone(&checked),
            log: log.clone(),
        };
        lives.push(actix_rt::spawn(producer.clone().live()));
        producers.push(producer);
    }
    let told = generate(&world, &kafka).await;
    sleep(world.millis(10_000)).await;
    world.calm();
    let deadline = Instant::now() + ENOUGH;
    let ended = future::join_all(lives);
    let is_late = tokio::time::timeout_at(deadline, ended).await.is_err();
    while !database.is_at(&kafka.ends()) && Instant::now() < deadline {
        sleep(Duration::from_millis(500)).await;
    }
    world.end();
    for task in tasks {
        task.abort();
    }
    let mut problems = world.violations();
    if is_late {
        problems.push("a producer does not end".to_owned());
    }
    let ends = kafka.ends();
    let (stored, checked) = (database.tables(), checked.borrow());
    told.judge(&ends, &stored, &checked, &mut problems);
    compare(&kafka.checks(&told.bad), &stored, &checked, &mut problems);
    for producer in &producers {
        match producer.left() {
            Ok(0) => {}
            Ok(left) => problems.push(format!("{left} results are left in a spool")),
            Err(problem) => problems.push(format!("a spool can't be opened: {problem}")),
        }
    }
    Verdict {
        hash: world.hash(),
        problems,
        counts: world.counts(),
    }
}

/// What was put into the topic beside what the producers send.
#[derive(Default)]
struct Told {
    checks: BTreeSet<Key>,
    /// Messages that must become dead letters.
    bad: BTreeSet<(i32, i64)>,
    absent: BTreeSet<(i32, i64)>,
    revisions: BTreeMap<Key, Option<i64>>,
}

async fn generate(world: &World, kafka: &Kafka) -> Told {
    let mut told = Told::default();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let mut number = 0;
    for _ in 0..40 + world.below(160) {
        if world.below(3) == 0 {
            sleep(world.millis(600)).await;
        }
        let partition = world.below(kafka.partition_count()) as i32;
        let site = format!("site-{}", world.below(4));
        match world.below(100) {
            0..10 if !sent.is_empty() => {
                let again = sent[world.below(sent.len() as u64) as usize].clone();
                kafka.append(partition, Some(again));
            }
            10..18 => {
                let mut message = check(&site, number);
                match world.below(3) {
                    0 => message = json!("no object"),
                    1 => message["v"] = 2.into(),
                    _ => message["slot"] = "1970-01-01T00:00:00Z".into(),
                }
                told.bad
                    .insert(kafka.append(partition, Some(bytes(&message))));
            }
            18..23 => {
                number += 1;
                let mut message = check(&site, number);
                message["lateness_us"] = (i64::from(REFUSED_LATENESS_MS) * 1000).into();
                told.bad
                    .insert(kafka.append(partition, Some(bytes(&message))));
            }
            23..30 => {
                let since = EPOCH + world.below(5) as i64 * 60_000_000;
                let until = (world.below(2) == 0).then_some(EPOCH + 600_000_000);
                kafka.append(partition, Some(bytes(&revision(&site, since, until))));
                let known = told.revisions.entry((site, since)).or_default();
                *known = known.or(until);
            }
            kind => {
                if kind < 34 {
                    told.absent.insert(kafka.append(partition, None));
                }
                number += 1;
                let mut message = check(&site, number);
                if kind < 50 {
                    let (outcome, error) =
                        [("unknown", "missed"), ("down", "dns_error")][usize::from(kind < 45)];
                    let mut other = message.clone();
                    (other["outcome"], other["error"]) = (outcome.into(), error.into());
                    sent.push(bytes(&other));
                    if world.below(2) == 0 {
                        std::mem::swap(&mut message, &mut other);
                    }
                    if world.below(2) == 0 {
                        kafka.append(partition, Some(bytes(&other)));
                    }
                }
                let message = bytes(&message);
                sent.push(message.clone());
                kafka.append(partition, Some(message));
                told.checks.insert((site, slot(number)));
            }
        }
    }
    told
}

fn slot(number: i64) -> i64 {
    EPOCH + number * 1_000_000
}

fn check(site: &str, number: i64) -> serde_json::Value {
    let slot = Slot::from_micros(slot(number));
    let result = CheckResult::of(site, "http://site/", "here", slot, Outcome::Up);
    serde_json::to_value(result).expect("a check is JSON")
}

fn revision(site: &str, since: i64, until: Option<i64>) -> serde_json::Value {
    let time = |micros| Slot::from_micros(micros).to_string();
    let mut told = json!({
        "v": 1, "kind": "site", "site": site, "url": "http://site/", "location": "here", "since": time(since),
        "interval_us": 1_000_000, "phase_us": 0, "check_limit_us": 1_000_000, "config_hash": "x", "run": time(EPOCH),
    });
    if let Some(until) = until {
        told["until"] = time(until).into();
    }
    told
}

fn bytes(message: &serde_json::Value) -> Vec<u8> {
    message.to_string().into_bytes()
}

impl Told {
    /// Compares what is stored with what was told.
    fn judge(
        &self,
        ends: &BTreeMap<i32, i64>,
        stored: &Tables,
        checked: &Checked,
        problems: &mut Vec<String>,
    ) {
        if stored.offsets != *ends {
            problems.push(format!(
                "not drained: offsets {:?}, ends {ends:?}",
                stored.offsets
            ));
        }
        let mut due = checked.judge(stored, problems);
        due.extend(self.checks.iter().cloned());
        let times = |(key, said): (&Key, &Vec<_>)| (key.clone(), said.len() as u32);
        let rows = stored.rows.iter().map(times).collect();
        once("check", &due, &rows, problems);
        once("dead letter", &self.bad, &stored.letters, problems);
        let mut absent = BTreeMap::new();
        for (partition, reason, from, to) in &stored.gaps {
            if *reason != "absent" {
                problems.push(format!(
                    "an invented gap: {reason} of {partition}, {from} to {to}"
                ));
                continue;
            }
            for offset in *from..*to {
                *absent.entry((*partition, offset)).or_default() += 1;
            }
        }
        once("absent offset", &self.absent, &absent, problems);
        let mut revisions = stored.revisions.clone();
        revisions.retain(|(site, _), _| !is_of_a_producer(site));
        if revisions != self.revisions {
            problems.push(format!(
                "revisions {revisions:?}, told {:?}",
                self.revisions
            ));
        }
    }
}

/// Compares what the rows say with what the topic says, and this with what was accepted. The first result of a check is stored; a
/// placeholder only where there is none. Where results of one slot say different things, that is noted.
fn compare(
    topic: &BTreeMap<Key, Vec<(i32, Said)>>,
    stored: &Tables,
    checked: &Checked,
    problems: &mut Vec<String>,
) {
    for (key, said) in &checked.accepted {
        let messages = topic.get(key).into_iter().flatten();
        if !messages.into_iter().any(|(_, told)| told == said) {
            problems.push(format!(
                "check {key:?} was accepted as {said:?}, and no message says so"
            ));
        }
    }
    for (key, rows) in &stored.rows {
        let messages = topic.get(key).map(Vec::as_slice).unwrap_or_default();
        let results: Vec<_> = messages
            .iter()
            .filter(|(_, said)| !said.is_placeholder())
            .collect();
        let is_ordered = results.windows(2).all(|pair| pair[0].0 == pair[1].0);
        for row in rows {
            let is_right = match (results.first(), row.is_placeholder()) {
                (Some(_), true) => false,
                (Some((_, first)), false) if is_ordered => row == first,
                (Some(_), false) => results.iter().any(|(_, said)| said == row),
                (None, _) => messages.iter().any(|(_, said)| said == row),
            };
            if !is_right {
                problems.push(format!(
                    "check {key:?} is stored as {row:?}, told as {messages:?}"
                ));
            }
        }
        let differ = results.iter().any(|(_, said)| *said != results[0].1);
        if differ != stored.conflicts.contains(key) {
            problems.push(format!(
                "check {key:?}: results differ: {differ}, which is not what was noted"
            ));
        }
    }
}

/// Each is there, once, and nothing else is.
fn once<T: Ord + std::fmt::Debug>(
    what: &str,
    told: &BTreeSet<T>,
    stored: &BTreeMap<T, u32>,
    problems: &mut Vec<String>,
) {
    for item in told {
        match stored.get(item) {
            Some(1) => {}
            Some(count) => problems.push(format!("{what} {item:?} is there {count} times")),
            None => problems.push(format!("{what} {item:?} is missing")),
        }
    }
    for item in stored.keys().filter(|item| !told.contains(item)) {
        problems.push(format!("{what} {item:?} was never told"));
    }
}

/// Log lines among the trace.
struct Print;

impl Drain for Print {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        eprintln!("              {} {}", record.level(), record.msg());
        Ok(())
    }
}
