//! The folder `node.data_dir`: whose it is, and which process has it.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::Instant;

use super::users::{self, User};
use crate::exit::Failure;

/// The file whose lock says that a process has the folder. The lock is the kernel's: it ends with the process.
const LOCK: &str = "lock";
/// A command has the folder for as long as it works. Others wait for it that long.
const PATIENCE: Duration = Duration::from_secs(30);
/// A process that has just taken the lock writes its name into the file within this time.
const INTRODUCTION: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(20);
/// What a process that keeps the folder until its end calls itself in the lock file.
pub(super) const STANDALONE: &str = "--role standalone";

/// The folder, held against other processes while this value lives.
pub(super) struct DataDir {
    /// Absolute and without symbolic links, so that all ways to the folder give the same path.
    pub(super) path: PathBuf,
    /// Held open for its lock.
    _lock: File,
}

/// A process that has the folder.
pub(super) struct Holder {
    /// Its number; empty if it has not written it.
    pub(super) process: String,
    /// What it does: a role or a command.
    purpose: String,
}

/// The end of an attempt to take the folder.
pub(super) enum Taken {
    /// This process has it.
    Ours(DataDir),
    /// A running standalone has it.
    Standalone(Holder),
}

impl DataDir {
    /// Makes the folder if it is not there, and takes it. Waits for a command that has it; a standalone keeps it until its
    /// end, so that one is reported at once.
    ///
    /// # Errors
    /// If the folder belongs to another user, can't be written, or can't be locked, or a command keeps it for too long.
    pub(super) async fn take(path: &Path, purpose: &str) -> Result<Taken, Failure> {
        make(path).map_err(|error| unusable(path, &error))?;
        let path = fs::canonicalize(path).map_err(|error| unusable(path, &error))?;
        refuse_foreign(&path)?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&file)
            .map_err(|error| unusable(&file, &error))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(no_locks(&file, &error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = Holder::read(&mut lock).map_err(|error| unusable(&file, &error))?;
            let waited = begun.elapsed();
            if holder.purpose == STANDALONE && (holder.lives() || waited > INTRODUCTION) {
                return Ok(Taken::Standalone(holder));
            }
            if waited > PATIENCE {
                return Err(holder.in_use(&path));
            }
            tokio::time::sleep(BETWEEN).await;
        }
        let line = format!("{} {purpose}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(line.as_bytes()))
            .map_err(|error| unusable(&file, &error))?;
        Ok(Taken::Ours(Self { path, _lock: lock }))
    }
}

impl Holder {
    fn read(lock: &mut File) -> io::Result<Self> {
        let mut line = String::new();
        lock.rewind()?;
        lock.take(256).read_to_string(&mut line)?;
        let (process, purpose) = line.trim().split_once(' ').unwrap_or_default();
        Ok(Self {
            process: process.to_owned(),
            purpose: purpose.to_owned(),
        })
    }

    /// The line is left over from a killed process until the new holder has written its own.
    fn lives(&self) -> bool {
        !self.process.is_empty() && Path::new("/proc").join(&self.process).exists()
    }

    /// The error for a process that wanted the folder.
    pub(super) fn in_use(&self, path: &Path) -> Failure {
        let Self { process, purpose } = self;
        Failure::unavailable(format!(
            "{} is in use by process {process} ({purpose}): end that one first (kill {process}), or give this one a folder of \
             its own (node.data_dir)",
            path.display()
        ))
    }
}

/// Makes the folder, for this user only. The user whom root runs PostgreSQL as has to pass through it.
fn make(path: &Path) -> io::Result<()> {
    let mode = if users::is_root() { 0o711 } else { 0o700 };
    let path = std::path::absolute(path)?;
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(mode).create(&path) {
        // The umask may have taken away more than was meant.
        Ok(()) => fs::set_permissions(&path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refuses a folder in which another user could replace files under this process.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    let found = fs::symlink_metadata(path).map_err(|error| unusable(path, &error))?;
    let ours = users::ourselves();
    let shown = path.display();
    if !found.is_dir() {
        return Err(Failure::config(format!(
            "{shown} is no folder: node.data_dir must name one, or a place where one can be made"
        )));
    }
    // An earlier version gave the folder to the user whom root runs PostgreSQL as, and kept a password in it. Another folder of that
    // user's is not root's to take: a node may run as that user.
    let earlier = path.join("password").exists() && path.join("postgres/PG_VERSION").exists();
    if ours == 0 && earlier && User::server_users().any(|user| user.uid == found.uid()) {
        return reclaim(path);
    }
    if ![0, ours].contains(&found.uid()) {
        return Err(Failure::config(format!(
            "{shown} belongs to user {}, this process runs as user {ours}: run it as that user, or set node.data_dir",
            found.uid()
        )));
    }
    refuse_writable(path, &found, 0o002)
}

/// Refuses what others than its owner can write.
pub(super) fn refuse_writable(path: &Path, found: &Metadata, mask: u32) -> Result<(), Failure> {
    let mode = found.mode() & 0o7777;
    if mode & mask == 0 {
        return Ok(());
    }
    let shown = path.display();
    Err(Failure::config(format!(
        "{shown} has mode {mode:o}, so other users can put files there: run chmod {:o} {shown}",
        mode & !mask & 0o777
    )))
}

/// Takes a folder of the server's user back for root. All by the open folder, so that the server's user can't put a symbolic
/// link in its place meanwhile.
pub(super) fn reclaim(path: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow() | OFlags::DIRECTORY.bits().cast_signed())
        .open(path)
        .map_err(|error| unusable(path, &error))?;
    std::os::unix::fs::fchown(&opened, Some(0), Some(0))
        .and_then(|()| opened.set_permissions(Permissions::from_mode(0o711)))
        .map_err(|error| unusable(path, &error))
}

/// The flag for opening a file that must not be a symbolic link.
pub(super) fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// The error for a path of the folder that the system refuses.
pub(super) fn unusable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "this process runs as user {}: run it as the owner, or set node.data_dir",
            users::ourselves()
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            "set node.data_dir to a folder that can be written".to_owned()
        }
        io::ErrorKind::StorageFull => "make room, or set node.data_dir to another disk".to_owned(),
        _ => "see node.data_dir".to_owned(),
    };
    Failure::io(format!("{shown}: {error}: {advice}"))
}

fn no_locks(file: &Path, error: &io::Error) -> Failure {
    Failure::io(format!(
        "{} can't be locked ({error}): node.data_dir must be on a file system with locks, such as a local disk",
        file.display()
    ))
}
