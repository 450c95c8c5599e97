//! Messages that Kafka will never take: kept in a file beside the spool, a line of JSON each, until somebody sends them again or throws
//! them away.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::spool::{CommitError, Limits, OpenError, RealDisk, Spool};
use crate::private;

/// The file of messages that Kafka will never take.
pub(super) const REFUSED: &str = "refused.jsonl";
/// The one before it. Together they keep the last of them, and no disk fills up with what never arrives.
const REFUSED_BEFORE: &str = "refused.1.jsonl";
/// How long the file becomes, in bytes.
const REFUSED_BYTES: u64 = 16 << 20;
/// What is put back at once, in bytes.
const PART: usize = 1 << 20;

/// A message that Kafka will never take, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// What Kafka said.
    pub reason: String,
    /// The site's name, which is the message's key.
    pub site: String,
    /// The message.
    pub message: String,
}

/// What was set aside, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllSetAside {
    /// The messages.
    pub messages: Vec<SetAside>,
    /// Lines that are none, as a crash leaves one.
    pub unreadable: u64,
}

/// Why what was set aside can't be taken out of its file.
#[derive(Debug, Error)]
pub enum TakeOutError {
    /// The spool belongs to a process, or can't be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The spool's segments, or the file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The spool does not take it.
    #[error("{0}")]
    Commit(#[from] CommitError),
}

/// Reads what was set aside in a spool's folder, also while a producer runs.
///
/// # Errors
/// If a file is there that can't be read.
pub fn set_aside_in(folder: &Path) -> io::Result<AllSetAside> {
    let mut all = AllSetAside::default();
    for file in [REFUSED_BEFORE, REFUSED] {
        let text = match fs::read(folder.join(file)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|it| !it.is_empty())
        {
            match serde_json::from_slice(line) {
                Ok(message) => all.messages.push(message),
                Err(_) => all.unreadable += 1,
            }
        }
    }
    Ok(all)
}

/// Puts what was set aside back into the spool, from which it is sent like any other result. If that is interrupted, some of it is there
/// twice: consumers absorb it. Returns the number of messages.
///
/// # Errors
/// If a producer has the spool, or it has no room.
pub fn put_back(folder: &Path, limits: Limits, now: i64) -> Result<usize, TakeOutError> {
    let disk = RealDisk::open(folder)?;
    let all = set_aside_in(folder)?;
    let (mut spool, _) = Spool::open(disk, limits)?;
    let mut rest = all.messages.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |it: &&SetAside| {
            bytes += it.message.len();
            bytes <= PART
        };
        let (part, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let records: Vec<_> = part
            .iter()
            .map(|it| (it.site.as_bytes(), it.message.as_bytes()))
            .collect();
        spool.commit(&records, now)?;
        rest = later;
    }
    remove(folder)?;
    Ok(all.messages.len())
}

/// Throws away what was set aside. Returns the number of messages.
///
/// # Errors
/// If a producer has the spool.
pub fn throw_away(folder: &Path) -> Result<usize, TakeOutError> {
    // Held while the files go: nobody adds to them.
    let _disk = RealDisk::open(folder)?;
    let all = set_aside_in(folder)?;
    remove(folder)?;
    Ok(all.messages.len())
}

fn remove(folder: &Path) -> io::Result<()> {
    for file in [REFUSED, REFUSED_BEFORE] {
        match fs::remove_file(folder.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Adds a message to the file.
///
/// # Errors
/// If it can't be made durable.
pub(super) fn add(folder: &Path, message: &SetAside) -> io::Result<()> {
    append(folder, &format!("{}\n", serde_json::to_string(message)?))
}

fn append(folder: &Path, line: &str) -> io::Result<()> {
    let path = folder.join(REFUSED);
    if fs::metadata(&path).is_ok_and(|file| file.len() >= REFUSED_BYTES) {
        fs::rename(&path, folder.join(REFUSED_BEFORE))?;
    }
    let mut file = private::options().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::spool::Most;

    fn message(n: usize) -> SetAside {
        SetAside {
            reason: "too large".to_owned(),
            site: format!("site {n}"),
            message: format!("{{\"n\":{n}}}"),
        }
    }

    #[test]
    fn what_kafka_refuses_takes_a_bounded_room() {
        let folder = tempfile::tempdir().unwrap();
        let line = "x".repeat(1 << 20);
        for _ in 0..40 {
            append(folder.path(), &line).unwrap();
        }
        append(folder.path(), "last").unwrap();
        let sizes = fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len());
        let sizes: Vec<_> = sizes.collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().sum::<u64>() <= 2 * REFUSED_BYTES + (1 << 20));
        let newest = fs::read_to_string(folder.path().join(REFUSED)).unwrap();
        assert!(newest.ends_with("last"));
    }

    #[test]
    fn what_was_set_aside_goes_back_into_the_spool_or_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(set_aside_in(path).unwrap(), AllSetAside::default());
        for n in 0..3 {
            add(path, &message(n)).unwrap();
        }
        append(path, "{\"torn").unwrap();
        let all = set_aside_in(path).unwrap();
        assert_eq!((all.messages.len(), all.unreadable), (3, 1));
        assert_eq!(all.messages[2], message(2));

        let held = RealDisk::open(path).unwrap();
        assert!(matches!(
            put_back(path, Limits::default(), 7),
            Err(TakeOutError::Open(_))
        ));
        assert!(matches!(throw_away(path), Err(TakeOutError::Open(_))));
        drop(held);
        assert_eq!(put_back(path, Limits::default(), 7).unwrap(), 3);
        assert_eq!(set_aside_in(path).unwrap(), AllSetAside::default());
        let (mut spool, _) = Spool::open(RealDisk::open(path).unwrap(), Limits::default()).unwrap();
        let (entries, _) = spool.read(spool.first().unwrap(), None, Most::ALL).unwrap();
        let sites: Vec<_> = entries
            .iter()
            .map(|it| String::from_utf8_lossy(&it.key))
            .collect();
        assert_eq!(sites, ["site 0", "site 1", "site 2"]);
        drop(spool);

        add(path, &message(9)).unwrap();
        assert_eq!(throw_away(path).unwrap(), 1);
        assert_eq!(set_aside_in(path).unwrap(), AllSetAside::default());
    }
}
