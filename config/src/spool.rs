//! The producer's spool: where results are kept until Kafka has them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ValueKind;

use crate::fields::Fields;
use crate::item::Item;

/// Settings of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// Its folder, of one producer only.
    pub dir: PathBuf,
    /// The most bytes that it takes on the disk.
    pub max_bytes: u64,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// How long a result waits for others to be made durable with it.
    pub sync_interval: Duration,
}

/// What happens when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Sites wait; what they can't check meanwhile is reported as `missed`.
    Block,
    /// The oldest results go, counted and logged.
    DropOldest,
}

impl SpoolSettings {
    /// The settings in force unless others are written.
    pub(crate) fn below(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("spool"),
            max_bytes: 1 << 30,
            when_full: WhenFull::Block,
            sync_interval: Duration::from_millis(50),
        }
    }
}

/// A spool holds at least a few segments.
const LEAST: u64 = 16 << 20;

pub(crate) fn read(root: &Fields<'_>, data_dir: &Path) -> SpoolSettings {
    const POLICIES: [(&str, WhenFull); 2] = [
        ("block", WhenFull::Block),
        ("drop_oldest", WhenFull::DropOldest),
    ];
    let default = SpoolSettings::below(data_dir);
    let spool = root.section("spool");
    let settings = SpoolSettings {
        dir: spool
            .item("dir")
            .and_then(|item| item.path())
            .unwrap_or(default.dir),
        max_bytes: spool
            .item("max_bytes")
            .and_then(|item| size(&item))
            .unwrap_or(default.max_bytes),
        when_full: spool
            .item("when_full")
            .and_then(|item| item.choice(&POLICIES))
            .unwrap_or(default.when_full),
        sync_interval: spool
            .item("sync_interval")
            .and_then(|item| item.duration(Duration::ZERO..=Duration::from_secs(10)))
            .unwrap_or(default.sync_interval),
    };
    spool.finish();
    settings
}

/// A number of bytes, or one with a unit.
fn size(item: &Item<'_>) -> Option<u64> {
    let expected = "a size from 16MiB to 1PiB, such as 500MB, 2GiB or a number of bytes";
    let bytes = match &item.value.kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::U64(number) => Some(*number),
        ValueKind::String(text) => parse(text),
        _ => None,
    };
    bytes
        .filter(|bytes| (LEAST..=1 << 50).contains(bytes))
        .or_else(|| item.wrong(expected))
}

fn parse(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("b", 1),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let text = text.trim();
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let unit = unit.trim().to_ascii_lowercase();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("17000000", Some(17_000_000)),
            ("2GiB", Some(2 << 30)),
            ("500 MB", Some(500_000_000)),
            ("1tib", Some(1 << 40)),
            ("1.5GB", None),
            ("GB", None),
            ("5 parsecs", None),
            ("99999999999TB", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }
}
