//! The file that the private PostgreSQL logs to. It is cut when it is long: nobody else looks after it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use sitewatch_actors::private;

use super::folder::unusable;
use crate::exit::Failure;

/// A file of this length is put aside.
const LONGEST: u64 = 4 << 20;

/// The server's log, and the part before it under the same name with `.1`.
pub(super) struct ServerLog {
    path: PathBuf,
}

impl ServerLog {
    pub(super) fn new(home: &Path) -> Self {
        let path = home.join("postgres.log");
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for the server, cut if it is long. Gives its length too.
    ///
    /// # Errors
    /// If it can't be written, or is a symbolic link.
    pub(super) fn open(&self) -> Result<(File, u64), Failure> {
        let opened = private::options()
            .append(true)
            .create(true)
            .open(&self.path)
            .and_then(|file| {
                // A log that can't be cut is no reason against the server; the keeper reports it.
                let _ = self.cut_if_longer(LONGEST);
                let length = file.metadata()?.len();
                Ok((file, length))
            });
        opened.map_err(|error| unusable(&self.path, &error))
    }

    /// Puts what is in it aside if it is long.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn cut_if_long(&self) -> io::Result<()> {
        self.cut_if_longer(LONGEST)
    }

    /// The server goes on writing to the same file, at its end, which is its beginning then. What it writes between both steps is lost.
    fn cut_if_longer(&self, longest: u64) -> io::Result<()> {
        if fs::symlink_metadata(&self.path)?.len() <= longest {
            return Ok(());
        }
        let mut file = private::options().read(true).write(true).open(&self.path)?;
        let aside = self.path.with_extension("log.1");
        let mut before = private::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(aside)?;
        // What is beyond that has no bound, as while the node did not run.
        let skipped = file.metadata()?.len().saturating_sub(2 * longest);
        file.seek(SeekFrom::Start(skipped))?;
        let copied = io::copy(&mut file, &mut before);
        // On a full disk the old part is lost, rather than that the log grows on.
        file.set_len(0)?;
        copied.map(drop)
    }

    /// Returns the end of what the server has logged since the log had this length.
    pub(super) fn said_since(&self, length: u64) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            // The end of it: there stands why the server ended.
            let last = file.metadata()?.len().saturating_sub(4096);
            file.seek(SeekFrom::Start(last.max(length)))?;
            file.take(4096).read_to_end(&mut text)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&text).trim().replace('\n', "; "),
            Err(error) => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_that_grows_for_months_takes_little_room_and_its_end_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = ServerLog::new(folder.path());
        let (mut server, _) = log.open().unwrap();
        for line in 0..10_000 {
            writeln!(server, "line {line}").unwrap();
            log.cut_if_longer(1000).unwrap();
        }
        let before = fs::read_to_string(log.path().with_extension("log.1")).unwrap();
        let now = fs::read_to_string(log.path()).unwrap();
        assert!(before.len() <= 2000 && now.len() <= 1000);
        let lines: Vec<_> = before.lines().chain(now.lines()).collect();
        let last = lines.len() - 1;
        assert!(last > 50, "{lines:?}");
        for (back, line) in lines.iter().rev().enumerate().take(last) {
            assert_eq!(*line, format!("line {}", 9999 - back));
        }
        assert_eq!(log.said_since(now.len() as u64 - 10), "line 9999");
    }
}
