//! When a site is checked.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::fields::Fields;
use crate::item::Item;
use crate::written::as_written;

const DAY: Duration = Duration::from_secs(86_400);

/// The total time of a check is stored in microseconds, in 31 bits: 35 minutes.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The longest calendar that a message holds, in bytes.
const LONGEST_CRON: usize = 256;

/// When a site is checked, and how often before a failure counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ScheduleOptions {
    /// The time from one check to the next, unless `cron` is given.
    #[serde(serialize_with = "as_written")]
    pub interval: Duration,
    /// Instants given by a calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// How long an attempt may take, body and redirects included.
    #[serde(serialize_with = "as_written")]
    pub timeout: Duration,
    /// How often a failure is checked again before it is reported.
    pub retries: u8,
    /// The pause before each retry.
    #[serde(serialize_with = "as_written")]
    pub retry_delay: Duration,
    /// Which of the name's addresses are checked.
    pub resolve: Resolve,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        ScheduleOptions {
            interval: Duration::from_secs(60),
            cron: None,
            timeout: Duration::from_secs(10),
            retries: 0,
            retry_delay: Duration::from_secs(1),
            resolve: Resolve::Any,
        }
    }
}

/// Which of a name's addresses are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolve {
    /// Whichever answers first.
    Any,
    /// Each of them, as a site of its own, `name@address`.
    Each,
}

/// Instants given by five fields, as cron has them, and a time zone.
#[derive(Clone)]
pub struct Cron {
    text: Arc<str>,
    tab: Arc<cronexpr::Crontab>,
}

impl Cron {
    /// Reads `minute hour day month weekday Time/Zone`.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let tab = cronexpr::parse_crontab(text).map_err(|error| {
            let text = error.to_string();
            let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
            last.unwrap_or_default().trim_start_matches("^ ").to_owned()
        })?;
        // Where clocks are set back by half an hour, as on Lord Howe, cronexpr 1.7 looks for the next instant without an end.
        if let Some(zone) = text.split_whitespace().last()
            && !changes_by_whole_hours(zone)
        {
            return Err(format!(
                "the clocks of {zone} change by a part of an hour, which is not supported; write it in UTC"
            ));
        }
        let cron = Cron {
            text: text.into(),
            tab: Arc::new(tab),
        };
        match cron.next_after(0) {
            Some(_) => Ok(cron),
            None => Err("it never comes".to_owned()),
        }
    }

    /// The first instant after `micros`, both in microseconds since 1970 UTC. `None` when there is none: such a text is
    /// refused when it is read.
    pub fn next_after(&self, micros: i64) -> Option<i64> {
        let from = jiff::Timestamp::from_microsecond(micros).ok()?;
        let next = self.tab.find_next(cronexpr::MakeTimestamp(from)).ok()?;
        Some(next.timestamp().as_microsecond())
    }

    /// The instants from `from` to before `to`, in microseconds since 1970 UTC, each once.
    pub fn between(&self, from: i64, to: i64) -> impl Iterator<Item = i64> {
        let after = |last: i64| self.next_after(last).filter(|next| *next > last);
        std::iter::successors(after(from - 1), move |last| after(*last))
            .take_while(move |next| *next < to)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether the offset of a time zone has changed by whole hours only, of late and in the years to come.
fn changes_by_whole_hours(zone: &str) -> bool {
    let Ok(zone) = jiff::tz::TimeZone::get(zone) else {
        return true;
    };
    let mut last = zone.to_offset(OF_LATE);
    zone.following(OF_LATE).take(8).all(|change| {
        let before = std::mem::replace(&mut last, change.offset());
        (last.seconds() - before.seconds()) % 3600 == 0
    })
}

/// 2024: what clocks did before is not asked any more.
const OF_LATE: jiff::Timestamp = jiff::Timestamp::constant(1_704_067_200, 0);

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl Hash for Cron {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

pub(crate) fn read(fields: &Fields<'_>, base: &ScheduleOptions) -> ScheduleOptions {
    const RESOLVE: [(&str, Resolve); 2] = [("any", Resolve::Any), ("each", Resolve::Each)];
    let duration = |name, range, base| {
        fields
            .item(name)
            .and_then(|item| item.duration(range))
            .unwrap_or(base)
    };
    let interval_item = fields.item("interval");
    let cron_item = fields.item("cron");
    if let (Some(_), Some(cron)) = (&interval_item, &cron_item) {
        cron.found::<()>("`cron` beside `interval`", "only one of them");
    }
    // A site's interval takes the place of a cron of the defaults.
    let cron = match (&interval_item, &cron_item) {
        (Some(_), None) => None,
        (_, Some(item)) => cron_of(item),
        (None, None) => base.cron.clone(),
    };
    ScheduleOptions {
        interval: interval_item
            .and_then(|item| item.duration(Duration::from_secs(1)..=DAY))
            .unwrap_or(base.interval),
        cron,
        timeout: duration(
            "timeout",
            Duration::from_millis(1)..=LONGEST_TIMEOUT,
            base.timeout,
        ),
        retries: fields
            .item("retries")
            .and_then(|item| item.whole(0..=10))
            .unwrap_or(base.retries),
        retry_delay: duration(
            "retry_delay",
            Duration::ZERO..=LONGEST_TIMEOUT,
            base.retry_delay,
        ),
        resolve: fields
            .item("resolve")
            .and_then(|item| item.choice(&RESOLVE))
            .unwrap_or(base.resolve),
    }
}

fn cron_of(item: &Item<'_>) -> Option<Cron> {
    const EXPECTED: &str =
        "five fields and a time zone, such as */5 8-18 * * MON-FRI Europe/Berlin";
    let text = item.text(EXPECTED)?;
    if text.len() > LONGEST_CRON {
        return item.wrong(format!("{EXPECTED}, of at most {LONGEST_CRON} bytes"));
    }
    Cron::new(text)
        .or_else(|why| item.wrong(format!("{EXPECTED} ({why})")).ok_or(()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_knows_daylight_saving() {
        let cron = Cron::new("30 2 * * * Europe/Berlin").unwrap();
        // 2026-03-29: 02:30 does not exist in Berlin.
        let before: jiff::Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
        let next = cron.next_after(before.as_microsecond()).unwrap();
        let shown = jiff::Timestamp::from_microsecond(next).unwrap();
        assert_eq!(shown.to_string(), "2026-03-30T00:30:00Z");
    }

    #[test]
    fn what_is_no_calendar_is_told() {
        for text in [
            "* * * * *",
            "61 * * * * UTC",
            "* * * * * Moon/Base",
            "30 5 * * * Australia/Lord_Howe",
        ] {
            let why = Cron::new(text).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{text}: {why}");
        }
    }
}
