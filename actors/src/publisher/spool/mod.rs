//! The spool: results on the producer's disk, from before they count as checked until Kafka has acknowledged them.
//!
//! A folder of segments, each a file to which records are only appended. What is committed together is written and made
//! durable together. Kafka acknowledges in any order; a segment of which it has everything is removed. A checkpoint
//! keeps over a restart what Kafka has of the others; without it, that is sent once more, and absorbed downstream.
//!
//! The ideas are those of Kafka's log segments, of the write-ahead log of Prometheus and of Vector's disk buffer. An embedded
//! database was measured first (redb 4.6, 20,000 records a second of 700 bytes, a durable commit each 50 ms): it takes 4.6 µs
//! of CPU a record, this 0.8; a flipped byte gives a wrong record without a word, a torn tail closes the whole file, and a
//! zeroed page makes it panic. Here each costs the records that it hits, and is told.

mod acknowledged;
#[cfg(test)]
mod damage_tests;
mod disk;
mod inspect;
mod memory_disk;
mod segment;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use thiserror::Error;

use self::{
    acknowledged::{Acknowledged, Checkpoint},
    segment::HEADER,
};
pub use self::{
    disk::{Disk, OpenError, RealDisk},
    inspect::{Inspected, inspect},
    memory_disk::{DiskFault, MemoryDisk},
};

/// The file of the checkpoint.
const CHECKPOINT: &str = "acknowledged";
/// How the names of segments end, and of those that are kept because they are damaged.
const SEGMENT: &str = ".spool";
const DAMAGED: &str = ".damaged";
/// So many damaged segments are kept for a look at them; older ones go.
const KEEP_DAMAGED: usize = 16;

/// Which record: ordered as they were committed, and the same after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The number of its segment.
    pub segment: u64,
    /// Its place there.
    pub index: u32,
}

impl Id {
    /// The one after it in its segment.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            index: self.index + 1,
            ..self
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.segment, self.index)
    }
}

/// How large the spool and its segments may become, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All files together.
    pub max_bytes: u64,
    /// A segment that has grown to this is not written to any more.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            segment_bytes: 4 << 20,
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub id: Id,
    /// The message's key.
    pub key: Box<[u8]>,
    /// The message.
    pub payload: Box<[u8]>,
}

/// What was found when the spool was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Results that Kafka has not acknowledged.
    pub results: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes at the end of the newest segment that are no record: what was being written when the process was killed.
    pub torn_bytes: u64,
    /// Other bytes that are no record.
    pub damage: Vec<Damage>,
}

/// Bytes that are not what was written. Their records are lost; the file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How much.
    pub bytes: u64,
}

impl Damage {
    fn of(file: &str, hole: segment::Hole) -> Self {
        Self {
            file: file.to_owned(),
            offset: hole.offset as u64,
            bytes: hole.bytes as u64,
        }
    }
}

/// What was dropped to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Results that Kafka had not acknowledged.
    pub results: u64,
    /// Bytes that have become free.
    pub bytes: u64,
}

/// Why nothing was committed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// It would take more than is allowed.
    #[error("the spool is full: {needed} bytes are needed, there is room for {room}")]
    Full {
        /// Bytes of the records.
        needed: u64,
        /// Bytes that are free.
        room: u64,
    },
    /// The disk does not do it.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the disk says.
        source: io::Error,
    },
}

/// A segment, without its records.
struct Segment {
    created: i64,
    /// Its durable length.
    bytes: u64,
    /// Records, those that are damaged counted.
    records: u32,
    acknowledged: Acknowledged,
    damaged: bool,
    /// Whether bytes of a commit that failed are still behind its durable part.
    ragged: bool,
}

impl Segment {
    fn is_done(&self) -> bool {
        self.acknowledged.count() >= self.records
    }

    fn waiting(&self) -> u64 {
        u64::from(self.records.saturating_sub(self.acknowledged.count()))
    }
}

/// The spool. Blocks, and knows no time.
pub struct Spool<D: Disk> {
    disk: D,
    limits: Limits,
    segments: BTreeMap<u64, Segment>,
    /// The one that is written.
    active: Option<u64>,
    /// The number of the next segment: no number is used twice.
    next: u64,
    /// Bytes of damaged segments that are kept.
    damaged_bytes: u64,
    damage: Vec<Damage>,
    /// The checkpoint as it was written last.
    written: Checkpoint,
    /// The segment that was read last: its number, its length then, its bytes.
    cache: Option<(u64, u64, Arc<Vec<u8>>)>,
}

