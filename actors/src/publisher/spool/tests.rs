use std::{collections::BTreeMap, fs, path::Path};

use proptest::prelude::*;

use super::{
    files::{SEGMENT, number},
    segment::HEADER,
    *,
};

pub(super) const SMALL: Limits = Limits {
    max_bytes: 1 << 20,
    segment_bytes: 400,
};

pub(super) fn commit<D: Disk>(spool: &mut Spool<D>, payloads: &[&str]) -> Vec<Id> {
    let records: Vec<(&[u8], &[u8])> = payloads
        .iter()
        .map(|payload| (&b"key"[..], payload.as_bytes()))
        .collect();
    spool.commit(&records, 5).unwrap()
}

pub(super) fn all<D: Disk>(spool: &mut Spool<D>) -> Vec<String> {
    let from = Id {
        segment: 0,
        index: 0,
    };
    let (entries, next) = spool.read(from, None, Most::ALL).unwrap();
    assert_eq!(next, None);
    let text = |entry: Entry| String::from_utf8(entry.payload.into_vec()).unwrap();
    entries.into_iter().map(text).collect()
}

pub(super) fn real(folder: &Path) -> (Spool<RealDisk>, Opened) {
    Spool::open(RealDisk::open(folder).unwrap(), SMALL).unwrap()
}

pub(super) fn newest(folder: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "spool"))
        .collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_what_kafka_has_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = real(folder.path());
    let ids = commit(&mut spool, &["a", "b", "c"]);
    spool.acknowledge(ids[1]);
    spool.tidy().unwrap();
    drop(spool);
    let (mut spool, opened) = real(folder.path());
    assert_eq!(
        (opened.results, opened.torn_bytes, opened.damage),
        (2, 0, vec![])
    );
    assert_eq!(all(&mut spool), ["a", "c"]);
    for id in &ids {
        spool.acknowledge(*id);
    }
    spool.tidy().unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert!(
        files
            .iter()
            .all(|file| !file.file_name().to_string_lossy().ends_with(SEGMENT))
    );
    let more = commit(&mut spool, &["d"]);
    assert!(more[0].segment > ids[0].segment, "no number is used twice");
}

#[test]
fn a_torn_tail_is_told_and_costs_what_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = real(folder.path());
    commit(&mut spool, &["a", "b"]);
    drop(spool);
    let file = newest(folder.path());
    let length = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(length - 3)
        .unwrap();
    let (mut spool, opened) = real(folder.path());
    assert_eq!((opened.results, opened.damage.len()), (1, 0));
    assert_eq!(opened.torn_bytes, segment::size(b"key", b"b") - 3);
    assert_eq!(all(&mut spool), ["a"]);
}

#[test]
fn a_flipped_byte_is_told_and_costs_one_record_and_the_file_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = real(folder.path());
    commit(&mut spool, &["a", "b", "c"]);
    drop(spool);
    let file = newest(folder.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[HEADER + segment::size(b"key", b"a") as usize + 14] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (mut spool, opened) = real(folder.path());
    assert_eq!((opened.results, opened.torn_bytes), (2, 0));
    assert_eq!(
        opened.damage[0].offset,
        HEADER as u64 + segment::size(b"key", b"a")
    );
    assert_eq!(all(&mut spool), ["a", "c"]);
    for index in 0..3 {
        spool.acknowledge(Id {
            segment: opened_segment(&file),
            index,
        });
    }
    spool.tidy().unwrap();
    let inspected = inspect(folder.path()).unwrap();
    assert_eq!((inspected.segments, inspected.damaged_segments), (0, 1));
    assert!(spool.bytes() > 0, "what is kept counts");
}

fn opened_segment(file: &Path) -> u64 {
    number(&file.file_name().unwrap().to_string_lossy(), SEGMENT).unwrap()
}

#[test]
fn damage_that_comes_while_it_is_open_is_met_when_it_is_read() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = Spool::open(disk.clone(), SMALL).unwrap();
    commit(&mut spool, &["a", "b", "c"]);
    let last = HEADER as u64 + 2 * segment::size(b"key", b"a");
    disk.flip(SEGMENT, &mut || last + 20);
    assert_eq!(all(&mut spool), ["a", "b"]);
    assert_eq!(spool.take_damage()[0].offset, last);
    assert_eq!(
        (all(&mut spool).len(), spool.take_damage().len()),
        (2, 0),
        "told once"
    );
    assert_eq!(spool.waiting(), 2);
}

#[test]
fn only_one_process_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = RealDisk::open(folder.path()).unwrap();
    let second = RealDisk::open(folder.path()).err().unwrap();
    assert!(second.is_final());
    let me = format!("process {}", std::process::id());
    assert!(second.to_string().contains(&me), "{second}");
    let holder = inspect(folder.path()).unwrap().holder;
    assert_eq!(holder, Some(std::process::id().to_string()));
    drop(first);
    assert!(RealDisk::open(folder.path()).is_ok());
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let error = RealDisk::open(&file.join("spool")).err().unwrap();
    assert!(
        !error.is_final() && error.to_string().contains("spool"),
        "{error}"
    );
}

