//! The time by which rows are too old: never by one clock alone, since what it destroys can't be brought back.

use std::time::Duration;

use crate::{database::Clocks, model::Slot};

/// The most by which the present is later than the newest row, for the question what is too old. A database whose clock was set forward has
/// no rows of that time.
const NEWEST_REACHES: Duration = Duration::from_secs(86_400);

/// Returns the time by which rows are too old, given the `newest` one, if there are any; `None` while the clocks are too far apart.
pub(super) fn horizon(clocks: Clocks, newest: Option<Slot>) -> Option<Slot> {
    let believed = newest.map_or(clocks.database, |newest| {
        clocks.database.min(newest.later(NEWEST_REACHES))
    });
    clocks.agree().then_some(believed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn day(day: i64) -> Slot {
        Slot::from_micros(day * DAY)
    }

    #[test]
    fn one_clock_alone_makes_nothing_too_old() {
        let agreeing = Clocks::agreeing(day(400));
        assert_eq!(horizon(agreeing, None), Some(day(400)));
        assert_eq!(horizon(agreeing, Some(day(400))), Some(day(400)));
        // Both say the same, on one machine, and nothing was stored for so long.
        assert_eq!(horizon(agreeing, Some(day(10))), Some(day(11)));
        for (database, process) in [(400, 0), (0, 400), (400, 399)] {
            let clocks = Clocks {
                database: day(database),
                process: day(process),
            };
            assert_eq!(horizon(clocks, None), None);
        }
        let hour = Clocks {
            process: Slot::from_micros(400 * DAY - DAY / 24),
            ..agreeing
        };
        assert!(hour.agree() && hour.ahead_us() == -DAY / 24);
    }
}
