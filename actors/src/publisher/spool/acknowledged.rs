//! Which records of a segment Kafka has, and the file that keeps it over a restart. Pure.

use std::collections::BTreeMap;

/// Records of a segment that need not be sent: Kafka has them, or they are damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    words: Vec<u64>,
    count: u32,
}

impl Acknowledged {
    /// Notes the record `index`; `false` if it was noted before.
    pub(super) fn note(&mut self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1u64 << (index % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u32::from(new);
        new
    }

    pub(super) fn has(&self, index: u32) -> bool {
        self.words
            .get(index as usize / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// What comes after the last one that was noted.
    pub(super) fn end(&self) -> u32 {
        let last = self.words.iter().rposition(|word| *word != 0);
        last.map_or(0, |word| {
            word as u32 * 64 + 64 - self.words[word].leading_zeros()
        })
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

/// What is kept over a restart: the number of the next segment, and for each segment of which Kafka has a part when it was
/// made (so that it is not taken for another one of the same number) and which part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) next: u64,
    pub(super) segments: BTreeMap<u64, (i64, Acknowledged)>,
}

const MAGIC: &[u8; 8] = b"SWACKS\0\x01";

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.next.to_le_bytes());
        for (number, (created, acknowledged)) in &self.segments {
            bytes.extend(number.to_le_bytes());
            bytes.extend(created.to_le_bytes());
            bytes.extend((acknowledged.words.len() as u64).to_le_bytes());
            for word in &acknowledged.words {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads it; `None` if it is not whole. Nothing is lost then: what Kafka has is sent once more.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32fast::hash(content).to_le_bytes() != sum {
            return None;
        }
        let mut words = content
            .strip_prefix(MAGIC)?
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let mut checkpoint = Self {
            next: words.next()?,
            segments: BTreeMap::new(),
        };
        while let Some(number) = words.next() {
            let (created, length) = (words.next()?.cast_signed(), words.next()?);
            let bits: Vec<u64> = words.by_ref().take(usize::try_from(length).ok()?).collect();
            let acknowledged = Acknowledged {
                count: bits.iter().map(|word| word.count_ones()).sum(),
                words: bits,
            };
            checkpoint.segments.insert(number, (created, acknowledged));
        }
        Some(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_what_it_wrote_and_nothing_else(
            indexes in prop::collection::vec(0u32..500, 0..50), place in any::<prop::sample::Index>(),
        ) {
            let mut acknowledged = Acknowledged::default();
            for index in &indexes {
                let before = acknowledged.has(*index);
                prop_assert_eq!(acknowledged.note(*index), !before);
                prop_assert!(acknowledged.has(*index));
            }
            let distinct: std::collections::BTreeSet<_> = indexes.iter().collect();
            prop_assert_eq!(acknowledged.end(), distinct.last().map_or(0, |last| **last + 1));
            prop_assert_eq!(acknowledged.count() as usize, distinct.len());
            let checkpoint = Checkpoint { next: 9, segments: [(3, (-7, acknowledged))].into() };
            let mut bytes = checkpoint.encode();
            prop_assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint));
            let place = place.index(bytes.len());
            bytes[place] ^= 1;
            prop_assert_eq!(Checkpoint::decode(&bytes), None);
        }
    }
}
