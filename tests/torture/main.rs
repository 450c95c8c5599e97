//! Torture: the real program between a real Kafka of three brokers and a real PostgreSQL, under a seeded schedule of
//! faults; at the end judges look for what was lost or doubled. Started by scripts/torture.

mod arguments;
mod director;
mod disk;
mod failpoints;
mod fault;
mod judges;
mod kafka;
mod logs;
mod nodes;
mod poison;
mod postgres;
mod process;
mod recovery;
mod report;
mod rig;
mod schedule;
mod settings;
#[path = "../support/signals.rs"]
mod signals;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/tcp_proxy.rs"]
mod tcp_proxy;
mod web;

use std::{
    fs,
    process::exit,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use fault::{Fault, Node};
use report::Report;
use rig::Rig;

/// Why a run could not be carried to its end.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The services did not work, or the run came to no end.
const UNAVAILABLE: i32 = 69;

#[actix_rt::main]
async fn main() {
    let arguments = Arguments::parse();
    for kind in &arguments.only {
        if !Fault::KINDS.contains(&kind.as_str()) {
            println!(
                "error: no such kind of fault: {kind:?}. Kinds: {}",
                Fault::KINDS.join(", ")
            );
            exit(64);
        }
    }
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seed = arguments
        .seed
        .unwrap_or(clock.as_micros() as u64 % 1_000_000);
    watch(arguments.longest());
    let interrupted = async {
        let listen = |kind| signal(kind).ok();
        let (mut terminate, mut interrupt) = (
            listen(SignalKind::terminate()),
            listen(SignalKind::interrupt()),
        );
        tokio::select! {
            _ = heard(&mut terminate) => {}
            _ = heard(&mut interrupt) => {}
        }
    };
    let code = tokio::select! {
        ended = run(&arguments, seed) => match ended {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(problem) => {
                println!("error: {problem} (seed {seed}, see {}/seed-{seed})", arguments.folder.display());
                UNAVAILABLE
            }
        },
        () = interrupted => {
            println!("interrupted: ending everything (seed {seed})");
            130
        }
    };
    process::end_all();
    exit(code);
}

async fn heard(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Bounds the whole run, also where it hangs.
fn watch(longest: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(longest);
        println!(
            "error: no end after {} s, ending everything",
            longest.as_secs()
        );
        process::end_all();
        exit(UNAVAILABLE);
    });
}

/// The whole run. `true` if nothing was lost, doubled, or is unexplained.
async fn run(arguments: &Arguments, seed: u64) -> Result<bool, Failure> {
    let begin = Instant::now();
    let events = schedule::draw(seed, arguments.duration(), &arguments.only);
    let plan: String = events.iter().map(|event| format!("{event}\n")).collect();
    println!(
        "seed {seed}: {} faults in {:.1} minutes",
        events.len(),
        arguments.minutes
    );
    print!("{plan}");
    if arguments.plan {
        return Ok(true);
    }
    println!("starting Kafka and PostgreSQL");
    let mut rig = Rig::build(arguments, seed).await?;
    fs::write(rig.folder.join("schedule.txt"), &plan)?;
    let since = jiff::Timestamp::now();
    for node in Node::ALL {
        // The first consumer makes the schema; armed from the start, so that this is interrupted too.
        rig.nodes.start(node, true, None)?;
    }
    println!(
        "{} sites from two locations, once a second each",
        arguments.sites
    );
    let patience = Duration::from_secs(30);
    let db = rig.postgres.connect_within("sitewatch", patience).await?;
    judges::history::prepare(&db, patience).await?;
    let done = director::direct(&mut rig, &events, arguments.duration(), seed).await?;
    println!("         no more faults");
    let mut problems = recovery::recover(&mut rig).await?;
    problems.extend(rig.nodes.unexplained.iter().cloned());
    problems.extend(done.unexplained.iter().cloned());
    println!("         the judges read");
    let judged = judges::judge(&rig, since).await?;
    problems.extend(judged.problems.iter().cloned());
    // Nothing is lost where nothing was done.
    let (requests, checks) = (rig.web.requests(), judged.read.checks);
    if checks < requests / 2 {
        problems.push(format!(
            "{requests} requests were made, and only {checks} checks came to Kafka"
        ));
    }
    let report = Report {
        seed,
        faults_for: arguments.duration(),
        took: begin.elapsed(),
        requests: rig.web.requests(),
        done: &done,
        nodes: &rig.nodes,
        judged: &judged,
        problems: &problems,
    };
    let (text, clean) = (report.text(), report.is_clean());
    println!("{text}");
    let folder = rig.folder.clone();
    let cluster = rig.postgres.cluster().to_owned();
    drop(rig);
    process::unmount_all();
    if clean && !arguments.keep {
        let _ = fs::remove_dir_all(&cluster);
        fs::remove_dir_all(&folder)?;
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("schedule.txt"), &plan)?;
    } else {
        println!("logs and data: {}, {}", folder.display(), cluster.display());
    }
    fs::write(folder.join("report.txt"), &text)?;
    Ok(clean)
}
