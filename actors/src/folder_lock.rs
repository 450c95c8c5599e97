//! A folder that one process has at a time: the kernel's lock on a file in it, which ends with the process.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::private;

/// The file in the folder.
pub const LOCK: &str = "lock";
/// The limit of openings, where another file has the name each time before it is locked.
const TRIES: u32 = 10;
/// The longest text of a holder that is read, in bytes.
const LONGEST_LINE: u64 = 256;

/// The lock of a folder. It keeps other processes out while this value lives and the file is there.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Held open for its lock.
    _file: File,
    identity: (u64, u64),
}

/// Why a folder can't be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process has it: {0}")]
    Held(String),
    /// The file system has no locks.
    #[error("it can't be locked: {0}")]
    NoLocks(io::Error),
    /// The file can't be used.
    #[error(transparent)]
    Io(io::Error),
}

/// Identifies a file, whatever its name: device and inode.
pub(crate) fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

impl FolderLock {
    /// Locks the folder if no other process has it. Others read `holder` in the file.
    ///
    /// # Errors
    /// If another process has it: what that one has written. If the file is a symbolic link, can't be made or can't be locked.
    pub fn try_take(folder: &Path, holder: &str) -> Result<Self, LockError> {
        let path = folder.join(LOCK);
        for _ in 0..TRIES {
            let mut file = open(&path).map_err(LockError::Io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held(read(&file).map_err(LockError::Io)?));
                }
                Err(TryLockError::Error(error)) => return Err(LockError::NoLocks(error)),
            }
            let identity = identity(&file.metadata().map_err(LockError::Io)?);
            // Removed or replaced between opening and locking: another process may have a lock of its own.
            if !leads_to(&path, identity) {
                continue;
            }
            // Only for the message of others: on a full disk it is left out.
            let _ = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{holder}"));
            return Ok(Self {
                path,
                _file: file,
                identity,
            });
        }
        let why = format!("{} is replaced again and again", path.display());
        Err(LockError::Io(io::Error::other(why)))
    }

    /// Checks that the lock still keeps other processes out.
    ///
    /// # Errors
    /// If another file, or none, has its name.
    pub fn held(&self) -> io::Result<()> {
        let why = match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => return Ok(()),
            Ok(_) => "is another file than the one that this process has locked".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => format!("can't be looked at ({error})"),
        };
        Err(io::Error::other(format!("{} {why}", self.path.display())))
    }
}

fn open(path: &Path) -> io::Result<File> {
    private::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}

fn read(file: &File) -> io::Result<String> {
    let mut line = Vec::new();
    file.take(LONGEST_LINE).read_to_end(&mut line)?;
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

fn leads_to(path: &Path, to: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| identity(&found) == to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_others_are_told_which() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::try_take(folder.path(), "17 report").unwrap();
        let second = FolderLock::try_take(folder.path(), "18 audit").unwrap_err();
        assert!(
            matches!(&second, LockError::Held(line) if line == "17 report"),
            "{second}"
        );
        drop(first);
        let third = FolderLock::try_take(folder.path(), "19").unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join(LOCK)).unwrap(),
            "19\n"
        );
        fs::remove_file(folder.path().join(LOCK)).unwrap();
        assert!(
            third
                .held()
                .unwrap_err()
                .to_string()
                .contains("was removed")
        );
    }

    #[test]
    fn of_many_that_replace_the_file_meanwhile_one_at_a_time_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, inside) = (folder.path(), std::sync::Mutex::new(()));
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(300);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while std::time::Instant::now() < deadline {
                        if let Ok(lock) = FolderLock::try_take(folder, "") {
                            let alone = inside.try_lock().expect("two have it");
                            std::thread::yield_now();
                            drop(alone);
                            // Others have it open already.
                            fs::remove_file(folder.join(LOCK)).unwrap();
                            drop(lock);
                        }
                    }
                });
            }
        });
    }
}
