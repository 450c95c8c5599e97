//! The disk under the spool: a folder of files that grow. The real one, and what the spool asks of any.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use thiserror::Error;

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

/// The file that keeps other processes away.
pub(super) const LOCK: &str = "lock";

/// How often the lock is tried, and how long it is waited for it between: one who looks from outside has it for an instant.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(10);

fn take(lock: &File) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(BETWEEN),
            end => return end,
        }
    }
    lock.try_lock()
}

/// Makes the folder and those above it, so that their names survive a crash.
fn create_durably(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|it| !it.exists()).count();
    fs::create_dir_all(folder)?;
    for above in folder.ancestors().skip(1).take(missing) {
        let above = match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        };
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// A folder of the file system, held against other processes while this value lives.
pub struct RealDisk {
    folder: PathBuf,
    /// Held open for its lock.
    _lock: File,
    /// The file that is written.
    open: Option<(String, File)>,
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
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(trouble(&path))?;
        match take(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message.
                let _ = lock.read_to_string(&mut holder);
                return Err(OpenError::InUse {
                    folder: folder.display().to_string(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(trouble(&path)(error)),
        }
        // Only for the message of others: on a full disk it is left out.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
            open: None,
        })
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new()
                .append(true)
                .open(self.folder.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        self.open
            .as_mut()
            .map(|(_, file)| file)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
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
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(self.folder.join(name))?;
        self.open = Some((name.to_owned(), file));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(name))
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.take_if(|(open, _)| open == name);
        fs::remove_file(self.folder.join(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.folder.join(format!("{name}.new"));
        fs::write(&new, bytes)?;
        fs::rename(new, self.folder.join(name))
    }
}
