//! Making records durable, and what is done where that fails.

use std::io;

use super::{
    CommitError, Disk, Id, Segment, Spool,
    acknowledged::Acknowledged,
    files::{KEEP_DAMAGED, name},
    segment::{self, HEADER},
};

impl<D: Disk> Spool<D> {
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
    pub(super) fn cut_ragged(&mut self) {
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
}
