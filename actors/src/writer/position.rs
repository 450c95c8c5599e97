//! Where to read on. Pure: compares what the database has stored with what the broker holds.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::model::Watermarks;

/// How long a broker's end must stay before the stored offset until the topic counts as made again: longer than a leader
/// that was replaced may believe that it still leads.
const DOUBT: Duration = Duration::from_secs(10);

/// Why a topic's offsets do not go on where the database left off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The topic ends before the stored offset: it was deleted and made again.
    Recreated,
    /// The topic begins after the stored offset: messages expired before they were read.
    Retention,
}

impl Break {
    /// The word in the column `kafka_gap.reason`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Recreated => "recreated",
            Self::Retention => "retention",
        }
    }
}

/// Partitions that seem to end before their stored offset.
///
/// That may be an old tale: the broker was asked, PostgreSQL was away, and meanwhile another consumer has stored what came
/// after. So the end counts only if the broker was asked long enough after the same stored offset was seen. A new leader does
/// not answer with an end that is older than what consumers have seen (KIP-207, Kafka 2.2).
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<(String, i32), Doubt>);

/// A stored offset, and when it was first seen.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    stored: i64,
    since: Instant,
}

impl Doubts {
    /// Whether the doubt about `stored` is old enough for the answer of a broker that was `asked` then. Notes a new doubt.
    pub(super) fn confirm(
        &mut self,
        topic: &str,
        partition: i32,
        stored: i64,
        asked: Instant,
        now: Instant,
    ) -> bool {
        let new = Doubt { stored, since: now };
        let doubt = self.0.entry((topic.to_owned(), partition)).or_insert(new);
        if doubt.stored != stored {
            *doubt = new;
        }
        asked.saturating_duration_since(doubt.since) >= DOUBT
    }

    /// There is no doubt about the partition (any more).
    pub(super) fn forget(&mut self, topic: &str, partition: i32) {
        self.0.remove(&(topic.to_owned(), partition));
    }
}

/// The offset to read next, and the break before it, if there is one.
pub(super) fn reconcile(stored: i64, held: Watermarks) -> (i64, Option<Break>) {
    match stored {
        next if next > held.high => (held.low, Some(Break::Recreated)),
        next if next < held.low => (held.low, Some(Break::Retention)),
        next => (next, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_goes_on_inside_what_is_held_and_no_jump_is_silent(
            stored in 0i64..200, low in 0i64..100, length in 0i64..100
        ) {
            let held = Watermarks { partition: 0, low, high: low + length };
            let (next, gap) = reconcile(stored, held);
            prop_assert!(held.low <= next && next <= held.high);
            prop_assert_eq!(gap.is_none(), next == stored);
        }
    }

    #[test]
    fn an_end_before_the_stored_offset_counts_only_if_it_was_asked_for_long_after_that_offset_was_seen()
     {
        let (mut doubts, begin) = (Doubts::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        // Asked before the offset was seen, however late the answer is worked on.
        assert!(!doubts.confirm("t", 0, 20, at(0), at(60)));
        assert!(!doubts.confirm("t", 0, 20, at(0), at(90)));
        assert!(!doubts.confirm("t", 0, 20, at(69), at(69)));
        assert!(doubts.confirm("t", 0, 20, at(70), at(70)));
        // Somebody has stored more: the topic is alive.
        assert!(!doubts.confirm("t", 0, 25, at(71), at(71)));
        doubts.forget("t", 0);
        assert!(!doubts.confirm("t", 0, 25, at(99), at(99)));
    }

    #[test]
    fn the_two_breaks_are_told_apart() {
        let held = Watermarks {
            partition: 0,
            low: 10,
            high: 20,
        };
        assert_eq!(reconcile(21, held), (10, Some(Break::Recreated)));
        assert_eq!(reconcile(9, held), (10, Some(Break::Retention)));
        assert_eq!(reconcile(20, held), (20, None));
    }
}
