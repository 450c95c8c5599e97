//! Letting go: of what Kafka has, of damage that was kept long enough, of the oldest where there is no more room.

use std::{collections::BTreeMap, io};

use super::{
    Damage, Disk, Dropped, Id, Spool,
    acknowledged::Checkpoint,
    files::{CHECKPOINT, DAMAGED, KEEP_DAMAGED, if_there, name},
};

impl<D: Disk> Spool<D> {
    /// A segment that can't be read at all.
    pub(super) fn set_aside(&mut self, number: u64, bytes: u64) {
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
    pub(super) fn forget_damaged(&mut self, most: usize, bytes: u64) -> io::Result<()> {
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
}
