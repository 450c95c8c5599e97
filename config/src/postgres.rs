//! The PostgreSQL connection and what is written there.

use std::time::Duration;

use crate::batch::{self, BatchSettings};
use crate::fields::Fields;
use crate::item::{Item, missing};
use crate::mask::{mask_password, quote};
use crate::postgres_url::PostgresUrl;
use crate::retention::{self, Retention};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Settings of the PostgreSQL connection and its tables.
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresSettings {
    /// Where the database is.
    pub url: Option<PostgresUrl>,
    /// Who may change the schema.
    pub migrate: Migrate,
    /// The longest that PostgreSQL works on one statement.
    pub statement_timeout: Duration,
    /// The longest that a statement waits for a lock, as of another consumer.
    pub lock_timeout: Duration,
    /// The longest that a transaction waits for its next statement: what a stopped process may hold up its successor.
    pub idle_in_transaction_timeout: Duration,
    /// How rows are grouped into transactions.
    pub batch: BatchSettings,
    /// How many transactions are under way at once, each with a connection of its own; partition p of the topic has writer
    /// p modulo this. Unless set, one for two cores, at most four.
    pub writers: Option<usize>,
    /// The width of a partition of the checks; unless set, it follows the number of checks that the sites announce.
    pub partition_width: Option<PartitionWidth>,
    /// How long rows are kept.
    pub retention: Retention,
    /// Results with an older slot are taken for mistakes and go to `dead_letter`.
    pub max_slot_age: Duration,
    /// Results with a slot further in the future are taken for mistakes and go to `dead_letter`.
    pub max_slot_ahead: Duration,
}

/// Who brings the schema of the database up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrate {
    /// Whoever connects and finds an older one, or none.
    #[default]
    Auto,
    /// Only the command `migrate`.
    Never,
}

const MIGRATE: [(&str, Migrate); 2] = [("auto", Migrate::Auto), ("never", Migrate::Never)];

/// The width of a partition: a day, a week from Monday on, or a month, each from midnight UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum PartitionWidth {
    Day,
    Week,
    Month,
}

const WIDTHS: [(&str, Option<PartitionWidth>); 4] = [
    ("auto", None),
    ("day", Some(PartitionWidth::Day)),
    ("week", Some(PartitionWidth::Week)),
    ("month", Some(PartitionWidth::Month)),
];

impl Default for PostgresSettings {
    fn default() -> Self {
        PostgresSettings {
            url: None,
            migrate: Migrate::default(),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(60),
            batch: BatchSettings::default(),
            writers: None,
            partition_width: None,
            retention: Retention::default(),
            max_slot_age: 90 * DAY,
            max_slot_ahead: HOUR / 12,
        }
    }
}

pub(crate) fn read(root: &Fields<'_>) -> PostgresSettings {
    let default = PostgresSettings::default();
    let postgres = root.section("postgres");
    let duration = |name, range| postgres.item(name).and_then(|item| item.duration(range));
    let timeout =
        |name, default| duration(name, Duration::from_millis(100)..=24 * HOUR).unwrap_or(default);
    let max_slot_age =
        duration("max_slot_age", HOUR..=36_525 * DAY).unwrap_or(default.max_slot_age);
    let settings = PostgresSettings {
        url: postgres.item("url").and_then(|item| url(&item)),
        migrate: postgres
            .item("migrate")
            .and_then(|item| item.choice(&MIGRATE))
            .unwrap_or(default.migrate),
        statement_timeout: timeout("statement_timeout", default.statement_timeout),
        lock_timeout: timeout("lock_timeout", default.lock_timeout),
        idle_in_transaction_timeout: timeout(
            "idle_in_transaction_timeout",
            default.idle_in_transaction_timeout,
        ),
        batch: batch::read(&postgres),
        writers: postgres.item("writers").and_then(|item| item.whole(1..=64)),
        partition_width: postgres
            .item("partition_width")
            .and_then(|item| item.choice(&WIDTHS))
            .unwrap_or(default.partition_width),
        retention: retention::read(&postgres, max_slot_age),
        max_slot_age,
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
    let absent = url
        .files()
        .find_map(|(name, path)| Some((name, missing(path)?)));
    match absent {
        Some((name, why)) => item.found(format!("{shown} ({name}: {why})"), item.a_file()),
        None => Some(url),
    }
}
