//! Windows of maintenance that recur, written down ahead: SQL knows time zones, but not cron.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use sitewatch_config::Recurrence;
use tokio_postgres::{Client, Error, Transaction};

use crate::model::Slot;

/// So far ahead they are written down, at least, and from time to time to the end of it.
const AHEAD: Range<Duration> = Duration::from_secs(200 * 86_400)..Duration::from_secs(400 * 86_400);

/// Writes down what recurs, for half a year at least after `now`. Gives the number of windows.
pub(crate) async fn write_windows(client: &mut Client, now: Slot) -> Result<u64, Error> {
    let soon = now.to_system_time() + AHEAD.start;
    if client.query(DUE, &[&soon]).await?.is_empty() {
        return Ok(0);
    }
    let transaction = client.transaction().await?;
    let mut written = 0;
    for row in transaction
        .query(&format!("{DUE} FOR UPDATE"), &[&soon])
        .await?
    {
        let recurring = Recurring {
            id: row.get(0),
            from: row.get(1),
            end: row.get(2),
        };
        // One that this program can't read was not written by it, and is left alone.
        let Ok(recurrence) = Recurrence::new(row.get(3)) else {
            continue;
        };
        let to = now.to_system_time() + AHEAD.end;
        written += recurring.write(&transaction, &recurrence, to).await?;
    }
    transaction.commit().await?;
    Ok(written)
}

struct Recurring {
    id: i32,
    from: SystemTime,
    end: Option<SystemTime>,
}

impl Recurring {
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        recurrence: &Recurrence,
        to: SystemTime,
    ) -> Result<u64, Error> {
        let micros = |time| Slot::from_system_time(time).as_micros();
        let last = self.end.map_or(to, |end| end.min(to));
        let begins: Vec<SystemTime> = recurrence
            .between(micros(self.from), micros(last))
            .into_iter()
            .map(|begin| Slot::from_micros(begin).to_system_time())
            .collect();
        let written = transaction.execute(WRITE, &[&self.id, &begins]).await?;
        transaction.execute(WRITTEN, &[&self.id, &to]).await?;
        Ok(written)
    }
}

const DUE: &str = "
    SELECT maintenance_id, coalesce(expanded_until, from_time), to_time, cron FROM maintenance
     WHERE cron IS NOT NULL AND coalesce(expanded_until, from_time) < least($1, to_time)";

const WRITE: &str = "
    INSERT INTO maintenance_span (maintenance_id, span)
    SELECT maintenance_id, tstzrange(begin, begin + lasts) FROM maintenance, unnest($2::timestamptz[]) AS begin
     WHERE maintenance_id = $1
    ON CONFLICT DO NOTHING";

const WRITTEN: &str = "UPDATE maintenance SET expanded_until = $2 WHERE maintenance_id = $1";
