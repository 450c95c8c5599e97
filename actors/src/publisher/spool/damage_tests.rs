//! Damage in places that hurt: at the end of a segment, in kept files, and a disk that fails for a moment.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{
    files::{CHECKPOINT, DAMAGED, SEGMENT, name},
    segment::HEADER,
    tests::{SMALL, all, commit},
    *,
};

const START: Id = Id {
    segment: 0,
    index: 0,
};

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "spool"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_torn_tail_stays_one_when_segments_follow_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Spool::open(RealDisk::open(folder.path()).unwrap(), SMALL).unwrap();
    let (mut spool, _) = open();
    commit(&mut spool, &["a", "b"]);
    drop(spool);
    let file = segments(folder.path()).pop().unwrap();
    let length = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(length - 3)
        .unwrap();
    let (mut spool, opened) = open();
    assert!(opened.torn_bytes > 0 && opened.damage.is_empty());
    commit(&mut spool, &["c"]);
    drop(spool);
    let (mut spool, opened) = open();
    assert_eq!((opened.torn_bytes, opened.damage), (0, vec![]));
    assert_eq!(all(&mut spool), ["a", "c"]);
    assert_eq!(inspect(folder.path()).unwrap().damage, vec![]);
}

#[test]
fn damage_of_the_last_record_that_kafka_has_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Spool::open(RealDisk::open(folder.path()).unwrap(), SMALL).unwrap();
    let (mut spool, _) = open();
    let ids = commit(&mut spool, &["a", "b", "c"]);
    spool.acknowledge(ids[1]);
    spool.acknowledge(ids[2]);
    spool.tidy().unwrap();
    drop(spool);
    let file = segments(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (mut spool, opened) = open();
    assert_eq!((opened.results, spool.waiting()), (1, 1));
    spool.tidy().unwrap();
    assert_eq!(all(&mut spool), ["a"]);
}

const EIO: i32 = 5;
const EMFILE: i32 = 24;

#[test]
fn too_many_open_files_cost_no_result() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = Spool::open(disk.clone(), SMALL).unwrap();
    commit(&mut spool, &["a", "b"]);
    disk.fail_next(DiskFault::Read(EMFILE));
    assert!(spool.read(START, None, Most::ALL).is_err());
    assert_eq!((spool.take_damage(), spool.waiting()), (vec![], 2));
    // At a start too. The first read is that of the checkpoint.
    disk.fail_next(DiskFault::Read(EMFILE));
    let error = Spool::open(disk.clone(), SMALL).err().unwrap();
    assert!(error.to_string().contains(CHECKPOINT), "{error}");
    spool.tidy().unwrap();
    assert_eq!(all(&mut spool), ["a", "b"]);
}

#[test]
fn a_segment_that_cannot_be_read_is_set_aside_and_counted() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = Spool::open(disk.clone(), SMALL).unwrap();
    commit(&mut spool, &["a", "b"]);
    let bytes = spool.bytes();
    disk.fail_next(DiskFault::Read(EIO));
    assert_eq!(all(&mut spool), [""; 0]);
    assert_eq!(spool.take_damage().len(), 1);
    assert_eq!((spool.waiting(), spool.bytes()), (0, bytes));
    commit(&mut spool, &["c"]);
    disk.fail_next(DiskFault::Read(EIO));
    disk.fail_next(DiskFault::Read(EIO));
    let (spool, opened) = Spool::open(disk.clone(), SMALL).unwrap();
    assert_eq!(opened.damage.len(), 1);
    let files = disk.list().unwrap();
    let kept = files.iter().filter(|(name, _)| name.ends_with(DAMAGED));
    assert_eq!(spool.bytes(), kept.map(|(_, bytes)| bytes).sum::<u64>());
}

#[test]
fn damaged_files_that_are_kept_do_not_fill_the_spool() {
    let disk = MemoryDisk::new();
    let limits = Limits {
        max_bytes: 2000,
        segment_bytes: 400,
    };
    let payload = "x".repeat(300);
    for round in 0..12 {
        let (mut spool, _) = Spool::open(disk.clone(), limits).unwrap();
        let ids = match spool.commit(&[(b"key", payload.as_bytes()), (b"key", b"b")], 5) {
            Ok(ids) => ids,
            Err(error) => panic!("round {round}, nothing waits: {error}"),
        };
        disk.flip(SEGMENT, &mut || 100);
        all(&mut spool);
        ids.into_iter().for_each(|id| spool.acknowledge(id));
        drop(spool);
        let (mut spool, _) = Spool::open(disk.clone(), limits).unwrap();
        let (entries, _) = spool.read(START, None, Most::ALL).unwrap();
        entries.iter().for_each(|entry| spool.acknowledge(entry.id));
        spool.tidy().unwrap();
    }
}

#[test]
fn damage_before_what_a_failed_commit_left_is_met() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = Spool::open(disk.clone(), SMALL).unwrap();
    commit(&mut spool, &["a", "b", "c"]);
    // Written as a whole, but not durable, and it could not be cut off.
    let mut left = Vec::new();
    segment::encode(&mut left, 3, 5, b"key", b"in doubt");
    disk.clone().append(&name(0), &left).unwrap();
    disk.flip(SEGMENT, &mut || HEADER as u64 + 20);
    assert_eq!(all(&mut spool), ["b", "c"]);
    assert_eq!((spool.take_damage().len(), spool.waiting()), (1, 2));
}

#[test]
fn what_a_failed_commit_left_is_cut_off_when_the_disk_lets_it_and_is_no_damage() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = Spool::open(disk.clone(), SMALL).unwrap();
    commit(&mut spool, &["a"]);
    disk.fail_next(DiskFault::ShortWrite);
    disk.fail_next(DiskFault::Truncate);
    spool.commit(&[(b"key", b"half")], 5).unwrap_err();
    spool.tidy().unwrap();
    commit(&mut spool, &["b"]);
    let (mut spool, opened) = Spool::open(disk, SMALL).unwrap();
    assert_eq!(opened.damage, []);
    assert_eq!(all(&mut spool), ["a", "b"]);
}

#[test]
fn a_look_from_outside_keeps_no_producer_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    drop(RealDisk::open(folder.path()).unwrap());
    let stop = AtomicBool::new(false);
    let refused = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                inspect(folder.path()).unwrap();
            }
        });
        let refused = (0..300)
            .filter(|_| RealDisk::open(folder.path()).is_err())
            .count();
        stop.store(true, Ordering::Relaxed);
        refused
    });
    assert_eq!(refused, 0);
}

#[test]
fn a_segment_of_another_format_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Spool::open(RealDisk::open(folder.path()).unwrap(), SMALL);
    let (mut spool, _) = open().unwrap();
    commit(&mut spool, &["a"]);
    drop(spool);
    let later = folder.path().join("00000000000000000001.spool2");
    fs::write(&later, b"records of another kind").unwrap();
    let problems = [
        open().err().unwrap().to_string(),
        inspect(folder.path()).err().unwrap().to_string(),
    ];
    for problem in problems {
        assert!(
            problem.contains("00000000000000000001.spool2")
                && problem.contains("format 2, this one reads 1"),
            "{problem}"
        );
    }
    fs::remove_file(&later).unwrap();
    assert_eq!(open().unwrap().1.results, 1);
}
