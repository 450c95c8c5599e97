//! Stores which slots of sites are due, in the transaction of the batch that they came with.
//!
//! A revision is told again and again, and may come again from long ago: what is there is kept, and only `until` is ever
//! added. What the database refuses becomes a dead letter and holds up nobody.

use std::{collections::HashMap, time::SystemTime};

use tokio_postgres::{Error, Transaction};

use super::{
    error::plain,
    letters,
    origins::{OriginIds, Origins},
    sqlstate::{Remedy, remedy_of},
};
use crate::model::{Batch, DeadLetter, DeadReason, Due, Revision, Slot};

/// Stores the batch's revisions, whose origins have been learnt. Gives how many the database has refused.
pub(super) async fn store(
    transaction: &Transaction<'_>,
    batch: &Batch,
    origins: &Origins,
) -> Result<u64, Error> {
    let told = merged(&batch.revisions, |revision| {
        // `learn` has run for the batch: there is a number.
        origins.ids(&revision.origin).unwrap_or_default()
    });
    let mut refused = 0;
    let mut ranges = vec![&*told];
    while let Some(range) = ranges.pop() {
        if range.is_empty() {
            continue;
        }
        transaction.batch_execute("SAVEPOINT revisions").await?;
        let Err(error) = upsert(transaction, range).await else {
            transaction
                .batch_execute("RELEASE SAVEPOINT revisions")
                .await?;
            continue;
        };
        match remedy_of(&error) {
            Remedy::SetAside | Remedy::Absorb => {}
            _ => return Err(error),
        }
        transaction
            .batch_execute("ROLLBACK TO SAVEPOINT revisions")
            .await?;
        if let [(_, revision, _)] = range {
            refused += 1;
            letters::set_aside(transaction, &batch.topic, &refusal(revision, &error)).await?;
        } else {
            let (first, second) = range.split_at(range.len() / 2);
            ranges.extend([second, first]);
        }
    }
    Ok(refused)
}

/// A revision with its numbers and its end, if any message of the batch tells it.
type Told<'a> = (OriginIds, &'a Revision, Option<Slot>);

/// Each revision once: a statement may not touch a row twice.
fn merged(revisions: &[Revision], ids: impl Fn(&Revision) -> OriginIds) -> Vec<Told<'_>> {
    let mut told: Vec<Told<'_>> = Vec::new();
    let mut places = HashMap::new();
    for revision in revisions {
        let ids = ids(revision);
        let place = *places.entry((ids, revision.since)).or_insert(told.len());
        match told.get_mut(place) {
            Some((_, _, until)) => *until = until.or(revision.until),
            None => told.push((ids, revision, revision.until)),
        }
    }
    told
}

async fn upsert(transaction: &Transaction<'_>, told: &[Told<'_>]) -> Result<(), Error> {
    let time = |slot: Slot| -> SystemTime { slot.to_system_time() };
    let sites: Vec<i32> = told.iter().map(|((site, _), ..)| *site).collect();
    let locations: Vec<i32> = told.iter().map(|((_, location), ..)| *location).collect();
    let since: Vec<_> = told.iter().map(|(_, it, _)| time(it.since)).collect();
    let until: Vec<_> = told.iter().map(|(.., until)| until.map(time)).collect();
    let (mut intervals, mut phases, mut crons) = (Vec::new(), Vec::new(), Vec::new());
    for (_, revision, _) in told {
        let (interval, phase, cron) = match &revision.due {
            Due::Every {
                interval_us,
                phase_us,
            } => (Some(*interval_us), Some(*phase_us), None),
            Due::Calendar { cron } => (None, None, Some(cron.as_str())),
        };
        intervals.push(interval);
        phases.push(phase);
        crons.push(cron);
    }
    let limits: Vec<_> = told.iter().map(|(_, it, _)| it.check_limit_us).collect();
    let hashes: Vec<_> = told.iter().map(|(_, it, _)| &*it.config_hash).collect();
    let labels: Vec<_> = told.iter().map(|(_, it, _)| it.labels.as_deref()).collect();
    let runs: Vec<_> = told.iter().map(|(_, it, _)| time(it.run)).collect();
    transaction
        .execute(
            "INSERT INTO site_revision AS stored (site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us,
                    config_hash, labels, run)
             SELECT site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us, config_hash, labels::jsonb, run
               FROM unnest($1::int4[], $2::int4[], $3::timestamptz[], $4::timestamptz[], $5::int8[], $6::int8[], $7::text[],
                           $8::int8[], $9::text[], $10::text[], $11::timestamptz[])
                 AS told(site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us, config_hash, labels, run)
             ON CONFLICT (site_id, location_id, since) DO UPDATE SET until = excluded.until
              WHERE stored.until IS NULL AND excluded.until IS NOT NULL",
            &[
                &sites, &locations, &since, &until, &intervals, &phases, &crons, &limits, &hashes, &labels, &runs,
            ],
        )
        .await
        .map(drop)
}

fn refusal(revision: &Revision, error: &Error) -> DeadLetter {
    DeadLetter {
        source: revision.source,
        reason: DeadReason::Refused,
        detail: plain(error),
        key: Some(revision.origin.site.clone().into_bytes()),
        payload: revision.payload.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Origin;

    fn revision(since: i64, until: Option<i64>) -> Revision {
        let origin = Origin {
            site: "a".to_owned(),
            url: String::new(),
            location: String::new(),
        };
        Revision {
            origin: Arc::new(origin),
            since: Slot::from_micros(since),
            until: until.map(Slot::from_micros),
            due: Due::Calendar {
                cron: String::new(),
            },
            check_limit_us: 0,
            config_hash: String::new(),
            labels: None,
            run: Slot::from_micros(0),
            source: (0, 0),
            payload: Box::default(),
        }
    }

    #[test]
    fn each_revision_is_told_once_and_its_end_is_not_forgotten() {
        let told = [
            revision(1, None),
            revision(1, Some(5)),
            revision(7, None),
            revision(1, None),
        ];
        let merged = merged(&told, |_| (1, 1));
        let shown: Vec<_> = merged
            .iter()
            .map(|(_, it, until)| (it.since.as_micros(), until.map(Slot::as_micros)))
            .collect();
        assert_eq!(shown, [(1, Some(5)), (7, None)]);
    }
}