fn name(number: u64) -> String {
    format!("{number:020}{SEGMENT}")
}

fn number(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// The indexes below `records` that are not among those `found`.
fn missing(found: &[segment::Found<'_>], records: u32) -> impl Iterator<Item = u32> + use<> {
    let mut present = vec![false; records as usize];
    for record in found {
        if let Some(place) = present.get_mut(record.index as usize) {
            *place = true;
        }
    }
    (0..records)
        .zip(present)
        .filter_map(|(index, present)| (!present).then_some(index))
}

/// Whether the bytes are gone: the device can't read them or the file system finds them wrong (`EIO`, `EBADMSG`, `EUCLEAN`),
/// or there is no such file. Anything else, such as too many open files, passes, and costs no result.
fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || matches!(error.raw_os_error(), Some(5 | 74 | 117))
}

fn of_file(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// What somebody else has removed is removed.
fn if_there(end: io::Result<()>) -> io::Result<()> {
    end.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

impl<D: Disk> Spool<D> {
    /// Reads all segments of `disk`, one after the other.
    ///
    /// # Errors
    /// If the folder can't be listed, or a file can't be read now. One whose bytes are lost is damage, and is kept.
    pub fn open(disk: D, limits: Limits) -> io::Result<(Self, Opened)> {
        let mut files = disk.list()?;
        files.sort();
        let checkpoint = match disk.read(CHECKPOINT) {
            Ok(bytes) => Checkpoint::decode(&bytes).unwrap_or_default(),
            Err(error) if is_lost(&error) => Checkpoint::default(),
            Err(error) => return Err(of_file(CHECKPOINT, &error)),
        };
        let numbers: Vec<u64> = files
            .iter()
            .filter_map(|(name, _)| number(name, SEGMENT))
            .collect();
        let used = files
            .iter()
            .filter_map(|(name, _)| number(name, SEGMENT).or_else(|| number(name, DAMAGED)));
        let next = used
            .map(|number| number + 1)
            .fold(checkpoint.next, u64::max);
        let mut spool = Self {
            disk,
            limits,
            segments: BTreeMap::new(),
            active: None,
            next,
            damaged_bytes: 0,
            damage: Vec::new(),
            written: checkpoint,
            cache: None,
        };
        // What can't be removed now is with the next one.
        let _ = spool.forget_damaged(KEEP_DAMAGED, 0);
        let mut torn_bytes = 0;
        for number in &numbers {
            torn_bytes += spool.find(*number, numbers.last() == Some(number))?;
        }
        let opened = Opened {
            results: spool.waiting(),
            bytes: spool.bytes(),
            torn_bytes,
            damage: spool.take_damage(),
        };
        Ok((spool, opened))
    }

    /// Reads the segment `number`. Gives the bytes that were torn off at its end, if it is the newest one.
    fn find(&mut self, number: u64, newest: bool) -> io::Result<u64> {
        let file = name(number);
        let bytes = match self.disk.read(&file) {
            Ok(bytes) => bytes,
            Err(error) if is_lost(&error) => {
                self.set_aside(number, 0);
                return Ok(0);
            }
            Err(error) => return Err(of_file(&file, &error)),
        };
        let (found, mut holes) = segment::scan(&bytes);
        let created = segment::created(&bytes);
        let mut torn = 0;
        if newest && let Some(last) = holes.pop_if(|hole| hole.offset + hole.bytes == bytes.len()) {
            torn = last.bytes as u64;
        }
        let mut durable = bytes.len() as u64;
        if torn > 0 && self.cut(&file, durable - torn).is_ok() {
            durable -= torn;
        }
        let acknowledged = match self.written.segments.get(&number) {
            Some((of, acknowledged)) if Some(*of) == created => acknowledged.clone(),
            _ => Acknowledged::default(),
        };
        // The last ones may be damaged, and Kafka have them: they count as well.
        let records = found.iter().map(|it| it.index + 1).max().unwrap_or(0);
        let records = records.max(acknowledged.end());
        let mut segment = Segment {
            created: created.unwrap_or_default(),
            bytes: durable,
            records,
            acknowledged,
            damaged: !holes.is_empty(),
            ragged: false,
        };
        for index in missing(&found, records) {
            segment.acknowledged.note(index);
        }
        self.damage
            .extend(holes.iter().map(|hole| Damage::of(&file, *hole)));
        self.segments.insert(number, segment);
        Ok(torn)
    }

    /// Cuts off what was never durable, so that it is not taken for damage once the segment is not the newest any more.
    fn cut(&mut self, file: &str, durable: u64) -> io::Result<()> {
        self.disk.truncate(file, durable)?;
        self.disk.sync(file)
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Makes `records` (key and payload each) durable, all or none of them, and gives their numbers. `now` is in microseconds
    /// since 1970.
    ///
    /// # Errors
    /// If there is no room, or the disk fails. Nothing counts as stored then, though some of it may turn up after a restart.
    pub fn commit(&mut self, records: &[(&[u8], &[u8])], now: i64) -> Result<Vec<Id>, CommitError> {
        let io = |doing| move |source| CommitError::Io { doing, source };
        let needed = HEADER as u64
            + records
                .iter()
                .map(|(key, payload)| segment::size(key, payload))
                .sum::<u64>();
        let mut room = self.limits.max_bytes.saturating_sub(self.bytes());
        if needed > room && needed <= room + self.damaged_bytes {
            // A result is worth more than a look at damage.
            let end = self.forget_damaged(KEEP_DAMAGED, needed - room);
            end.map_err(io("removing a damaged segment"))?;
            room = self.limits.max_bytes.saturating_sub(self.bytes());
        }
        if needed > room {
            return Err(CommitError::Full { needed, room });
        }
        let number = match self.writable() {
            Some(number) => number,
            None => self.begin(now).map_err(io("making a segment"))?,
        };
        let first = self
            .segments
            .get(&number)
            .map_or(0, |segment| segment.records);
        let mut bytes = Vec::with_capacity(needed as usize);
        for (index, (key, payload)) in (first..).zip(records) {
            segment::encode(&mut bytes, index, now, key, payload);
        }
        let file = name(number);
        let end = match self.disk.append(&file, &bytes) {
            Ok(()) => self.disk.sync(&file).map_err(io("making results durable")),
            Err(error) => Err(io("writing results")(error)),
        };
        if let Err(error) = end {
            self.abandon(number);
            return Err(error);
        }
        let last = first + records.len() as u32;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes += bytes.len() as u64;
            segment.records = last;
        }
        let id = |index| Id {
            segment: number,
            index,
        };
        Ok((first..last).map(id).collect())
    }

    /// The segment to write to, if there is one that has room.
    fn writable(&mut self) -> Option<u64> {
        let number = self.active?;
        let full = self.segments.get(&number)?.bytes >= self.limits.segment_bytes;
        if full {
            self.active = None;
        }
        self.active
    }

    fn begin(&mut self, now: i64) -> io::Result<u64> {
        let number = self.next;
        // Used, whatever becomes of it.
        self.next += 1;
        let file = name(number);
        let made = self
            .disk
            .create(&file)
            .and_then(|()| self.disk.append(&file, &segment::header(now)))
            .and_then(|()| self.disk.sync_folder());
        if let Err(error) = made {
            // If it can't be removed, it is an empty segment at the next start.
            let _ = self.disk.remove(&file);
            return Err(error);
        }
        self.segments.insert(
            number,
            Segment {
                created: now,
                bytes: HEADER as u64,
                records: 0,
                acknowledged: Acknowledged::default(),
                damaged: false,
                ragged: false,
            },
        );
        self.active = Some(number);
        Ok(number)
    }

    /// After a write or a sync that failed nobody knows what is behind the durable part of a segment (the kernel may have
    /// thrown it away and call the next sync a success), so it is not written to again.
    fn abandon(&mut self, number: u64) {
        self.active = None;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.ragged = true;
        }
        self.cut_ragged();
    }

    /// Cuts off what commits that failed have left. On a disk that fails this may fail too, and is tried again.
    fn cut_ragged(&mut self) {
        let ragged = self.segments.iter().filter(|(_, it)| it.ragged);
        let ragged: Vec<(u64, u64)> = ragged.map(|(number, it)| (*number, it.bytes)).collect();
        for (number, durable) in ragged {
            if self.cut(&name(number), durable).is_ok()
                && let Some(segment) = self.segments.get_mut(&number)
            {
                segment.ragged = false;
            }
        }
    }

    /// Reads the records from `from` on, `until` exclusive, in order, those left out that Kafka has: about `max_bytes` of
    /// payload, at least one record. The second is where to go on, if the range goes on.
    ///
    /// # Errors
    /// If a file can't be read now, as when too many are open: it is to be tried again. One whose bytes are lost is damage.
    pub fn read(
        &mut self,
        from: Id,
        until: Option<Id>,
        max_bytes: usize,
    ) -> io::Result<(Vec<Entry>, Option<Id>)> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let numbers: Vec<u64> = self
            .segments
            .range(from.segment..)
            .map(|(n, _)| *n)
            .collect();
        for number in numbers {
            let beginning = Id {
                segment: number,
                index: 0,
            };
            if until.is_some_and(|until| beginning >= until) {
                break;
            }
            let content = match self.content(number) {
                Ok(Some(content)) => content,
                Ok(None) => continue,
                Err(error) if entries.is_empty() => return Err(error),
                Err(_) => return Ok((entries, Some(beginning.max(from)))),
            };
            let (found, holes) = segment::scan(&content);
            self.compare(number, &found, &holes);
            let Some(segment) = self.segments.get(&number) else {
                continue;
            };
            for record in &found {
                let id = Id {
                    segment: number,
                    index: record.index,
                };
                let wanted = from <= id && until.is_none_or(|until| id < until);
                if !wanted
                    || record.index >= segment.records
                    || segment.acknowledged.has(record.index)
                {
                    continue;
                }
                if bytes >= max_bytes && !entries.is_empty() {
                    return Ok((entries, Some(id)));
                }
                bytes += record.payload.len();
                entries.push(Entry {
                    id,
                    key: record.key.into(),
                    payload: record.payload.into(),
                });
            }
        }
        Ok((entries, None))
    }

    /// The bytes of a segment. One whose bytes are lost is set aside.
    fn content(&mut self, number: u64) -> io::Result<Option<Arc<Vec<u8>>>> {
        let Some(length) = self.segments.get(&number).map(|it| it.bytes) else {
            return Ok(None);
        };
        if let Some((cached, at, content)) = &self.cache
            && (*cached, *at) == (number, length)
        {
            return Ok(Some(Arc::clone(content)));
        }
        match self.disk.read(&name(number)) {
            Ok(bytes) => {
                let bytes = Arc::new(bytes);
                self.cache = Some((number, length, Arc::clone(&bytes)));
                Ok(Some(bytes))
            }
            Err(error) if is_lost(&error) => {
                self.set_aside(number, length);
                Ok(None)
            }
            Err(error) => Err(of_file(&name(number), &error)),
        }
    }

    /// Notes records that are not there any more: damaged since they were written.
    fn compare(&mut self, number: u64, found: &[segment::Found<'_>], holes: &[segment::Hole]) {
        let Some(segment) = self.segments.get_mut(&number) else {
            return;
        };
        // Behind them may be what a commit that failed has left.
        let committed = found.iter().filter(|it| it.index < segment.records);
        if committed.count() >= segment.records as usize {
            return;
        }
        let mut news = false;
        for index in missing(found, segment.records) {
            news |= segment.acknowledged.note(index);
        }
        if news {
            segment.damaged = true;
            let length = segment.bytes;
            let holes = holes.iter().filter(|hole| (hole.offset as u64) < length);
            let file = name(number);
            self.damage
                .extend(holes.map(|hole| Damage::of(&file, *hole)));
        }
    }

    /// A segment that can't be read at all.
    fn set_aside(&mut self, number: u64, bytes: u64) {
        self.segments.remove(&number);
        if self.active == Some(number) {
            self.active = None;
        }
        self.damage.push(Damage {
            file: name(number),
            offset: 0,
            bytes,
        });
        // If it can't be renamed, it is found again at the next start.
        let _ = self.keep_damaged(number);
    }

    fn keep_damaged(&mut self, number: u64) -> io::Result<()> {
        let damaged = format!("{number:020}{DAMAGED}");
        if_there(self.disk.rename(&name(number), &damaged))?;
        // What can't be removed now is with the next one.
        let _ = self.forget_damaged(KEEP_DAMAGED, 0);
        Ok(())
    }

    /// Removes the oldest of the damaged segments that are kept, until at most `most` are left and `bytes` have become free.
    fn forget_damaged(&mut self, most: usize, bytes: u64) -> io::Result<()> {
        let mut kept: Vec<(String, u64)> = self.disk.list()?;
        kept.retain(|(name, _)| name.ends_with(DAMAGED));
        kept.sort();
        self.damaged_bytes = kept.iter().map(|(_, bytes)| bytes).sum();
        let goal = self.damaged_bytes.saturating_sub(bytes);
        for (n, (name, bytes)) in kept.iter().enumerate() {
            if kept.len() - n <= most && self.damaged_bytes <= goal {
                break;
            }
            if_there(self.disk.remove(name))?;
            self.damaged_bytes -= bytes;
        }
        Ok(())
    }

    /// Kafka has this record. In any order, any number of times.
    pub fn acknowledge(&mut self, id: Id) {
        if let Some(segment) = self.segments.get_mut(&id.segment)
            && id.index < segment.records
        {
            segment.acknowledged.note(id.index);
        }
    }

    /// Removes the segments of which Kafka has everything, and keeps what it has of the others.
    ///
    /// # Errors
    /// Those of the disk; all is as it was, and can be tried again.
    pub fn tidy(&mut self) -> io::Result<()> {
        self.cut_ragged();
        let full = self.limits.segment_bytes;
        let done: Vec<u64> = self
            .segments
            .iter()
            // The active one serves on until it is full: a new one costs two more writes to the disk.
            .filter(|(number, it)| {
                it.is_done() && (self.active != Some(**number) || it.bytes >= full)
            })
            .map(|(number, _)| *number)
            .collect();
        for number in done {
            self.let_go(number)?;
        }
        let mut checkpoint = Checkpoint {
            next: self.next,
            segments: BTreeMap::new(),
        };
        for (number, segment) in self
            .segments
            .iter()
            .filter(|(_, it)| it.acknowledged.count() > 0)
        {
            let kept = (segment.created, segment.acknowledged.clone());
            checkpoint.segments.insert(*number, kept);
        }
        if checkpoint != self.written {
            self.disk.replace(CHECKPOINT, &checkpoint.encode())?;
            self.written = checkpoint;
        }
        Ok(())
    }

    fn let_go(&mut self, number: u64) -> io::Result<()> {
        let Some(segment) = self.segments.get(&number) else {
            return Ok(());
        };
        if segment.damaged {
            self.keep_damaged(number)?;
        } else {
            if_there(self.disk.remove(&name(number)))?;
        }
        self.segments.remove(&number);
        self.cache.take_if(|(cached, ..)| *cached == number);
        self.active.take_if(|active| *active == number);
        Ok(())
    }

    /// Removes the oldest segments, until `bytes` have become free or none is left.
    pub fn drop_oldest(&mut self, bytes: u64) -> Dropped {
        let mut dropped = Dropped::default();
        while dropped.bytes < bytes {
            let Some((number, results, size)) = self
                .segments
                .iter()
                .next()
                .map(|(number, it)| (*number, it.waiting(), it.bytes))
            else {
                break;
            };
            if if_there(self.disk.remove(&name(number))).is_err() {
                break;
            }
            self.segments.remove(&number);
            self.cache.take_if(|(cached, ..)| *cached == number);
            self.active.take_if(|active| *active == number);
            dropped.results += results;
            dropped.bytes += size;
        }
        dropped
    }

    /// The oldest record that Kafka has not acknowledged.
    pub fn first(&self) -> Option<Id> {
        let (number, segment) = self.segments.iter().find(|(_, it)| !it.is_done())?;
        let index = (0..segment.records).find(|index| !segment.acknowledged.has(*index))?;
        Some(Id {
            segment: *number,
            index,
        })
    }

    /// What comes after the last record.
    pub fn end(&self) -> Id {
        match self.segments.last_key_value() {
            Some((number, segment)) => Id {
                segment: *number,
                index: segment.records,
            },
            None => Id {
                segment: self.next,
                index: 0,
            },
        }
    }

    /// Records that Kafka has not acknowledged.
    pub fn waiting(&self) -> u64 {
        self.segments.values().map(Segment::waiting).sum()
    }

    /// What all files take.
    pub fn bytes(&self) -> u64 {
        self.damaged_bytes
            + self
                .segments
                .values()
                .map(|segment| segment.bytes)
                .sum::<u64>()
    }

    /// Damage that was met since the last call.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }
}
