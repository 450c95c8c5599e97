//! The folder `node.data_dir`: whose it is, and which process has it.

use std::{
    fs::{self, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use sitewatch_actors::{
    folder_lock::{FolderLock, LOCK, LockError},
    private,
};
use tokio::time::Instant;

use super::users::{self, User};
use crate::exit::Failure;

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
    _lock: FolderLock,
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
        let path = std::path::absolute(path).map_err(|error| unusable(path, &error))?;
        // The user whom root runs PostgreSQL as has to pass through it.
        let mode = if users::is_root() { 0o711 } else { 0o700 };
        private::create_folder(&path, mode).map_err(|error| unusable(&path, &error))?;
        let path = fs::canonicalize(&path).map_err(|error| unusable(&path, &error))?;
        refuse_foreign(&path)?;
        let file = path.join(LOCK);
        let line = format!("{} {purpose}", std::process::id());
        let begun = Instant::now();
        loop {
            let holder = match FolderLock::try_take(&path, &line) {
                Ok(lock) => return Ok(Taken::Ours(Self { path, _lock: lock })),
                Err(LockError::Held(line)) => Holder::read(&line),
                Err(LockError::NoLocks(error)) => return Err(no_locks(&file, &error)),
                Err(LockError::Io(error)) => return Err(unusable(&file, &error)),
            };
            let waited = begun.elapsed();
            if holder.purpose == STANDALONE && (holder.lives() || waited > INTRODUCTION) {
                return Ok(Taken::Standalone(holder));
            }
            if waited > PATIENCE {
                return Err(holder.in_use(&path));
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }
}

impl Holder {
    fn read(line: &str) -> Self {
        let (process, purpose) = line.split_once(' ').unwrap_or_default();
        Self {
            process: process.to_owned(),
            purpose: purpose.to_owned(),
        }
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
    // Where the system gives each user a group of their own, umask 002 is usual, so that folders are 0775; nobody else is in that group.
    // The members of any other group could put files there. The sticky bit does not help: it keeps them from removing files of this
    // process, and not from making one before it does, such as the one that says where the database is.
    let ours_alone = found.mode() & 0o022 == 0o020 && User::has_to_itself(found.uid(), found.gid());
    refuse_rights(path, &found, if ours_alone { 0o002 } else { 0o022 })
}

/// Refuses what others than its owner have these rights on.
pub(super) fn refuse_rights(path: &Path, found: &Metadata, refused: u32) -> Result<(), Failure> {
    let mode = found.mode() & 0o7777;
    if mode & refused == 0 {
        return Ok(());
    }
    let shown = path.display();
    let can = if mode & refused & 0o022 == 0 {
        "read what is in it"
    } else {
        "change it"
    };
    Err(Failure::config(format!(
        "{shown} has mode {mode:o}, so other users can {can}: run chmod {:o} {shown}",
        mode & !refused & 0o777
    )))
}

/// Takes a folder of the server's user back for root. All by the open folder, so that the server's user can't put a symbolic
/// link in its place meanwhile.
pub(super) fn reclaim(path: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::DIRECTORY).bits().cast_signed())
        .open(path)
        .map_err(|error| unusable(path, &error))?;
    std::os::unix::fs::fchown(&opened, Some(0), Some(0))
        .and_then(|()| opened.set_permissions(Permissions::from_mode(0o711)))
        .map_err(|error| unusable(path, &error))
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
        // Something else has the name: a file, or a link that leads nowhere.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            return Failure::io(format!(
                "{shown} is not a folder: remove it, or set node.data_dir to a folder"
            ));
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
