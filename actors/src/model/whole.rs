//! Whole numbers as JSON has them: `1`, `1.0` and `1e0` are the same one.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, Visitor},
};

/// Reads a whole number. How large it may be, the schema says.
///
/// # Errors
/// For a number with a fraction, or one beyond 64 bits.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_any(Whole)
}

/// Reads a whole number where there is one.
///
/// # Errors
/// As [`whole`].
pub(super) fn whole_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<i64>, D::Error> {
    whole(deserializer).map(Some)
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
        i64::try_from(number).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<i64, E> {
        // Beyond 2^53 not each whole number has a float of its own.
        if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
            return Ok(number as i64);
        }
        Err(E::invalid_type(de::Unexpected::Float(number), &self))
    }
}
