//! The instant at which a check is due.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The instant at which a check is due, in microseconds since 1970 UTC: with the site and the location it is the check's
/// identity. Written as RFC 3339 with six decimals, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(i64);

impl Slot {
    /// Microseconds of an hour.
    pub const HOUR: i64 = 3_600_000_000;

    /// From microseconds since 1970 UTC.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From seconds since 1970 UTC, or the nearest instant of the years 0 to 9999 that can be written: certificates without an end say
    /// the last second of 9999, which is beyond what others' clocks show west of Greenwich.
    pub fn nearest_to(seconds: i64) -> Self {
        Self(seconds.clamp(-62_167_219_200, 253_402_207_200) * 1_000_000)
    }

    /// Microseconds since 1970 UTC.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The wall clock's reading, cut to microseconds.
    pub fn from_system_time(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(
                i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
            ),
        }
    }

    /// The day, in UTC.
    pub fn date(self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// As the standard library's wall-clock time.
    pub fn to_system_time(self) -> SystemTime {
        let distance = Duration::from_micros(self.0.unsigned_abs());
        if self.0 < 0 {
            UNIX_EPOCH - distance
        } else {
            UNIX_EPOCH + distance
        }
    }

    /// The start of the stretch of `micros` microseconds, counted from 1970 UTC, in which this is.
    pub fn floor(self, micros: i64) -> Self {
        Self(self.0 - self.0.rem_euclid(micros))
    }

    /// The instant so long after this one.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(by))
    }

    /// How far `self` is after `earlier`, in microseconds; negative if it is before.
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{} µs since 1970", self.0),
        }
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rfc3339;
        impl de::Visitor<'_> for Rfc3339 {
            type Value = Slot;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant such as 2026-01-31T12:00:00.000000Z")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Slot, E> {
                let timestamp: Timestamp = text.parse().map_err(E::custom)?;
                Ok(Slot(timestamp.as_microsecond()))
            }
        }
        deserializer.deserialize_str(Rfc3339)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_time_round_trip(micros in -62_000_000_000_000_000i64..250_000_000_000_000_000) {
            let slot = Slot::from_micros(micros);
            let text = serde_json::to_string(&slot).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(serde_json::from_str::<Slot>(&text).ok(), Some(slot));
            prop_assert_eq!(Slot::from_system_time(slot.to_system_time()), slot);
        }
    }

    #[test]
    fn what_no_calendar_has_becomes_the_nearest_that_it_has() {
        let shown = |seconds| Slot::nearest_to(seconds).to_string();
        assert_eq!(shown(1_700_000_000), "2023-11-14T22:13:20.000000Z");
        // 99991231235959Z, RFC 5280, 4.1.2.5.
        assert_eq!(shown(253_402_300_799), "9999-12-30T22:00:00.000000Z");
        assert_eq!(shown(i64::MAX), "9999-12-30T22:00:00.000000Z");
        assert_eq!(shown(i64::MIN), "0000-01-01T00:00:00.000000Z");
    }

    #[test]
    fn it_reads_as_people_write_it() {
        assert_eq!(
            Slot::from_micros(1_700_000_000_250_000).to_string(),
            "2023-11-14T22:13:20.250000Z"
        );
    }
}
