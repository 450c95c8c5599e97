//! The HTTP statuses a site may answer with.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use config::ValueKind;
use serde::{Serialize, Serializer};

use crate::item::Item;

/// A set of HTTP statuses, written as `200`, `200-299`, `2xx`, or several of these with commas between.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StatusSet {
    /// First and last of each range; sorted, without overlaps.
    ranges: Arc<[(u16, u16)]>,
}

/// Text that is not a set of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStatus;

impl StatusSet {
    /// Whether `status` is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.ranges
            .iter()
            .any(|&(first, last)| (first..=last).contains(&status))
    }

    /// First and last of each range.
    pub(crate) fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// A set of ranges in any order. They must be ranges of statuses, first before last.
    pub(crate) fn from_ranges(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        StatusSet {
            ranges: joined.into(),
        }
    }
}

/// One status, range or class.
pub(crate) fn parse_range(text: &str) -> Result<(u16, u16), InvalidStatus> {
    let text = text.trim().to_ascii_lowercase();
    let (first, last) = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) if class.len() == 1 => (
            status(&format!("{class}00"))?,
            status(&format!("{class}99"))?,
        ),
        (None, Some((first, last))) => (status(first.trim())?, status(last.trim())?),
        _ => (status(&text)?, status(&text)?),
    };
    if first <= last {
        Ok((first, last))
    } else {
        Err(InvalidStatus)
    }
}

fn status(text: &str) -> Result<u16, InvalidStatus> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|status| digits && (100..=999).contains(status))
        .ok_or(InvalidStatus)
}

impl Default for StatusSet {
    /// `200-299`.
    fn default() -> Self {
        StatusSet::from_ranges(vec![(200, 299)])
    }
}

impl FromStr for StatusSet {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, InvalidStatus> {
        let ranges: Result<Vec<_>, _> = text.split(',').map(parse_range).collect();
        ranges.map(StatusSet::from_ranges)
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for StatusSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusSet({self})")
    }
}

impl fmt::Display for InvalidStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an HTTP status such as 200, 200-299 or 2xx")
    }
}

impl Error for InvalidStatus {}

/// Statuses as they are written.
pub(crate) fn read(item: &Item<'_>) -> Option<StatusSet> {
    const EXPECTED: &str = "a status such as 200, 200-299 or 2xx, or a list of these";
    let one = |item: &Item<'_>| match &item.value.kind {
        ValueKind::I64(number) => parse_range(&number.to_string())
            .or_else(|_| item.wrong(EXPECTED).ok_or(()))
            .ok(),
        ValueKind::String(text) => parse_range(text)
            .or_else(|_| item.wrong(EXPECTED).ok_or(()))
            .ok(),
        _ => item.wrong_type(EXPECTED),
    };
    match &item.value.kind {
        ValueKind::Array(list) if list.is_empty() => item.found("an empty list", EXPECTED),
        ValueKind::Array(_) => {
            let ranges: Vec<Option<_>> = item.list(EXPECTED)?.iter().map(one).collect();
            ranges
                .into_iter()
                .collect::<Option<Vec<_>>>()
                .map(StatusSet::from_ranges)
        }
        ValueKind::String(text) if text.contains(',') => text
            .parse()
            .or_else(|_| item.wrong(EXPECTED).ok_or(()))
            .ok(),
        _ => one(item).map(|range| StatusSet::from_ranges(vec![range])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn joins_what_touches() {
        for (text, shown) in [
            ("200", "200"),
            ("2xx", "200-299"),
            ("4XX, 200, 301 - 302", "200,301-302,400-499"),
            ("200-250,240-299,300", "200-300"),
            ("999", "999"),
        ] {
            assert_eq!(text.parse::<StatusSet>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_is_no_status() {
        for text in [
            "", "20", "2000", "099", "299-200", "xx", "22xx", "0xx", "200-", "ok", "200,,201",
            "+20",
        ] {
            assert_eq!(text.parse::<StatusSet>(), Err(InvalidStatus), "{text}");
        }
    }

    proptest! {
        #[test]
        fn holds_just_what_was_put_in(
            ranges in proptest::collection::vec((100u16..=999, 0u16..50), 1..8),
            status in 0u16..1100,
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(first, more)| (first, (first + more).min(999))).collect();
            let set = StatusSet::from_ranges(ranges.clone());
            let expected = ranges.iter().any(|(first, last)| (first..=last).contains(&&status));
            prop_assert_eq!(set.contains(status), expected);
            prop_assert_eq!(set.to_string().parse::<StatusSet>(), Ok(set));
        }
    }
}
