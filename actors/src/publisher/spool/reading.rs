//! Reading what waits for Kafka, past damage.

use std::{io, sync::Arc};

use super::{
    Damage, Disk, Entry, Id, Most, Spool,
    files::{is_lost, name, of_file},
    segment,
};

/// The indexes below `records` that are not among those `found`.
pub(super) fn missing(
    found: &[segment::Found<'_>],
    records: u32,
) -> impl Iterator<Item = u32> + use<> {
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

impl<D: Disk> Spool<D> {
    /// Reads the records from `from` on, `until` exclusive, in order, those left out that Kafka has: not more than
    /// `most`, at least one record. The second is where to go on, if the range goes on.
    ///
    /// # Errors
    /// If a file can't be read now, as when too many are open: it is to be tried again. One whose bytes are lost is damage.
    pub fn read(
        &mut self,
        from: Id,
        until: Option<Id>,
        most: Most,
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
                let enough = bytes >= most.bytes || entries.len() >= most.records;
                if enough && !entries.is_empty() {
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
}
