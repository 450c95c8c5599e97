//! The disk under the spool: a folder of files that grow. The real one, and what the spool asks of any.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    mem,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use thiserror::Error;

use super::files::is_of_the_spool;
use crate::{
    folder_lock::{FolderLock, LOCK, LockError, identity},
    private,
};

/// What the spool asks of a disk. Names are those of files in its folder.
pub trait Disk: Send + 'static {
    /// All files with their sizes.
    ///
    /// # Errors
    /// Those of the disk, here and below.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes an empty file that was not there.
    #[allow(missing_docs, reason = "the errors of all are those of the disk")]
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Writes at the end of a file that [`Disk::create`] has made.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's bytes durable.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Makes durable which files there are.
    fn sync_folder(&mut self) -> io::Result<()>;
    /// The whole of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Cuts a file.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Renames a file.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Puts a small file there, as a whole or not at all.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Checks that the lock still keeps other processes out of the folder.
    ///
    /// # Errors
    /// If it does not. Each method above that writes fails then too.
    fn held(&self) -> io::Result<()> {
        Ok(())
    }

    /// Takes the notes on changes that somebody else made to the folder, and on the response, since the last call.
    fn take_notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Why there is no disk.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has the folder.
    #[error(
        "{folder} is in use by process {holder}: two producers can't share a spool; set spool.dir"
    )]
    InUse {
        /// The folder.
        folder: String,
        /// The other process's number, as it wrote it.
        holder: String,
    },
    /// The folder can't be used.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

impl OpenError {
    /// Whether trying again can't help.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// The mode bit of a folder in which each user removes only files of their own.
const STICKY: u32 = 0o1000;

/// How often the lock is tried, and how long it is waited for it between: one who looks from outside has it for an instant.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(10);

fn take(folder: &Path) -> Result<FolderLock, LockError> {
    let holder = std::process::id().to_string();
    for _ in 1..TRIES {
        match FolderLock::try_take(folder, &holder) {
            Err(LockError::Held(_)) => thread::sleep(BETWEEN),
            end => return end,
        }
    }
    FolderLock::try_take(folder, &holder)
}

/// Makes the folder and those above it, so that their names survive a crash.
fn create_durably(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|it| !it.exists()).count();
    private::create_folder(folder, 0o700)?;
    for above in folder.ancestors().skip(1).take(missing) {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// A folder of the file system, held against other processes while this value lives and its lock file is there.
pub struct RealDisk {
    folder: PathBuf,
    lock: FolderLock,
    /// The file that is written.
    open: Option<(String, File)>,
    notes: Vec<String>,
}

impl RealDisk {
    /// Makes the folder if it is not there, and takes it.
    ///
    /// # Errors
    /// If another process has it, or it can't be used.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let trouble = |path: &Path| {
            let path = path.display().to_string();
            |source| OpenError::Io { path, source }
        };
        create_durably(folder).map_err(trouble(folder))?;
        let path = folder.join(LOCK);
        let lock = take(folder).map_err(|error| match error {
            LockError::Held(holder) => OpenError::InUse {
                folder: folder.display().to_string(),
                holder,
            },
            LockError::NoLocks(error) | LockError::Io(error) => trouble(&path)(error),
        })?;
        let mut disk = Self {
            folder: folder.to_owned(),
            lock,
            open: None,
            notes: Vec::new(),
        };
        disk.close_to_others();
        Ok(disk)
    }

    /// Tightens what older versions of the program, or a restored backup, left readable for others.
    fn close_to_others(&mut self) {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let paths = files
            .filter(|entry| is_of_the_spool(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path());
        // A folder in which each user has files of their own, such as /tmp, is not the spool's to close.
        let shared =
            fs::metadata(&self.folder).is_ok_and(|found| found.permissions().mode() & STICKY != 0);
        let folder = (!shared).then(|| self.folder.clone());
        let (mut closed, mut left) = (0, None);
        for path in folder.into_iter().chain(paths) {
            match private::close_to_others(&path) {
                Ok(false) => {}
                Ok(true) => closed += 1,
                // Another one's, or gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => left = Some((path, error)),
            }
        }
        if closed > 0 {
            let what = format!(
                "{closed} of its files, the folder counted, could be read by others; now they are their owner's only"
            );
            self.notes.push(what);
        }
        if let Some((path, error)) = left {
            let path = path.display();
            self.notes.push(format!(
                "{path} can be read by others, and that can't be changed ({error}): its owner should run chmod go-rwx"
            ));
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = private::options()
                .read(true)
                .append(true)
                .open(self.folder.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        self.open
            .as_mut()
            .map(|(_, file)| file)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Checks that the name of the file that is open for writing still leads to that file. Restores a removed file from the open
    /// handle.
    fn find_again(&mut self, name: &str) -> io::Result<()> {
        let Some((_, file)) = self.open.as_mut().filter(|(open, _)| open == name) else {
            return Ok(());
        };
        let path = self.folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if identity(&found) == identity(&file.metadata()?) => return Ok(()),
            Ok(_) => {
                let why = format!("{} was replaced by another file", path.display());
                return Err(io::Error::other(why));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        self.replace(name, &bytes)?;
        self.open = None;
        self.file(name)?.sync_all()?;
        self.sync_folder()?;
        self.notes.push(format!(
            "{name} was removed while it was written, and was put back with its {} bytes",
            bytes.len()
        ));
        Ok(())
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            files.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.metadata()?.len(),
            ));
        }
        Ok(files)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.held()?;
        let file = private::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(self.folder.join(name))?;
        self.open = Some((name.to_owned(), file));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.held()?;
        self.find_again(name)?;
        self.file(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()?;
        // What is in a file that nobody finds any more, or in a folder that is another's, is not stored.
        self.held()?;
        self.find_again(name)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(name))
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.held()?;
        self.file(name)?.set_len(length)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.held()?;
        self.open.take_if(|(open, _)| open == name);
        fs::remove_file(self.folder.join(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.held()?;
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.held()?;
        let new = self.folder.join(format!("{name}.new"));
        let mut file = private::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)?;
        file.write_all(bytes)?;
        fs::rename(new, self.folder.join(name))
    }

    fn held(&self) -> io::Result<()> {
        self.lock.held()
    }

    fn take_notes(&mut self) -> Vec<String> {
        mem::take(&mut self.notes)
    }
}
