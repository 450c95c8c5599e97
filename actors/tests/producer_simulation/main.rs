//! A producer's life, thousands of times in seconds: its publisher runs over a disk and a Kafka that fail, on a clock that
//! is paused, all from a seed. Whatever happens, what counted as checked reaches Kafka.
//!
//! `SIM_SEED=7 cargo test -p sitewatch-actors --test producer_simulation -- --nocapture` runs one seed and prints what happens;
//! `SIM_SEEDS=10000` runs more. Seeds that failed once are kept in `regressions.txt` and always run.

mod link;
mod producer;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use world::{Mutation, Verdict};

const REGRESSIONS: &str = include_str!("regressions.txt");

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs seeds on all cores; gives those that failed, with why.
fn run_all(seeds: u64, mutation: Mutation) -> Vec<(u64, String)> {
    let next = AtomicU64::new(0);
    let run = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return failed;
            }
            if let Err(why) = producer::run(seed, mutation, false) {
                failed.push((seed, why));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    })
}

#[test]
fn what_counts_as_checked_reaches_kafka_whatever_happens() {
    if let Some(seed) = number("SIM_SEED") {
        let verdict = producer::run(seed, Mutation::None, true);
        println!("seed {seed}: {verdict:?}");
        return assert!(verdict.is_ok());
    }
    for seed in REGRESSIONS.lines().filter_map(|line| line.parse().ok()) {
        let verdict = producer::run(seed, Mutation::None, false);
        assert!(verdict.is_ok(), "regression: seed {seed}: {verdict:?}");
    }
    let failed = run_all(number("SIM_SEEDS").unwrap_or(2000), Mutation::None);
    let told: Vec<_> = failed.iter().take(5).collect();
    assert!(
        failed.is_empty(),
        "{} seeds failed, such as {told:?}",
        failed.len()
    );
}

#[test]
fn a_seed_replays_alike() {
    for seed in [3, 77, 1234] {
        let (first, second) = (
            producer::run(seed, Mutation::None, false),
            producer::run(seed, Mutation::None, false),
        );
        let trace = |verdict: Result<Verdict, String>| verdict.map(|it| it.trace);
        assert_eq!(trace(first), trace(second), "seed {seed}");
    }
}

#[test]
fn the_faults_do_happen() {
    let mut all = Verdict::default();
    for seed in 0..100 {
        all.add(&producer::run(seed, Mutation::None, false).unwrap());
    }
    assert!(
        all.accepted > 1000 && all.crashes > 50 && all.kills > 50,
        "{all:?}"
    );
    assert!(
        all.disk_faults > 50 && all.panics > 10 && all.duplicates > 50 && all.outages > 50,
        "{all:?}"
    );
}

/// The mutation check: without a disk that keeps what it says, results are lost, and this simulation sees it.
#[test]
fn without_the_spool_results_are_lost_and_that_is_seen() {
    let failed = run_all(200, Mutation::NoSpool);
    assert!(
        failed.len() > 20,
        "only {} of 200 seeds failed",
        failed.len()
    );
}
