//! The time by which rows are too old: never by one clock alone, since what it destroys can't be brought back.

use std::time::Duration;

use crate::model::Slot;

/// The most by which this machine's clock and the database's may differ. Sleeping machines and time zones set wrongly are further apart.
pub const MOST_APART: Duration = Duration::from_secs(3600);

/// The most by which the present is later than the newest row, for the question what is too old. A database whose clock was set forward has
/// no rows of that time.
const NEWEST_REACHES: i64 = 86_400_000_000;

/// What two clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The database's: that of all consumers.
    pub database: Slot,
    /// This process's.
    pub process: Slot,
}

impl Clocks {
    /// Two clocks that say the same.
    pub fn agreeing(now: Slot) -> Self {
        Self {
            database: now,
            process: now,
        }
    }

    /// By how much this process's clock is ahead of the database's, in microseconds.
    pub fn ahead_us(self) -> i64 {
        self.process.micros_since(self.database)
    }

    /// Whether they are near enough to each other to be believed.
    pub fn agree(self) -> bool {
        Duration::from_micros(self.ahead_us().unsigned_abs()) <= MOST_APART
    }

    /// The time by which rows are too old, given the `newest` one, if there are any; `None` while the clocks are too far apart.
    pub(super) fn horizon(self, newest: Option<Slot>) -> Option<Slot> {
        let reach = |newest: Slot| newest.as_micros().saturating_add(NEWEST_REACHES);
        let believed = newest.map_or(self.database, |newest| {
            self.database.min(Slot::from_micros(reach(newest)))
        });
        self.agree().then_some(believed)
    }
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
        assert_eq!(agreeing.horizon(None), Some(day(400)));
        assert_eq!(agreeing.horizon(Some(day(400))), Some(day(400)));
        // Both say the same, on one machine, and nothing was stored for so long.
        assert_eq!(agreeing.horizon(Some(day(10))), Some(day(11)));
        for (database, process) in [(400, 0), (0, 400), (400, 399)] {
            let clocks = Clocks {
                database: day(database),
                process: day(process),
            };
            assert_eq!(clocks.horizon(None), None);
        }
        let hour = Clocks {
            process: Slot::from_micros(400 * DAY - DAY / 24),
            ..agreeing
        };
        assert!(hour.agree() && hour.ahead_us() == -DAY / 24);
    }
}
