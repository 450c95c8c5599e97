//! Which partitions are too old, class by class. Pure.

use std::time::Duration;

use sitewatch_config::Retention;

use super::rollup::DAYS_TABLES;
use crate::{
    database::{CHECKS, Partition, Span},
    model::Slot,
};

/// Why a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its rows are older than they are kept.
    Retention,
    /// It was made ahead with another width.
    Width,
}

impl Reason {
    /// The word in the column `partition_drop.reason`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Width => "width",
        }
    }
}

/// Tables whose rows are kept equally long.
pub(super) struct Class {
    pub(super) tables: &'static [&'static str],
    pub(super) kept: Option<Duration>,
    /// What is computed from their rows must have been, before they go.
    pub(super) needed_for: Option<Needed>,
}

/// What is computed from rows.
#[derive(Clone, Copy)]
pub(super) struct Needed {
    pub(super) period: &'static str,
    /// The column of `rollup_state` that says from where on it still can be.
    pub(super) since: &'static str,
}

/// The classes, with how long each is kept.
pub(super) fn classes(retention: &Retention) -> [Class; 3] {
    let needed = |period, since| Some(Needed { period, since });
    let class = |tables, kept, needed_for| Class {
        tables,
        kept,
        needed_for,
    };
    [
        class(CHECKS, retention.raw, needed("hour", "raw_since")),
        class(
            &["rollup_hour"],
            retention.hourly,
            needed("day", "hours_since"),
        ),
        class(DAYS_TABLES, retention.daily, None),
    ]
}

/// Whether all rows of a partition are older than they are kept.
pub(super) fn reason(span: Span, now: Slot, kept: Option<Duration>) -> Option<Reason> {
    let kept = i64::try_from(kept?.as_micros()).ok()?;
    let oldest = now.as_micros().saturating_sub(kept);
    (span.to <= oldest).then_some(Reason::Retention)
}

/// Returns those of the partitions of a class, in the order of their slots, that go in one pass: of the oldest slots that are too old.
pub(super) fn oldest(
    partitions: &[Partition],
    now: Slot,
    kept: Option<Duration>,
) -> impl Iterator<Item = &Partition> {
    let too_old = move |it: &&Partition| !it.is_going && reason(it.span, now, kept).is_some();
    let first = partitions.iter().find(too_old).map(|it| it.span);
    partitions
        .iter()
        .filter(move |it| too_old(it) && Some(it.span) == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn a_partition_goes_when_its_youngest_row_is_too_old() {
        let span = Span {
            from: 10 * DAY,
            to: 17 * DAY,
        };
        let kept = Some(Duration::from_secs(90 * 86_400));
        let on = |day| reason(span, Slot::from_micros(day * DAY), kept);
        assert_eq!(on(106), None);
        assert_eq!(on(107), Some(Reason::Retention));
        assert_eq!(reason(span, Slot::from_micros(i64::MAX), None), None);
        let endless = Span {
            to: i64::MAX,
            ..span
        };
        assert_eq!(reason(endless, Slot::from_micros(200 * DAY), kept), None);
    }

    #[test]
    fn the_oldest_ones_go_first_and_alike_ones_together() {
        let partition = |parent: &str, week: i64, is_going| Partition {
            parent: parent.to_owned(),
            name: format!("{parent}_{week}"),
            span: Span {
                from: week * 7 * DAY,
                to: (week + 1) * 7 * DAY,
            },
            is_going,
        };
        let all = [
            partition("check_result", 1, true),
            partition("check_detail", 2, false),
            partition("check_result", 2, false),
            partition("check_result", 3, false),
        ];
        let kept = Some(Duration::from_secs(86_400));
        let names = |now| -> Vec<_> {
            let goes = oldest(&all, Slot::from_micros(now * DAY), kept);
            goes.map(|it| it.name.as_str()).collect()
        };
        assert_eq!(names(100), ["check_detail_2", "check_result_2"]);
        assert_eq!(names(22), ["check_detail_2", "check_result_2"]);
        assert!(names(21).is_empty());
    }
}
