//! How many results a second become durable, while as many are read and let go of as in a node that keeps up, beside plain
//! writes of the same bytes.

mod process;

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use process::{cpu_time, setting};
use sitewatch_actors::publisher::spool::{Id, Limits, RealDisk, Spool};

/// A result as a producer writes it, about.
const RECORD: usize = 600;

fn main() {
    let records = setting("RECORDS", 1_000_000);
    // Not in memory, as /tmp may be.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("{records} records of {RECORD} B, commits with fsync");
    println!(
        "  records a commit   spool/s   p50 ms   p99 ms   CPU µs a record   plain write/s   ratio"
    );
    for batch in [100, 1000, 4000] {
        let (rate, mut times, cpu) = spool(
            &folder.path().join(format!("spool-{batch}")),
            records / 4,
            batch,
        );
        let plain = plain(&folder.path().join("plain"), records / 4, batch);
        times.sort();
        let at =
            |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        println!(
            "  {batch:16}   {rate:7.0}   {:6.1}   {:6.1}   {:15.2}   {plain:13.0}   {:5.2}",
            at(0.5),
            at(0.99),
            cpu.as_secs_f64() * 1e6 / (records / 4) as f64,
            rate / plain
        );
    }
}

fn spool(folder: &Path, records: u64, batch: u64) -> (f64, Vec<Duration>, Duration) {
    let limits = Limits {
        max_bytes: 1 << 40,
        ..Limits::default()
    };
    let (mut spool, _) = Spool::open(RealDisk::open(folder).unwrap(), limits).unwrap();
    let payload = vec![b'x'; RECORD];
    let batch_of: Vec<(&[u8], &[u8])> = vec![(b"https://example.org/", &payload); batch as usize];
    let (begun, cpu) = (Instant::now(), cpu_time(std::process::id()));
    let mut times = Vec::new();
    let mut last: Vec<Id> = Vec::new();
    for _ in 0..records / batch {
        let start = Instant::now();
        let ids = spool.commit(&batch_of, 0).unwrap();
        times.push(start.elapsed());
        for id in std::mem::replace(&mut last, ids) {
            spool.acknowledge(id);
        }
        spool.tidy().unwrap();
    }
    let rate = records as f64 / begun.elapsed().as_secs_f64();
    (rate, times, cpu_time(std::process::id()) - cpu)
}

fn plain(file: &Path, records: u64, batch: u64) -> f64 {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    let bytes = vec![b'x'; (RECORD + 48) * batch as usize];
    let begun = Instant::now();
    for _ in 0..records / batch {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
    }
    records as f64 / begun.elapsed().as_secs_f64()
}
