//! The slots of calendars that sites have announced, written down by day: SQL, which counts what was due, has no cron.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use sitewatch_config::Cron;
use tokio_postgres::{Client, Error};

use crate::model::Slot;

/// So far ahead they are written down. Not further: the rules of a time zone may change.
const AHEAD: Duration = Duration::from_secs(2 * DAY.as_secs());

const DAY: Duration = Duration::from_secs(86_400);

/// So many days are written at once.
const MOST: i64 = 1000;

/// Writes down days of calendars that are announced, the latest first, for about `longest`: from the first slot of each to its end, or
/// two days after `now`. Whether there are more. A producer's clock may have been wrong by decades, so nothing is written down of before
/// there was history, or still may be, `max_slot_age` ago.
pub(crate) async fn write_calendars(
    client: &mut Client,
    now: Slot,
    max_slot_age: Duration,
    longest: Duration,
) -> Result<bool, Error> {
    let now = now.to_system_time();
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
    let texts: Vec<&String> = readable.keys().collect();
    let (oldest, until) = (now - max_slot_age, now + AHEAD);
    let transaction = client.transaction().await?;
    let missing = transaction
        .query(MISSING, &[&texts, &oldest, &until, &MOST])
        .await?;
    let write = transaction.prepare(WRITE).await?;
    let (begin, mut written) = (Instant::now(), 0);
    for row in &missing {
        if begin.elapsed() > longest {
            break;
        }
        let (text, day): (&str, SystemTime) = (row.get(0), row.get(1));
        let slots = slots_between(&readable[text], day, day + DAY);
        transaction.execute(&write, &[&text, &day, &slots]).await?;
        written += 1;
    }
    transaction.commit().await?;
    Ok(written < missing.len() || missing.len() as i64 == MOST)
}

/// The slots of a calendar from an instant to before another.
pub(crate) fn slots_between(cron: &Cron, from: SystemTime, to: SystemTime) -> Vec<SystemTime> {
    let micros = |time| Slot::from_system_time(time).as_micros();
    cron.between(micros(from), micros(to))
        .map(|slot| Slot::from_micros(slot).to_system_time())
        .collect()
}

const CALENDARS: &str = "SELECT DISTINCT cron FROM site_revision WHERE cron IS NOT NULL";

/// Of each calendar, from its first slot on to its last one's day: what is not written down yet.
const MISSING: &str = "
    SELECT cron, day
      FROM (SELECT cron, min(r.since) AS since, max(least(r.until, following.since, $3)) AS until
              FROM site_revision r
             CROSS JOIN LATERAL (SELECT min(since) AS since FROM site_revision f
                                  WHERE f.site_id = r.site_id AND f.location_id = r.location_id AND f.since > r.since) AS following
             WHERE cron = ANY ($1) GROUP BY cron) AS calendar
     CROSS JOIN (SELECT least($2, (SELECT min(day) FROM rollup_month_to_date), (SELECT min(start) FROM rollup_dirty)) AS since) AS history
     CROSS JOIN generate_series(date_bin('1 day', greatest(calendar.since, history.since), '2000-01-01 00:00+00'),
                                until - interval '1 microsecond', '1 day') AS day
     WHERE NOT EXISTS (SELECT FROM calendar_day AS d WHERE d.cron = calendar.cron AND d.day = day.day)
     ORDER BY day DESC LIMIT $4";

const WRITE: &str =
    "INSERT INTO calendar_day (cron, day, slots) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
