//! What a site is to people: its group, its tags, and how well it is to be.

use std::time::Duration;

use config::ValueKind;
use serde::{Serialize, Serializer};

use crate::fields::Fields;
use crate::item::Item;
use crate::written::as_written;

const LONGEST_WORD: usize = 128;

const MOST_TAGS: usize = 32;

const MOST_NAMES: usize = 32;

const LONGEST_NAME: usize = 512;

const DAY: Duration = Duration::from_secs(86_400);

/// What a site is to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct AboutOptions {
    /// The one group that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Words by which it is found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How well it is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sla: Option<Sla>,
}

/// A service level objective: how much uptime over how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Sla {
    /// Millionths of all checks that are to be up or degraded: 999,000 is 99.9 %.
    #[serde(serialize_with = "as_percent", rename = "target")]
    pub target_ppm: u32,
    /// The stretch of time up to now over which it is counted.
    #[serde(serialize_with = "as_written")]
    pub window: Duration,
}

impl Sla {
    /// The target in percent.
    pub fn target_percent(&self) -> f64 {
        f64::from(self.target_ppm) / 10_000.0
    }
}

fn as_percent<S: Serializer>(ppm: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(f64::from(*ppm) / 10_000.0)
}

pub(crate) fn read(fields: &Fields<'_>, base: &AboutOptions) -> AboutOptions {
    AboutOptions {
        group: fields
            .item("group")
            .and_then(|item| word(&item, "the name of a group"))
            .or_else(|| base.group.clone()),
        tags: fields
            .item("tags")
            .and_then(|item| tags(&item))
            .unwrap_or_else(|| base.tags.clone()),
        sla: sla(fields).or(base.sla),
    }
}

/// The names that a site had before.
pub(crate) fn former_names(item: &Item<'_>) -> Vec<String> {
    const EXPECTED: &str = "the name that the site had, or a list of them";
    let names = item.texts(EXPECTED).unwrap_or_default();
    if names.len() > MOST_NAMES || names.iter().any(|name| name.len() > LONGEST_NAME) {
        let expected = format!("at most {MOST_NAMES} names, each of at most {LONGEST_NAME} bytes");
        return item.wrong(expected).unwrap_or_default();
    }
    names
}

fn word(item: &Item<'_>, expected: &str) -> Option<String> {
    let text = item.text(expected)?;
    if text.len() > LONGEST_WORD {
        return item.wrong(format!("{expected}, of at most {LONGEST_WORD} bytes"));
    }
    Some(text.to_owned())
}

fn tags(item: &Item<'_>) -> Option<Vec<String>> {
    let mut tags = item.texts("a tag, or a list of them")?;
    tags.sort();
    tags.dedup();
    if tags.len() > MOST_TAGS || tags.iter().any(|tag| tag.len() > LONGEST_WORD) {
        return item.wrong(format!(
            "at most {MOST_TAGS} tags, each of at most {LONGEST_WORD} bytes"
        ));
    }
    Some(tags)
}

/// `99.9`, or `{ target: 99.9, window: 30d }`.
fn sla(fields: &Fields<'_>) -> Option<Sla> {
    const WINDOW: Duration = Duration::from_secs(30 * 86_400);
    let item = fields.item("sla")?;
    if !matches!(item.value.kind, ValueKind::Table(_)) {
        return Some(Sla {
            target_ppm: target(&item)?,
            window: WINDOW,
        });
    }
    let section = fields.section("sla");
    let target_item = section.item("target");
    if target_item.is_none() {
        section.missing(
            "target",
            "the uptime in percent that is the target, such as 99.9",
        );
    }
    let window = section.item("window");
    let window = window.map_or(Some(WINDOW), |item| {
        item.duration(Duration::from_secs(3600)..=366 * DAY)
    });
    section.finish();
    Some(Sla {
        target_ppm: target(&target_item?)?,
        window: window?,
    })
}

fn target(item: &Item<'_>) -> Option<u32> {
    let percent = item.number()?;
    let ppm = (percent * 10_000.0).round();
    // The nearest that is told apart from all.
    if !(10_000.0..=999_999.0).contains(&ppm) {
        return item.wrong("an uptime in percent, from 1 to 99.9999, such as 99.9");
    }
    Some(ppm as u32)
}
