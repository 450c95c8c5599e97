//! How long what is stored is kept.

use std::time::Duration;

use config::ValueKind;

use crate::fields::Fields;
use crate::item::Item;

/// How long each class of rows is kept; `None` is for ever, which is the default: nothing is deleted that nobody said. Each
/// class is kept at least as long as the one before, from which it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Each check: `check_result` and `check_detail`.
    pub raw: Option<Duration>,
    /// `rollup_hour`.
    pub hourly: Option<Duration>,
    /// `rollup_day`.
    pub daily: Option<Duration>,
    /// How long a partition that is too old stays as a table of its own before it is dropped.
    pub grace: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            raw: None,
            hourly: None,
            daily: None,
            grace: 7 * DAY,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// `oldest` is the age of a slot that is still stored: its partition must not be on its way out.
pub(crate) fn read(postgres: &Fields<'_>, oldest: Duration) -> Retention {
    let section = postgres.section("retention");
    let days = oldest.as_secs().div_ceil(DAY.as_secs()) + 1;
    let least = Some(DAY * u32::try_from(days).unwrap_or(u32::MAX));
    let because = "results as old as postgres.max_slot_age are still stored";
    let raw = class(&section, "raw", least, because);
    // What is unset is kept for ever, so it needs no longer one before it.
    let hourly = class(&section, "hourly", raw, "raw is kept so long");
    let daily = class(&section, "daily", hourly, "hourly is kept so long");
    let grace = section.item("grace");
    let grace = grace.and_then(|item| item.duration(Duration::ZERO..=366 * DAY));
    section.finish();
    Retention {
        raw,
        hourly,
        daily,
        grace: grace.unwrap_or(Retention::default().grace),
    }
}

fn class(
    section: &Fields<'_>,
    name: &'static str,
    least: Option<Duration>,
    because: &str,
) -> Option<Duration> {
    let item = section.item(name)?;
    let age = age(&item)??;
    match least {
        Some(least) if age >= least => Some(age),
        Some(least) => item.wrong(format!(
            "forever, or at least {}d: {because}",
            least.as_secs() / DAY.as_secs()
        )),
        None => item.wrong(format!("forever: {because}")),
    }
}

/// A duration, or `forever`.
fn age(item: &Item<'_>) -> Option<Option<Duration>> {
    let words = match &item.value.kind {
        ValueKind::String(text) => text.trim(),
        _ => "",
    };
    if words == "forever" {
        return Some(None);
    }
    let age = humantime::parse_duration(words).ok();
    age.filter(|age| (DAY..=36_525 * DAY).contains(age))
        .map(Some)
        .or_else(|| item.wrong("forever, or an age from 1d to 100y, such as 90d or 2y"))
}
