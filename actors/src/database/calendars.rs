//! The slots of calendars that sites have announced, written down by day: SQL, which counts what was due, has no cron.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use sitewatch_config::Cron;
use tokio_postgres::{Client, Error};

use crate::model::Slot;

/// So far ahead they are written down. Not further: the rules of a time zone may change.
const AHEAD: Duration = Duration::from_secs(2 * DAY.as_secs());

const DAY: Duration = Duration::from_secs(86_400);

/// So many days are written at once.
const MOST: i64 = 1000;

/// Writes down days of calendars, from the first slot of each up to two days after `now`, the latest first. Whether there are more.
pub(crate) async fn write_calendars(client: &mut Client, now: Slot) -> Result<bool, Error> {
    // One that this program can't read is one of a newer program, which writes it down.
    let readable: HashMap<String, Cron> = client
        .query(CALENDARS, &[])
        .await?
        .iter()
        .filter_map(|row| Some((row.get(0), Cron::new(row.get(0)).ok()?)))
        .collect();
    if readable.is_empty() {
        return Ok(false);
    }
    let (texts, until): (Vec<&String>, _) =
        (readable.keys().collect(), now.to_system_time() + AHEAD);
    let transaction = client.transaction().await?;
    let missing = transaction.query(MISSING, &[&texts, &until, &MOST]).await?;
    let write = transaction.prepare(WRITE).await?;
    for row in &missing {
        let (text, day): (&str, SystemTime) = (row.get(0), row.get(1));
        let slots = slots_between(&readable[text], day, day + DAY);
        transaction.execute(&write, &[&text, &day, &slots]).await?;
    }
    transaction.commit().await?;
    Ok(missing.len() as i64 == MOST)
}

/// The slots of a calendar from an instant to before another.
pub(crate) fn slots_between(cron: &Cron, from: SystemTime, to: SystemTime) -> Vec<SystemTime> {
    let micros = |time| Slot::from_system_time(time).as_micros();
    cron.between(micros(from), micros(to))
        .map(|slot| Slot::from_micros(slot).to_system_time())
        .collect()
}

const CALENDARS: &str = "SELECT DISTINCT cron FROM site_revision WHERE cron IS NOT NULL";

const MISSING: &str = "
    SELECT cron, day
      FROM (SELECT cron, date_bin('1 day', min(since), '2000-01-01 00:00+00') AS first
              FROM site_revision WHERE cron = ANY ($1) GROUP BY cron) AS calendar
     CROSS JOIN generate_series(first, $2, '1 day') AS day
     WHERE NOT EXISTS (SELECT FROM calendar_day AS d WHERE d.cron = calendar.cron AND d.day = day.day)
     ORDER BY day DESC LIMIT $3";

const WRITE: &str =
    "INSERT INTO calendar_day (cron, day, slots) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
