//! Incidents in the database: what their judges have seen, and what they decide.

use std::{collections::HashMap, time::SystemTime};

use tokio_postgres::{Error, GenericClient, Row, Transaction};

use crate::model::{Incident, Judge, Outcome, RuleBook, Rules, Slot};

/// A site's and a location's number.
pub(crate) type Pair = (i32, i32);

/// The judges of sites at locations as they were before the slot `$3`, or are now, with the rules of their last announcements: more than
/// one, for checks that were under way when the last one was made. Site by site, by the key.
const JUDGES: &str = "
    SELECT p.site_id, p.location_id, l.partition, newest.slot AS newest, recent.slots, recent.outcomes, i.began, i.opened,
           CASE WHEN i.closed < coalesce($3::timestamptz, 'infinity') THEN i.ended END AS ended,
           CASE WHEN i.closed < coalesce($3::timestamptz, 'infinity') THEN i.closed END AS closed, i.flaps,
           r.since, r.failures, r.successes, r.windows
      FROM unnest($1::int4[], $2::int4[]) AS p (site_id, location_id)
      LEFT JOIN site_location AS l USING (site_id, location_id)
      LEFT JOIN LATERAL (
            SELECT slot FROM check_result c
             WHERE c.site_id = p.site_id AND c.location_id = p.location_id AND slot < coalesce($3::timestamptz, 'infinity')
             ORDER BY slot DESC LIMIT 1) AS newest ON true
     CROSS JOIN LATERAL (
            SELECT array_agg(slot) AS slots, array_agg(outcome) AS outcomes
              FROM (SELECT slot, outcome FROM check_result c
                     WHERE c.site_id = p.site_id AND c.location_id = p.location_id AND slot < coalesce($3::timestamptz, 'infinity')
                       AND outcome <> 3
                     ORDER BY slot DESC LIMIT $4) AS c) AS recent
      LEFT JOIN LATERAL (
            SELECT * FROM incident i
             WHERE i.site_id = p.site_id AND i.location_id = p.location_id AND began < coalesce($3::timestamptz, 'infinity')
             ORDER BY began DESC LIMIT 1) AS i ON true
     CROSS JOIN LATERAL (
            SELECT array_agg(since) AS since, array_agg(failure_threshold) AS failures, array_agg(success_threshold) AS successes,
                   array_agg(flap_window_us) AS windows
              FROM (SELECT * FROM site_revision r
                     WHERE r.site_id = p.site_id AND r.location_id = p.location_id
                     ORDER BY since DESC LIMIT 8) AS r) AS r";

