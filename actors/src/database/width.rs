//! Which slots a partition holds. Pure.
//!
//! A query of one site looks into each partition of its range, so a few wide ones are best; what retention drops is a whole
//! partition, and what vacuum and an index work on is one, so they must not become huge.

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use sitewatch_config::PartitionWidth;

/// A half-open range of slots, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Span {
    pub(super) const EVER: Self = Self {
        from: i64::MIN,
        to: i64::MAX,
    };

    pub(super) fn contains(self, slot: i64) -> bool {
        self.from <= slot && slot < self.to
    }
}

/// With more checks a day than this, a month is more than 30 million rows: 3 GB.
const MONTHLY: f64 = 1e6;

/// With more checks a day than this, a week is more than 35 million rows.
const WEEKLY: f64 = 5e6;

/// The width for so many checks a day. Of an unknown number, as before any site is announced, nothing is made that would have
/// to be lived with for long.
pub(super) fn width_for(checks_a_day: f64) -> PartitionWidth {
    if checks_a_day <= 0.0 || checks_a_day > WEEKLY {
        PartitionWidth::Day
    } else if checks_a_day > MONTHLY {
        PartitionWidth::Week
    } else {
        PartitionWidth::Month
    }
}

/// The day, week or month around `slot`, from midnight to midnight UTC; a week begins on Monday.
pub(super) fn period(width: PartitionWidth, slot: i64) -> Span {
    let date = |timestamp: Timestamp| timestamp.to_zoned(TimeZone::UTC).date();
    let Some((first, next)) = Timestamp::from_microsecond(slot)
        .ok()
        .and_then(|timestamp| around(width, date(timestamp)))
    else {
        // Slots of other millennia are set aside long before.
        return Span::EVER;
    };
    Span {
        from: midnight(first),
        to: midnight(next),
    }
}

/// The first day, and the one after the last.
fn around(width: PartitionWidth, date: Date) -> Option<(Date, Date)> {
    let (first, length) = match width {
        PartitionWidth::Day => (date, 1.day()),
        PartitionWidth::Week => {
            let days = date.weekday().since(Weekday::Monday);
            (date.checked_sub(days.days()).ok()?, 1.week())
        }
        PartitionWidth::Month => (date.first_of_month(), 1.month()),
    };
    Some((first, first.checked_add(length).ok()?))
}

fn midnight(date: Date) -> i64 {
    let day = date.to_zoned(TimeZone::UTC);
    // Of a date, which has a midnight in UTC.
    day.map_or(i64::MAX, |day| day.timestamp().as_microsecond())
}

/// The partition to make for `slot`: the period around it, but cut where others already are (they may be of another width).
/// `None` if one is there.
pub(super) fn plan(slot: i64, width: PartitionWidth, existing: &[Span]) -> Option<Span> {
    if existing.iter().any(|span| span.contains(slot)) {
        return None;
    }
    let Span { from, to } = period(width, slot);
    let before = existing.iter().map(|span| span.to);
    let after = existing.iter().map(|span| span.from);
    Some(Span {
        from: before.filter(|to| *to <= slot).fold(from, i64::max),
        to: after.filter(|from| *from > slot).fold(to, i64::min),
    })
}

/// The partitions among `existing` that hold nothing before `free`, and would not be made as they are: they are of another
/// width.
pub(super) fn misfits(existing: &[Span], free: i64, width: PartitionWidth) -> Vec<Span> {
    let (mut kept, mut open): (Vec<Span>, Vec<Span>) =
        existing.iter().partition(|span| span.from < free);
    open.sort();
    let mut misfits = Vec::new();
    for span in open {
        if plan(span.from, width, &kept) == Some(span) {
            kept.push(span);
        } else {
            misfits.push(span);
        }
    }
    misfits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Slot;

    const DAY: i64 = 86_400_000_000;
    const WIDTHS: [PartitionWidth; 3] = [
        PartitionWidth::Day,
        PartitionWidth::Week,
        PartitionWidth::Month,
    ];

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        let told = |width| {
            let span = period(width, at("2028-02-29T23:59:59.999999Z"));
            [span.from, span.to].map(|slot| Slot::from_micros(slot).date())
        };
        assert_eq!(told(PartitionWidth::Day), ["2028-02-29", "2028-03-01"]);
        assert_eq!(told(PartitionWidth::Week), ["2028-02-28", "2028-03-06"]);
        assert_eq!(told(PartitionWidth::Month), ["2028-02-01", "2028-03-01"]);
        let monday = at("2026-11-23T00:00:00Z");
        assert_eq!(period(PartitionWidth::Week, monday).from, monday);
    }

    #[test]
    fn the_width_follows_the_number_of_checks() {
        let sites = |number: f64, seconds: f64| width_for(number * 86_400.0 / seconds);
        assert_eq!(width_for(0.0), PartitionWidth::Day);
        assert_eq!(sites(5.0, 60.0), PartitionWidth::Month);
        assert_eq!(sites(1_000.0, 300.0), PartitionWidth::Month);
        assert_eq!(sites(1_000.0, 60.0), PartitionWidth::Week);
        assert_eq!(sites(10_000.0, 60.0), PartitionWidth::Day);
    }

    #[test]
    fn partitions_ahead_of_another_width_are_misfits_and_those_in_use_are_not() {
        let days: Vec<Span> = (23..30)
            .map(|day| period(PartitionWidth::Day, at(&format!("2026-11-{day}T00:00:00Z"))))
            .collect();
        let free = at("2026-11-26T12:00:00Z");
        assert_eq!(misfits(&days, free, PartitionWidth::Day), []);
        assert_eq!(misfits(&days, free, PartitionWidth::Week), days[4..]);
        // The rest of the month is what would be made beside what stays.
        let rest = plan(days[4].from, PartitionWidth::Month, &days[..4]).unwrap();
        let months = [&days[..4], &[rest]].concat();
        assert_eq!(misfits(&months, free, PartitionWidth::Month), []);
        assert_eq!(misfits(&months, free, PartitionWidth::Day), [rest]);
    }

    proptest! {
        #[test]
        fn partitions_cover_every_slot_and_never_overlap(
            steps in prop::collection::vec((0i64..400, 0usize..3), 1..60)
        ) {
            let mut existing: Vec<Span> = Vec::new();
            for (day, width) in steps {
                let slot = 20_000 * DAY + day * DAY + 12_345;
                if let Some(span) = plan(slot, WIDTHS[width], &existing) {
                    prop_assert!(span.contains(slot));
                    prop_assert!(existing.iter().all(|other| span.to <= other.from || other.to <= span.from));
                    existing.push(span);
                } else {
                    prop_assert!(existing.iter().any(|span| span.contains(slot)));
                }
            }
        }
    }
}
