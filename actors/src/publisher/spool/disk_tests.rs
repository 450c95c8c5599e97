use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    Disk as _, RealDisk,
    tests::{all, commit, newest, real},
};

#[test]
fn without_its_lock_file_a_disk_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::open(folder.path()).unwrap();
    disk.create("a.spool").unwrap();
    disk.append("a.spool", b"one").unwrap();
    assert!(disk.held().is_ok());
    fs::remove_file(folder.path().join("lock")).unwrap();
    // Also where another process has a lock of its own by now.
    for other in [None, Some(RealDisk::open(folder.path()).unwrap())] {
        let refusals = [
            disk.held(),
            disk.append("a.spool", b"two"),
            disk.sync("a.spool"),
            disk.create("b.spool"),
            disk.truncate("a.spool", 0),
            disk.rename("a.spool", "b.spool"),
            disk.replace("acknowledged", b"x"),
            disk.remove("a.spool"),
        ];
        for (n, refusal) in refusals.into_iter().enumerate() {
            let why = refusal.unwrap_err().to_string();
            assert!(why.contains("lock"), "{n}: {why}");
        }
        drop(other);
    }
    assert_eq!(fs::read(folder.path().join("a.spool")).unwrap(), b"one");
    drop(disk);
    assert!(RealDisk::open(folder.path()).is_ok());
}

#[test]
fn a_segment_that_is_removed_while_it_is_written_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = real(folder.path());
    // The folder of the test itself may be open to others.
    drop(spool.take_notes());
    commit(&mut spool, &["a", "b"]);
    fs::remove_file(newest(folder.path())).unwrap();
    commit(&mut spool, &["c"]);
    let notes = spool.take_notes();
    assert!(
        notes.len() == 1 && notes[0].contains("was put back"),
        "{notes:?}"
    );
    drop(spool);
    let (mut spool, opened) = real(folder.path());
    assert_eq!((opened.results, opened.torn_bytes), (3, 0));
    assert_eq!(all(&mut spool), ["a", "b", "c"]);

    // Another file of its name is somebody's, and is not written to.
    commit(&mut spool, &["d"]);
    let file = newest(folder.path());
    fs::remove_file(&file).unwrap();
    fs::write(&file, "another's").unwrap();
    let error = spool.commit(&[(b"key", b"e")], 0).unwrap_err().to_string();
    assert!(error.contains("replaced"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"another's");
    // The next one goes to a segment of its own.
    commit(&mut spool, &["f"]);
    assert_ne!(newest(folder.path()), file);
}

#[test]
fn all_files_are_their_owners_only_also_those_that_were_not() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("data/spool");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (mut spool, _) = real(&folder);
    let ids = commit(&mut spool, &["a", "b"]);
    spool.acknowledge(ids[0]);
    spool.tidy().unwrap();
    assert_eq!(
        (mode(&folder), mode(folder.parent().unwrap()) & 0o022),
        (0o700, 0)
    );
    let files = || {
        fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .map(|file| file.path())
    };
    assert_eq!(files().count(), 3, "the lock, the checkpoint, a segment");
    for file in files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert!(spool.take_notes().is_empty());
    drop(spool);
    let (mut spool, _) = real(&folder);
    assert!(files().all(|file| mode(&file) == 0o600));
    let notes = spool.take_notes();
    assert!(
        notes.len() == 1 && notes[0].starts_with("3 of its files"),
        "{notes:?}"
    );
}