#[test]
fn it_is_full_at_its_limit_and_the_oldest_can_make_room() {
    let limits = Limits {
        max_bytes: 2000,
        segment_bytes: 400,
    };
    let (mut spool, _) = Spool::open(MemoryDisk::new(), limits).unwrap();
    let payload = "x".repeat(100);
    let mut count = 0;
    let (needed, room) = loop {
        match spool.commit(&[(b"k", payload.as_bytes())], 5) {
            Ok(_) => count += 1,
            Err(CommitError::Full { needed, room }) => break (needed, room),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(needed > room && spool.bytes() <= 2000);
    let dropped = spool.drop_oldest(needed - room);
    assert!(dropped.results > 0);
    assert_eq!(spool.waiting(), count - dropped.results);
    commit(&mut spool, &["fits now"]);
}

#[test]
fn a_failed_write_or_sync_counts_for_nothing_and_the_next_commit_works() {
    for fault in [
        DiskFault::Write(io::ErrorKind::StorageFull),
        DiskFault::Write(io::ErrorKind::ReadOnlyFilesystem),
        DiskFault::ShortWrite,
        DiskFault::Sync,
    ] {
        let disk = MemoryDisk::new();
        let (mut spool, _) = Spool::open(disk.clone(), SMALL).unwrap();
        commit(&mut spool, &["a"]);
        disk.fail_next(fault);
        let error = spool.commit(&[(b"k", b"lost")], 5).unwrap_err();
        assert!(matches!(error, CommitError::Io { .. }), "{error}");
        commit(&mut spool, &["b"]);
        assert_eq!(all(&mut spool), ["a", "b"], "{fault:?}");
        let (mut spool, opened) = Spool::open(disk, SMALL).unwrap();
        assert_eq!(opened.damage, [], "{fault:?}");
        assert_eq!(all(&mut spool), ["a", "b"], "{fault:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(u8),
    Fail(u8),
    Acknowledge(u8),
    Tidy,
    Read(u8),
    Reopen,
    Crash(u64),
    /// The machine crashes amid a commit of so many.
    Torn(u8, u64),
}

fn random(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..6).prop_map(Step::Commit),
        1 => (0u8..4).prop_map(Step::Fail),
        4 => any::<u8>().prop_map(Step::Acknowledge),
        2 => Just(Step::Tidy),
        2 => any::<u8>().prop_map(Step::Read),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::Crash),
        2 => (1u8..6, any::<u64>()).prop_map(|(count, seed)| Step::Torn(count, seed)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Whatever happens: what was committed and not acknowledged is there, byte for byte, in order; nothing else is but what
    /// was acknowledged (a crash may forget that) or what a failed commit left.
    #[test]
    fn what_is_committed_is_kept_over_any_number_of_crashes(steps in prop::collection::vec(step(), 1..60)) {
        let disk = MemoryDisk::new();
        let (mut spool, _) = Spool::open(disk.clone(), SMALL).unwrap();
        let mut kept: BTreeMap<Id, String> = BTreeMap::new();
        let mut acknowledged: Vec<String> = Vec::new();
        let mut failed: Vec<String> = Vec::new();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Commit(count) | Step::Torn(count, _) => {
                    let torn = matches!(step, Step::Torn(..));
                    disk.lie_about_sync(torn);
                    let payloads: Vec<String> = (0..count).map(|_| { number += 1; format!("result {number}") }).collect();
                    let records: Vec<(&[u8], &[u8])> = payloads.iter().map(|it| (&b"k"[..], it.as_bytes())).collect();
                    match spool.commit(&records, 5) {
                        Ok(ids) if !torn => kept.extend(ids.into_iter().zip(payloads)),
                        _ => failed.extend(payloads),
                    }
                    if let Step::Torn(_, seed) = step {
                        disk.lie_about_sync(false);
                        drop(spool);
                        disk.crash(&mut random(seed));
                        spool = Spool::open(disk.clone(), SMALL).unwrap().0;
                    }
                }
                Step::Fail(kind) => disk.fail_next([
                    DiskFault::Write(io::ErrorKind::StorageFull), DiskFault::ShortWrite, DiskFault::Sync,
                    DiskFault::Write(io::ErrorKind::Other),
                ][kind as usize]),
                Step::Acknowledge(which) => {
                    let ids: Vec<Id> = kept.keys().copied().collect();
                    if let Some(id) = ids.get(which as usize % ids.len().max(1)) {
                        spool.acknowledge(*id);
                        acknowledged.extend(kept.remove(id));
                    }
                }
                // A fault that was to hit something else may hit this.
                Step::Tidy => drop(spool.tidy()),
                Step::Read(bytes) => {
                    let mut from = Id { segment: 0, index: 0 };
                    let mut read = Vec::new();
                    loop {
                        let most = Most { records: 1 + bytes as usize / 7, bytes: bytes as usize };
                        let (entries, next) = spool.read(from, None, most).unwrap();
                        read.extend(entries.into_iter().map(|it| it.id));
                        match next { Some(next) => from = next, None => break }
                    }
                    prop_assert!(read.is_sorted());
                    prop_assert!(kept.keys().all(|id| read.contains(id)));
                }
                Step::Reopen | Step::Crash(_) => {
                    drop(spool);
                    if let Step::Crash(seed) = step {
                        disk.crash(&mut random(seed));
                    }
                    let (opened, told) = Spool::open(disk.clone(), SMALL).unwrap();
                    spool = opened;
                    prop_assert_eq!(told.results, spool.waiting());
                }
            }
            let (entries, _) = spool.read(Id { segment: 0, index: 0 }, None, Most::ALL).unwrap();
            let there: BTreeMap<Id, String> =
                entries.into_iter().map(|it| (it.id, String::from_utf8(it.payload.into_vec()).unwrap())).collect();
            for (id, payload) in &kept {
                prop_assert_eq!(there.get(id), Some(payload));
            }
            for (id, payload) in &there {
                prop_assert!(kept.get(id) == Some(payload) || acknowledged.contains(payload) || failed.contains(payload));
            }
            prop_assert_eq!(spool.waiting() as usize, there.len());
            prop_assert!(spool.first().is_none_or(|first| there.keys().next() == Some(&first)));
            prop_assert!(there.keys().all(|id| *id < spool.end()));
        }
    }
}
