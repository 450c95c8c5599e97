//! Which partitions this consumer reads, and where it stands in each. Pure.

use std::collections::BTreeMap;

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// The partition is not assigned, or it is not known where to read on: it will be read again.
    Ignore,
    /// It follows what was read; `expected` is smaller than its offset where Kafka skipped offsets.
    Next {
        /// The offset that would have followed without a gap.
        expected: i64,
    },
    /// It was read before: the topic may have been made again. Where to read on must be found out anew.
    Surprise,
}

/// Up to where a partition is stored.
#[derive(Clone, Copy, Debug)]
struct Stored {
    /// The offset that follows.
    next: i64,
    /// The message before it: its offset and its fingerprint, if that is known.
    last: Option<(i64, i64)>,
    /// The message before it when it was looked last whether it is still there. In a topic that was made again it is not, whatever has
    /// been read of that since.
    anchor: Option<(i64, i64)>,
}

/// The assigned partitions, each with the offset that comes next, once that is known, and up to where they are stored.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    partitions: BTreeMap<i32, Option<i64>>,
    stored: BTreeMap<i32, Stored>,
}

impl Assignment {
    /// Adds partitions; where to read on in them is not known yet.
    pub(super) fn assign(&mut self, partitions: &[i32]) {
        self.partitions
            .extend(partitions.iter().map(|partition| (*partition, None)));
    }

    /// Takes partitions away.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        self.partitions
            .retain(|partition, _| !partitions.contains(partition));
        self.stored
            .retain(|partition, _| !partitions.contains(partition));
    }

    /// Notes up to where `partition` is stored: the offset that follows, and the fingerprint of the message before it.
    pub(super) fn store(&mut self, partition: i32, next: i64, last: Option<i64>) {
        if self.partitions.contains_key(&partition) {
            let last = last.map(|last| (next - 1, last));
            let before = self.stored.get(&partition);
            let anchor = before.and_then(|before| before.anchor).or(last);
            let stored = Stored { next, last, anchor };
            self.stored.insert(partition, stored);
        }
    }

    /// The offset that follows what was stored of a partition, as far as that is known.
    pub(super) fn stored_next(&self, partition: i32) -> Option<i64> {
        self.stored.get(&partition).map(|stored| stored.next)
    }

    /// The messages to look for in the partitions that are being read: partition, offset and fingerprint.
    pub(super) fn anchors(&self) -> Vec<(i32, i64, i64)> {
        let is_read = |partition: &i32| matches!(self.partitions.get(partition), Some(Some(_)));
        let anchors = self.stored.iter().filter_map(|(partition, stored)| {
            let (offset, print) = stored.anchor?;
            is_read(partition).then_some((*partition, offset, print))
        });
        anchors.collect()
    }

    /// The message to look for is there, or has expired: next time it is the one that is stored last now.
    pub(super) fn inspected(&mut self, partition: i32) {
        if let Some(stored) = self.stored.get_mut(&partition) {
            stored.anchor = stored.last;
        }
    }

    /// Where to read on in `partition` must be found out anew. `false` if it is not assigned.
    pub(super) fn unlocate(&mut self, partition: i32) -> bool {
        self.stored.remove(&partition);
        self.partitions
            .get_mut(&partition)
            .map(|next| *next = None)
            .is_some()
    }

    /// Notes that reading goes on at `next`.
    pub(super) fn locate(&mut self, partition: i32, next: i64) {
        if let Some(position) = self.partitions.get_mut(&partition) {
            *position = Some(next);
        }
    }

    /// Partitions in which it is not known where to read on.
    pub(super) fn unlocated(&self) -> Vec<i32> {
        self.partitions
            .iter()
            .filter(|(_, next)| next.is_none())
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// Partitions that are being read.
    pub(super) fn located(&self) -> Vec<i32> {
        self.partitions
            .iter()
            .filter(|(_, next)| next.is_some())
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// All partitions.
    pub(super) fn all(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Decides about the message at `offset` and, if it is taken, moves on behind it.
    pub(super) fn take(&mut self, partition: i32, offset: i64) -> Take {
        let Some(Some(next)) = self.partitions.get_mut(&partition) else {
            return Take::Ignore;
        };
        if offset < *next {
            return Take::Surprise;
        }
        let expected = std::mem::replace(next, offset + 1);
        Take::Next { expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_before_the_position_is_known() {
        let mut assignment = Assignment::default();
        assert_eq!(assignment.take(0, 5), Take::Ignore);
        assignment.assign(&[0, 1]);
        assert_eq!(assignment.take(0, 5), Take::Ignore);
        assert_eq!(assignment.unlocated(), [0, 1]);
        assignment.locate(0, 5);
        assert_eq!(assignment.take(0, 5), Take::Next { expected: 5 });
        assert_eq!(assignment.take(0, 9), Take::Next { expected: 6 });
        assert_eq!(assignment.take(0, 9), Take::Surprise);
        assert_eq!(
            (assignment.located(), assignment.unlocated()),
            (vec![0], vec![1])
        );
    }

    #[test]
    fn a_partition_that_comes_back_starts_without_a_position() {
        let mut assignment = Assignment::default();
        assignment.assign(&[0]);
        assignment.locate(0, 5);
        assignment.store(0, 5, Some(1));
        assignment.store(1, 5, Some(1));
        assignment.store(0, 9, Some(2));
        assert_eq!(assignment.anchors(), [(0, 4, 1)]);
        assignment.inspected(0);
        assert_eq!(assignment.anchors(), [(0, 8, 2)]);
        assert_eq!(assignment.stored_next(0), Some(9));
        assignment.revoke(&[0]);
        assert_eq!(assignment.stored_next(0), None);
        assert!(!assignment.unlocate(0));
        assignment.locate(0, 7);
        assert_eq!(assignment.take(0, 7), Take::Ignore);
    }
}
