//! From a slot to its row: the sites, the publisher with its spool, the consumer's reader and the writer as they are, between
//! simulated sites' answers, disks, a simulated Kafka and a simulated database, on a simulated clock. All that happens follows
//! from a seed, so what fails once fails again: `SIM_SEED=n cargo test -p sitewatch-actors --test simulation one_seed --
//! --nocapture` shows it. The idea is FoundationDB's.

#![allow(
    clippy::print_stderr,
    reason = "a simulation that is looked at prints its trace"
)]

mod checked;
mod database;
mod kafka;
mod link;
mod mortal;
mod process;
mod producer;
mod scenario;
mod sites;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use database::Mutation;
use scenario::run;

const SEEDS: u64 = 500;
const SEEDS_OF_A_MUTATION: u64 = 100;

/// How many seeds are run: `SIM_SEEDS`, or [`SEEDS`].
fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("SIM_SEEDS is a number"))
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The seeds before `end` that fail, with what is wrong.
fn failures(end: u64, mutation: Mutation) -> Vec<(u64, Vec<String>)> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let problems = run(seed, mutation, false).problems;
                    if !problems.is_empty() {
                        failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((seed, problems));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    failed
}

fn told(failed: &[(u64, Vec<String>)]) -> String {
    let lines = failed.iter().take(10).map(|(seed, problems)| {
        let first: Vec<_> = problems.iter().take(3).cloned().collect();
        format!("SIM_SEED={seed}: {}", first.join("; "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_check_is_stored_once_whatever_fails() {
    let (seeds, start) = (seeds(), std::time::Instant::now());
    let failed = failures(seeds, Mutation::None);
    eprintln!("{seeds} seeds in {:?}", start.elapsed());
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds fail:\n{}",
        failed.len(),
        told(&failed)
    );
}

#[test]
fn seeds_that_failed_once_do_not_fail_again() {
    let seeds = include_str!("regressions.txt");
    let seeds = seeds.lines().filter(|line| !line.starts_with('#'));
    for seed in seeds.filter_map(|line| line.split_whitespace().next()) {
        let seed = seed.parse().expect("a line begins with a seed");
        let problems = run(seed, Mutation::None, false).problems;
        assert!(problems.is_empty(), "SIM_SEED={seed}: {problems:?}");
    }
}

#[test]
fn a_seed_replays_exactly_alike() {
    for seed in 0..10 {
        let hashes = [(); 2].map(|()| run(seed, Mutation::None, false).hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}

/// A simulation that notices nothing proves nothing: without any one of these the guarantee is gone, and it is seen, in many
/// seeds, as what it is.
#[test]
fn a_part_without_its_guarantee_is_found_out() {
    for (mutation, told_as, least) in [
        (Mutation::NoFencing, " times", 20),
        (Mutation::NoKey, " times", 90),
        (Mutation::FirstStays, "is stored as", 60),
        (Mutation::LastStays, "is stored as", 60),
        (Mutation::OffsetsOutside, "is missing", 90),
        (Mutation::NoSpool, "is missing", 40),
        (Mutation::OldEnds, " times", 10),
    ] {
        let failed = failures(SEEDS_OF_A_MUTATION, mutation);
        eprintln!(
            "{mutation:?}: {} of {SEEDS_OF_A_MUTATION} seeds fail, for example\n{}",
            failed.len(),
            told(&failed[..failed.len().min(2)])
        );
        let as_told = |problem: &String| problem.contains(told_as);
        let as_it_should = failed
            .iter()
            .filter(|(_, problems)| problems.iter().any(as_told));
        assert!(as_it_should.count() >= least, "{mutation:?}: {told_as:?}");
    }
}

/// Nor does one in which nothing happens.
#[test]
fn the_faults_do_happen() {
    let mut counts = BTreeMap::<&str, u64>::new();
    for seed in 0..100 {
        for (what, count) in run(seed, Mutation::None, false).counts {
            *counts.entry(what).or_default() += count;
        }
    }
    eprintln!("in 100 seeds: {counts:#?}");
    for (what, least) in [
        ("a commit is in doubt", 50),
        ("a consumer is killed", 100),
        ("a consumer ends in order", 20),
        ("a disk fails", 500),
        ("a leader is replaced", 100),
        ("a machine crashes", 30),
        ("a producer ends in order", 20),
        ("a producer is killed", 30),
        ("a producer looks at the consumers", 500),
        ("a check is interrupted", 30),
        ("a result is accepted", 5_000),
        ("a site is replaced", 100),
        ("settings are reloaded", 100),
        ("a slot is missed", 200),
        ("a turn at a disk panics", 50),
        ("a turn at a disk panics at its end", 30),
        ("an acknowledgement is lost", 200),
        ("an outage of Kafka", 200),
        ("partitions change their owners", 100),
        ("the answer to a commit is lost", 30),
        ("the clock is set", 50),
    ] {
        let count = counts.get(what).copied().unwrap_or_default();
        assert!(count >= least, "{what}: {count} times");
    }
}

/// Shows one simulation; does nothing without `SIM_SEED`.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var("SIM_SEED").ok() else {
        return;
    };
    let seed = seed.parse().expect("SIM_SEED is a number");
    let verdict = run(seed, Mutation::None, true);
    eprintln!("hash {:016x}", verdict.hash);
    assert!(verdict.problems.is_empty(), "{:#?}", verdict.problems);
}
