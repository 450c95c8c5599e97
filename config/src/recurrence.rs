//! What recurs: instants given by the fields of cron in a time zone, none left out when the clocks change.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

const DAY: i64 = 86_400_000_000; // microseconds

/// The fields of cron, read as the clock on the wall, and the zone of the clock.
///
/// A [`Cron`](crate::Cron) of a check leaves out a time that a change to summer time leaves out. Here such a time is moved by the
/// change, as RFC 5545 (3.3.5) has it, and one that comes twice is the first of the two: a window of maintenance that begins at
/// half past two is due on each day, once. What is due at any hour (`*`, also `*/2`) is due in both, as cron itself
/// has it.
pub struct Recurrence {
    wall: cronexpr::Crontab,
    zone: TimeZone,
    /// Whether the hour is any (`*`), or each second one and the like (`*/2`).
    is_of_any_hour: bool,
}

impl Recurrence {
    /// Reads `minute hour day month weekday Time/Zone`.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn new(text: &str) -> Result<Self, String> {
        // All of it is read once as it is, for its errors.
        crate::Cron::new(text)?;
        let (fields, zone) = text
            .trim()
            .rsplit_once(char::is_whitespace)
            .ok_or("five fields and a time zone")?;
        let zone = TimeZone::get(zone).map_err(|error| error.to_string())?;
        let wall = cronexpr::parse_crontab(&format!("{fields} UTC"));
        let wall = wall.map_err(|error| error.to_string())?;
        let hour = fields.split_whitespace().nth(1);
        Ok(Self {
            wall,
            zone,
            is_of_any_hour: hour.is_some_and(|hour| hour.starts_with('*') || hour == "0-23"),
        })
    }

    /// The instants from `from` to before `to`, in microseconds since 1970 UTC.
    pub fn between(&self, from: i64, to: i64) -> Vec<i64> {
        let mut found = Vec::new();
        let Some(mut wall) = self.wall_before(from) else {
            return found;
        };
        // A day more: no change of clocks is larger.
        let last = to.saturating_add(DAY);
        while let Ok(next) = self.wall.find_next(cronexpr::MakeTimestamp(wall)) {
            wall = next.timestamp();
            let instants = self.instants(Offset::UTC.to_datetime(wall));
            if instants.is_empty() || instants.iter().all(|instant| *instant >= last) {
                break;
            }
            found.extend(instants.into_iter().filter(|it| (from..to).contains(it)));
        }
        // Where the clocks are set back, those of the second time come with those of the first; those that a change moves meet others.
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What the wall said a day before, as if that were UTC: no change of clocks is larger.
    fn wall_before(&self, micros: i64) -> Option<jiff::Timestamp> {
        let instant = jiff::Timestamp::from_microsecond(micros.saturating_sub(DAY)).ok()?;
        let wall = self.zone.to_datetime(instant);
        Offset::UTC.to_timestamp(wall).ok()
    }

    /// When the wall says so: twice, where that counts.
    fn instants(&self, wall: DateTime) -> Vec<i64> {
        let ambiguous = self.zone.to_ambiguous_zoned(wall);
        let both = match (ambiguous.offset(), self.is_of_any_hour) {
            (AmbiguousOffset::Fold { .. }, true) => {
                vec![ambiguous.clone().earlier(), ambiguous.later()]
            }
            _ => vec![ambiguous.compatible()],
        };
        let instants = both.into_iter().flatten();
        instants
            .map(|zoned| zoned.timestamp().as_microsecond())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, from: &str, to: &str) -> Vec<String> {
        let micros = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        let found = Recurrence::new(text)
            .unwrap()
            .between(micros(from), micros(to));
        let show = |micros| {
            jiff::Timestamp::from_microsecond(micros)
                .unwrap()
                .to_string()
        };
        found.into_iter().map(show).collect()
    }

    #[test]
    fn it_keeps_to_the_clock_on_the_wall_and_leaves_nothing_out() {
        // 2026-03-29: 02:30 does not exist in Berlin; on 2026-10-25 it comes twice.
        assert_eq!(
            shown(
                "30 2 * * * Europe/Berlin",
                "2026-03-28T00:00:00Z",
                "2026-03-31T00:00:00Z"
            ),
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
        assert_eq!(
            shown(
                "30 2 * * * Europe/Berlin",
                "2026-10-24T12:00:00Z",
                "2026-10-27T00:00:00Z"
            ),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            shown(
                "0 23 * * SUN America/New_York",
                "2026-11-01T00:00:00Z",
                "2026-11-10T00:00:00Z"
            ),
            ["2026-11-02T04:00:00Z", "2026-11-09T04:00:00Z"]
        );
    }

    #[test]
    fn what_is_due_at_any_hour_is_due_in_the_one_that_comes_twice() {
        let hourly = shown(
            "30 * * * * Europe/Berlin",
            "2026-10-24T23:00:00Z",
            "2026-10-25T03:00:00Z",
        );
        let hours = ["23", "00", "01", "02"].map(|hour| {
            let day = if hour == "23" { 24 } else { 25 };
            format!("2026-10-{day}T{hour}:30:00Z")
        });
        assert_eq!(hourly, hours);
        // Up to the middle of the second time, whose beginning is after the end of the first.
        let often = shown(
            "*/20 * * * * Europe/Berlin",
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:30:00Z",
        );
        assert_eq!(often.len(), 5, "{often:?}");
        // None is left out either where clocks are set forward.
        let spring = shown(
            "30 * * * * Europe/Berlin",
            "2026-03-29T00:00:00Z",
            "2026-03-29T03:00:00Z",
        );
        assert_eq!(spring.len(), 3, "{spring:?}");
    }

    #[test]
    fn its_bounds_are_from_and_before_to() {
        let hourly = |from, to| shown("0 * * * * UTC", from, to).len();
        assert_eq!(hourly("2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"), 2);
        assert_eq!(
            hourly("2026-01-01T00:00:00.000001Z", "2026-01-01T02:00:00.000001Z"),
            2
        );
        assert!(
            Recurrence::new("0 * * * *").is_err() && Recurrence::new("0 0 30 2 * UTC").is_err()
        );
    }
}
