//! A look at a spool from outside, also while a producer has it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

use super::{
    Damage,
    acknowledged::Checkpoint,
    files::{CHECKPOINT, DAMAGED, SEGMENT, number, refuse_foreign},
    segment,
};
use crate::folder_lock::LOCK;

/// What is in a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// Results that Kafka has not acknowledged, as far as the checkpoint tells: what a running producer is about to note
    /// is counted.
    pub results: u64,
    /// What all files take.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Segments that are kept because they were damaged.
    pub damaged_segments: u64,
    /// When the oldest result that waits was committed, in microseconds since 1970.
    pub oldest: Option<i64>,
    /// Bytes that are no record; at the end of the newest segment that may be a write under way.
    pub damage: Vec<Damage>,
    /// The process that has it.
    pub holder: Option<String>,
}

/// Looks at the spool in `folder`; changes nothing.
///
/// # Errors
/// If the folder can't be read, or another version of the program wrote a segment. A file that goes away meanwhile is passed
/// over.
pub fn inspect(folder: &Path) -> io::Result<Inspected> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    refuse_foreign(names.iter().map(String::as_str))?;
    let checkpoint = fs::read(folder.join(CHECKPOINT))
        .ok()
        .and_then(|bytes| Checkpoint::decode(&bytes))
        .unwrap_or_default();
    let mut inspected = Inspected {
        holder: holder(folder),
        ..Inspected::default()
    };
    for name in names {
        let Some(number) = number(&name, SEGMENT) else {
            if name.ends_with(DAMAGED) {
                inspected.damaged_segments += 1;
                inspected.bytes += fs::metadata(folder.join(&name)).map_or(0, |it| it.len());
            }
            continue;
        };
        let Ok(bytes) = fs::read(folder.join(&name)) else {
            continue;
        };
        let known = checkpoint
            .segments
            .get(&number)
            .filter(|(created, _)| segment::created(&bytes) == Some(*created));
        let (found, holes) = segment::scan(&bytes);
        inspected.segments += 1;
        inspected.bytes += bytes.len() as u64;
        let waiting = found
            .iter()
            .filter(|record| !known.is_some_and(|(_, done)| done.has(record.index)));
        for record in waiting {
            inspected.results += 1;
            inspected.oldest = Some(inspected.oldest.unwrap_or(record.time).min(record.time));
        }
        inspected
            .damage
            .extend(holes.iter().map(|hole| Damage::of(&name, *hole)));
    }
    Ok(inspected)
}

fn holder(folder: &Path) -> Option<String> {
    let file = File::open(folder.join(LOCK)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let text = fs::read_to_string(folder.join(LOCK)).unwrap_or_default();
            Some(text.trim().to_owned())
        }
        _ => None,
    }
}
