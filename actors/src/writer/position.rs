//! Where to read on. Pure: compares what the database has stored with what the broker holds.

use crate::model::Watermarks;

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

/// The offset to read next, and the break before it, if there is one. `stored` is absent at the first meeting with a
/// partition, which begins with the oldest message that there is.
///
/// A partition's new leader does not answer with an end that is older than what consumers have seen (KIP-207, Kafka 2.2), so
/// an end before the stored offset is no passing state.
pub(super) fn reconcile(stored: Option<i64>, held: Watermarks) -> (i64, Option<Break>) {
    match stored {
        None => (held.low, None),
        Some(next) if next > held.high => (held.low, Some(Break::Recreated)),
        Some(next) if next < held.low => (held.low, Some(Break::Retention)),
        Some(next) => (next, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_goes_on_inside_what_is_held_and_no_jump_is_silent(
            stored in prop::option::of(0i64..100), low in 0i64..100, length in 0i64..100
        ) {
            let held = Watermarks { partition: 0, low, high: low + length };
            let (next, gap) = reconcile(stored, held);
            prop_assert!(held.low <= next && next <= held.high);
            if let Some(stored) = stored {
                prop_assert_eq!(gap.is_none(), next == stored);
            }
        }
    }

    #[test]
    fn the_two_breaks_are_told_apart() {
        let held = Watermarks {
            partition: 0,
            low: 10,
            high: 20,
        };
        assert_eq!(reconcile(Some(21), held), (10, Some(Break::Recreated)));
        assert_eq!(reconcile(Some(9), held), (10, Some(Break::Retention)));
        assert_eq!(reconcile(Some(20), held), (20, None));
        assert_eq!(reconcile(None, held), (10, None));
    }
}
