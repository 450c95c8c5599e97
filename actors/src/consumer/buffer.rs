//! Messages on their way into a batch. Pure: the caller says what time it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sitewatch_config::BatchSettings;
use tokio::time::Instant;

use crate::model::{
    Batch, Content, DeadLetter, OffsetRange, Receipt, Revision, Row, Topic, fingerprint,
};

/// What a batch may weigh, in bytes. Ordinary rows come to two megabytes a batch; those with captures of 64 kB would come to a gigabyte.
const MOST_BYTES: usize = 4 << 20;

/// What was read and is not handed over yet.
#[derive(Default)]
pub(super) struct Buffer {
    ranges: BTreeMap<i32, OffsetRange>,
    rows: Vec<Row>,
    revisions: Vec<Revision>,
    dead: Vec<DeadLetter>,
    /// What all of these weigh.
    bytes: usize,
    /// When the oldest message came in.
    since: Option<Instant>,
}

impl Buffer {
    /// Adds the message at `offset` of `partition`, which was `expected` to be there or later.
    pub(super) fn add(
        &mut self,
        partition: i32,
        offset: i64,
        expected: i64,
        content: Result<Content, DeadLetter>,
        now: Instant,
    ) {
        let range = self.ranges.entry(partition).or_insert_with(|| OffsetRange {
            partition,
            from: expected,
            next: expected,
            absent: Vec::new(),
            last: None,
        });
        if offset > expected {
            range.absent.push((expected, offset));
        }
        range.next = offset + 1;
        self.bytes += weight(&content);
        match content {
            Ok(Content::Row(row)) => self.rows.push(row),
            Ok(Content::Revision(revision)) => self.revisions.push(revision),
            Err(letter) => self.dead.push(letter),
        }
        self.since.get_or_insert(now);
    }

    /// Forgets what was read from `partition`.
    pub(super) fn forget(&mut self, partition: i32) {
        if self.ranges.remove(&partition).is_some() {
            self.rows.retain(|row| row.source.0 != partition);
            self.revisions
                .retain(|revision| revision.source.0 != partition);
            self.dead.retain(|letter| letter.source.0 != partition);
            // What is left of others counts until the batch goes: it goes a little sooner.
        }
        if self.ranges.is_empty() {
            (self.since, self.bytes) = (None, 0);
        }
    }

    /// How long until the batch must go; zero if it is due.
    pub(super) fn due_in(&self, settings: &BatchSettings, now: Instant) -> Option<Duration> {
        let since = self.since?;
        if self.is_full(settings.max_rows) {
            return Some(Duration::ZERO);
        }
        Some((since + settings.max_age).saturating_duration_since(now))
    }

    /// Whether no more should be added.
    pub(super) fn is_full(&self, max_rows: usize) -> bool {
        self.bytes >= MOST_BYTES
            || self.rows.len() + self.revisions.len() + self.dead.len() >= max_rows
    }

    /// Whether there is nothing to hand over.
    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// The message at this place, which was added last of its partition.
    fn last_payload(&self, place: (i32, i64)) -> Option<&[u8]> {
        let rows = self.rows.iter().map(|row| (row.source, &*row.payload));
        let revisions = self.revisions.iter().map(|it| (it.source, &*it.payload));
        let dead = self.dead.iter().map(|it| (it.source, &*it.payload));
        let is_it = |(source, _): &((i32, i64), &[u8])| *source == place;
        let found = rows.rev().find(is_it);
        let found = found.or_else(|| revisions.rev().find(is_it));
        let found = found.or_else(|| dead.rev().find(is_it));
        found.map(|(_, payload)| payload)
    }

    /// Takes everything out as a batch. `None` if there is nothing.
    pub(super) fn take(&mut self, topic: &Topic, receipt: Receipt) -> Option<Batch> {
        self.since.take()?;
        self.bytes = 0;
        let mut ranges: Vec<_> = std::mem::take(&mut self.ranges).into_values().collect();
        for range in &mut ranges {
            let last = self.last_payload((range.partition, range.next - 1));
            range.last = last.map(fingerprint);
        }
        Some(Batch {
            topic: Arc::clone(&topic.name),
            cluster: topic.cluster.clone(),
            ranges,
            rows: std::mem::take(&mut self.rows),
            revisions: std::mem::take(&mut self.revisions),
            dead: std::mem::take(&mut self.dead),
            letters: Vec::new(),
            receipt,
        })
    }
}

fn weight(content: &Result<Content, DeadLetter>) -> usize {
    match content {
        Ok(content) => content.weight(),
        Err(letter) => letter.weight(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeadReason;

    fn topic() -> Topic {
        Topic {
            name: "t".into(),
            cluster: None,
        }
    }

    #[test]
    fn a_batch_is_full_by_what_it_weighs_too() {
        let (mut buffer, now) = (Buffer::default(), Instant::now());
        let large = |offset| {
            letter(0, offset).map_err(|letter| DeadLetter {
                payload: vec![0; MOST_BYTES / 4],
                ..letter
            })
        };
        for offset in 0..4 {
            assert!(!buffer.is_full(5000), "{offset}");
            buffer.add(0, offset, offset, large(offset), now);
        }
        assert!(buffer.is_full(5000));
        buffer.take(&topic(), Receipt::new().0).unwrap();
        buffer.add(0, 4, 4, large(4), now);
        assert!(!buffer.is_full(5000));
        buffer.forget(0);
        assert_eq!(buffer.bytes, 0);
    }

    fn letter(partition: i32, offset: i64) -> Result<Content, DeadLetter> {
        let (reason, detail) = (DeadReason::Malformed, String::new());
        Err(DeadLetter {
            source: (partition, offset),
            reason,
            detail,
            key: None,
            payload: format!("{partition} {offset}").into_bytes(),
        })
    }

    #[test]
    fn a_batch_covers_its_offsets_without_a_hole_and_tells_the_absent_ones() {
        let (mut buffer, now) = (Buffer::default(), Instant::now());
        buffer.add(0, 5, 5, letter(0, 5), now);
        buffer.add(0, 8, 6, letter(0, 8), now);
        buffer.add(1, 3, 1, letter(1, 3), now);
        let batch = buffer.take(&topic(), Receipt::new().0).unwrap();
        assert_eq!(
            batch.ranges[0],
            OffsetRange {
                partition: 0,
                from: 5,
                next: 9,
                absent: vec![(6, 8)],
                last: Some(fingerprint(b"0 8")),
            }
        );
        assert_eq!(
            batch.ranges[1],
            OffsetRange {
                partition: 1,
                from: 1,
                next: 4,
                absent: vec![(1, 3)],
                last: Some(fingerprint(b"1 3")),
            }
        );
        assert!(buffer.take(&topic(), Receipt::new().0).is_none());
    }

    #[test]
    fn it_is_due_by_size_or_by_age() {
        let (mut buffer, now) = (Buffer::default(), Instant::now());
        let settings = BatchSettings {
            max_rows: 2,
            max_age: Duration::from_secs(1),
        };
        let due =
            |buffer: &Buffer, later| buffer.due_in(&settings, now + Duration::from_millis(later));
        assert_eq!(due(&buffer, 5000), None);
        buffer.add(0, 0, 0, letter(0, 0), now);
        assert_eq!(due(&buffer, 400), Some(Duration::from_millis(600)));
        assert_eq!(due(&buffer, 1400), Some(Duration::ZERO));
        buffer.add(0, 1, 1, letter(0, 1), now);
        assert_eq!(due(&buffer, 0), Some(Duration::ZERO));
        buffer.forget(0);
        assert_eq!(due(&buffer, 5000), None);
    }
}