/// The cause of an incident is what the check says with which it began.
const STORE: &str = "
    INSERT INTO incident AS stored (site_id, location_id, began, opened, ended, closed, flaps, error, detail)
    SELECT n.*, c.error, d.detail
      FROM unnest($1::int4[], $2::int4[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::int4[])
        AS n (site_id, location_id, began, opened, ended, closed, flaps)
      LEFT JOIN LATERAL (
            SELECT error FROM check_result c
             WHERE c.site_id = n.site_id AND c.location_id = n.location_id AND c.slot = n.began LIMIT 1) AS c ON true
      LEFT JOIN LATERAL (
            SELECT detail FROM check_detail d
             WHERE d.site_id = n.site_id AND d.location_id = n.location_id AND d.slot = n.began LIMIT 1) AS d ON true
    ON CONFLICT (site_id, location_id, began) DO UPDATE
       SET opened = excluded.opened, ended = excluded.ended, closed = excluded.closed, flaps = excluded.flaps
 RETURNING site_id, location_id, began, error, detail";

/// Counts that incidents were judged again, or are to be: who judges by what it remembers begins anew.
pub(crate) const JUDGED_AGAIN: &str = "UPDATE rollup_state SET judged_again = judged_again + 1";

/// The judge of a site at a location.
pub(crate) struct Seat {
    pub(crate) judge: Judge,
    /// The rules of the last announcements.
    pub(crate) book: RuleBook,
    /// The partition of Kafka from which its checks come.
    pub(crate) partition: Option<i32>,
}

/// The judges of `pairs`, as they were before a slot or, without one, are now.
pub(crate) async fn judges(
    client: &impl GenericClient,
    pairs: &[Pair],
    before: Option<Slot>,
) -> Result<Vec<(Pair, Seat)>, Error> {
    let (sites, locations): (Vec<i32>, Vec<i32>) = pairs.iter().copied().unzip();
    let before = before.map(Slot::to_system_time);
    let most = i64::from(Rules::LARGEST_THRESHOLD);
    let rows = client
        .query(JUDGES, &[&sites, &locations, &before, &most])
        .await?;
    let seat = |row: &Row| {
        let slots: Option<Vec<SystemTime>> = row.get("slots");
        let outcomes: Option<Vec<i16>> = row.get("outcomes");
        let outcomes = outcomes.unwrap_or_default().into_iter().map(outcome);
        let slots = slots.unwrap_or_default().into_iter();
        let recent = slots.map(Slot::from_system_time).zip(outcomes);
        let seat = Seat {
            judge: Judge::resumed(slot(row, "newest"), recent, incident(row)),
            book: rules(row),
            partition: row.get("partition"),
        };
        ((row.get("site_id"), row.get("location_id")), seat)
    };
    Ok(rows.iter().map(seat).collect())
}

/// The outcome of a number. What this program does not know says nothing.
pub(crate) fn outcome(id: i16) -> Outcome {
    Outcome::of_id(id).unwrap_or(Outcome::Unknown)
}

/// The incident of a row with its columns; `None` if they are null.
pub(crate) fn incident(row: &Row) -> Option<Incident> {
    Some(Incident {
        began: slot(row, "began")?,
        opened: slot(row, "opened")?,
        ended: slot(row, "ended"),
        closed: slot(row, "closed"),
        flaps: row.get("flaps"),
    })
}

/// All rules that were ever announced for a site at a location.
pub(crate) async fn book(
    client: &impl GenericClient,
    (site, location): Pair,
) -> Result<RuleBook, Error> {
    let row = client.query_one(RULES, &[&site, &location]).await?;
    Ok(rules(&row))
}

const RULES: &str = "
    SELECT array_agg(since) AS since, array_agg(failure_threshold) AS failures, array_agg(success_threshold) AS successes,
           array_agg(flap_window_us) AS windows
      FROM site_revision WHERE site_id = $1 AND location_id = $2";

/// The rules of a row with arrays of the columns of `site_revision`. An announcement that says nothing of them means the usual ones.
fn rules(row: &Row) -> RuleBook {
    let since: Option<Vec<SystemTime>> = row.get("since");
    let thresholds = |column| {
        row.get::<_, Option<Vec<Option<i16>>>>(column)
            .unwrap_or_default()
    };
    let windows: Option<Vec<Option<i64>>> = row.get("windows");
    let announced = since
        .unwrap_or_default()
        .into_iter()
        .zip(thresholds("failures"))
        .zip(thresholds("successes"))
        .zip(windows.unwrap_or_default());
    let rules = announced.map(|(((since, failures), successes), window)| {
        let said = || {
            Some(Rules {
                failure_threshold: u8::try_from(failures?).ok()?,
                success_threshold: u8::try_from(successes?).ok()?,
                flap_window_us: window?,
            })
        };
        (
            Slot::from_system_time(since),
            said().unwrap_or(Rules::DEFAULT),
        )
    });
    RuleBook::new(rules.collect())
}

fn slot(row: &Row, column: &str) -> Option<Slot> {
    row.get::<_, Option<SystemTime>>(column)
        .map(Slot::from_system_time)
}

/// What a stored incident is about: the number of the first failure's kind, and its words.
pub(crate) type Cause = (Option<i16>, Option<String>);

/// Stores incidents: new ones, and what has become of others. Each is named once. The rows of their first failures are there. Gives
/// their causes, by site, location and beginning.
pub(crate) async fn store(
    transaction: &Transaction<'_>,
    incidents: &[(Pair, Incident)],
) -> Result<HashMap<(Pair, Slot), Cause>, Error> {
    let (sites, locations): (Vec<i32>, Vec<i32>) = incidents.iter().map(|(pair, _)| *pair).unzip();
    let times = |of: fn(&Incident) -> Option<Slot>| -> Vec<Option<SystemTime>> {
        let time = |(_, it): &(Pair, Incident)| of(it).map(Slot::to_system_time);
        incidents.iter().map(time).collect()
    };
    let flaps: Vec<i32> = incidents.iter().map(|(_, it)| it.flaps).collect();
    let rows = transaction
        .query(
            STORE,
            &[
                &sites,
                &locations,
                &times(|it| Some(it.began)),
                &times(|it| Some(it.opened)),
                &times(|it| it.ended),
                &times(|it| it.closed),
                &flaps,
            ],
        )
        .await?;
    let cause = |row: &Row| {
        let began = Slot::from_system_time(row.get(2));
        (((row.get(0), row.get(1)), began), (row.get(3), row.get(4)))
    };
    Ok(rows.iter().map(cause).collect())
}
