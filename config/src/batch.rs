//! How the writer groups rows into transactions.

use std::time::Duration;

use crate::fields::Fields;

/// Limits of one batch: whichever is reached first closes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// The most rows in a transaction.
    pub max_rows: usize,
    /// The longest a row waits for others.
    pub max_age: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        BatchSettings {
            max_rows: 5000,
            max_age: Duration::from_secs(1),
        }
    }
}

pub(crate) fn read(postgres: &Fields<'_>) -> BatchSettings {
    let default = BatchSettings::default();
    let batch = postgres.section("batch");
    let age = Duration::from_millis(1)..=Duration::from_secs(3600);
    let settings = BatchSettings {
        max_rows: batch
            .item("max_rows")
            .and_then(|item| item.whole(1..=100_000))
            .unwrap_or(default.max_rows),
        max_age: batch
            .item("max_age")
            .and_then(|item| item.duration(age))
            .unwrap_or(default.max_age),
    };
    batch.finish();
    settings
}
