//! The PostgreSQL connection and what is written there.

use std::time::Duration;

use crate::batch::{self, BatchSettings};
use crate::fields::Fields;
use crate::item::{Item, missing};
use crate::mask::{mask_password, quote};
use crate::postgres_url::PostgresUrl;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Settings of the PostgreSQL connection and its tables.
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresSettings {
    /// Where the database is.
    pub url: Option<PostgresUrl>,
    /// How rows are grouped into transactions.
    pub batch: BatchSettings,
    /// The width of a partition of `check_result`, in days.
    pub partition_days: u16,
    /// Results with an older slot are taken for mistakes and go to `dead_letter`.
    pub max_slot_age: Duration,
    /// Results with a slot further in the future are taken for mistakes and go to `dead_letter`.
    pub max_slot_ahead: Duration,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        PostgresSettings {
            url: None,
            batch: BatchSettings::default(),
            partition_days: 7,
            max_slot_age: 90 * DAY,
            max_slot_ahead: DAY,
        }
    }
}

pub(crate) fn read(root: &Fields<'_>) -> PostgresSettings {
    let default = PostgresSettings::default();
    let postgres = root.section("postgres");
    let duration = |name, range| postgres.item(name).and_then(|item| item.duration(range));
    let settings = PostgresSettings {
        url: postgres.item("url").and_then(|item| url(&item)),
        batch: batch::read(&postgres),
        partition_days: postgres
            .item("partition_days")
            .and_then(|item| item.whole(1..=366))
            .unwrap_or(default.partition_days),
        max_slot_age: duration("max_slot_age", HOUR..=36_525 * DAY).unwrap_or(default.max_slot_age),
        max_slot_ahead: duration("max_slot_ahead", HOUR / 60..=366 * DAY)
            .unwrap_or(default.max_slot_ahead),
    };
    postgres.finish();
    settings
}

fn url(item: &Item<'_>) -> Option<PostgresUrl> {
    let config::ValueKind::String(text) = &item.value.kind else {
        return item.wrong_type("a URL such as postgres://user:password@host:5432/database");
    };
    let shown = quote(&mask_password(text.trim()));
    let url = match PostgresUrl::parse(text.trim(), &item.folder()) {
        Ok(url) => url,
        Err(expected) => return item.found(shown, expected),
    };
    match url.root_cert().and_then(missing) {
        Some(why) => item.found(format!("{shown} (sslrootcert: {why})"), item.a_file()),
        None => Some(url),
    }
}
