//! Opening a spool: what is there is read, what is torn is cut off, what is damaged is told.

use std::{collections::BTreeMap, io};

use super::{
    Damage, Disk, Limits, Opened, Segment, Spool,
    acknowledged::{Acknowledged, Checkpoint},
    files::{
        CHECKPOINT, DAMAGED, KEEP_DAMAGED, SEGMENT, is_lost, name, number, of_file, refuse_foreign,
    },
    reading::missing,
    segment,
};

impl<D: Disk> Spool<D> {
    /// Reads all segments of `disk`, one after the other.
    ///
    /// # Errors
    /// If the folder can't be listed, a file can't be read now, or another version of the program wrote it. One whose bytes are
    /// lost is damage, and is kept.
    pub fn open(disk: D, limits: Limits) -> io::Result<(Self, Opened)> {
        let mut files = disk.list()?;
        files.sort();
        refuse_foreign(files.iter().map(|(name, _)| name.as_str()))?;
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
    pub(super) fn cut(&mut self, file: &str, durable: u64) -> io::Result<()> {
        self.disk.truncate(file, durable)?;
        self.disk.sync(file)
    }
}
