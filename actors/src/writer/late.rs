//! Rows that come after the rollups of their hour were made: noted in the transaction that adds them, so that the hour is
//! computed again. `rollup_state` and `rollup_dirty` of `schema.sql` say how the two keep out of each other's way.

use std::{collections::BTreeSet, time::SystemTime};

use tokio_postgres::{Error, Transaction};

use super::origins::Origins;
use crate::{
    database::ROLLUP_LOCK,
    model::{Row, Slot},
};

const HOUR: i64 = 3_600_000_000;

/// What a transaction knows of the rollups.
#[derive(Default)]
pub(super) struct Late {
    /// Up to where they are made. Known from the first look on, and the same until the transaction's end.
    rolled_until: Option<Slot>,
}

impl Late {
    /// Notes what of `rows` is late.
    pub(super) async fn note(
        &mut self,
        transaction: &Transaction<'_>,
        rows: &[Row],
        origins: &Origins,
    ) -> Result<(), Error> {
        let rolled_until = match self.rolled_until {
            Some(known) => known,
            None => *self.rolled_until.insert(look(transaction).await?),
        };
        let late = rows.iter().filter(|row| row.slot < rolled_until);
        // A row without numbers is refused before this.
        let notes: BTreeSet<(i64, i32, i32)> = late
            .filter_map(|row| {
                let (site, location) = origins.ids(&row.origin)?;
                let slot = row.slot.as_micros();
                Some((slot - slot.rem_euclid(HOUR), location, site))
            })
            .collect();
        if notes.is_empty() {
            return Ok(());
        }
        let (mut hours, mut locations, mut sites) = (Vec::new(), Vec::new(), Vec::new());
        for (hour, location, site) in notes {
            hours.push(Slot::from_micros(hour).to_system_time());
            locations.push(location);
            sites.push(site);
        }
        transaction
            .execute(NOTE, &[&hours, &locations, &sites])
            .await
            .map(drop)
    }
}

/// Two statements, not one: a statement sees what was committed when it began, and this one may have waited for the lock.
async fn look(transaction: &Transaction<'_>) -> Result<Slot, Error> {
    let (lock, read) = (
        "SELECT pg_advisory_xact_lock_shared($1)",
        "SELECT rolled_until FROM rollup_state",
    );
    transaction.execute(lock, &[&ROLLUP_LOCK]).await?;
    let until: SystemTime = transaction.query_one(read, &[]).await?.get(0);
    Ok(Slot::from_system_time(until))
}

const NOTE: &str = "
    INSERT INTO rollup_dirty (period, start, location_id, site_ids)
    SELECT 'hour', hour, location, array_agg(site)
      FROM unnest($1::timestamptz[], $2::int4[], $3::int4[]) AS late (hour, location, site)
     GROUP BY hour, location";
