//! One batch, one transaction: rows, dead letters and offsets, or nothing. What is asked of the database is in
//! [`super::seam`].

use std::{collections::HashMap, time::Duration};

use slog::{Logger, debug, info, warn};

use super::seam::{StoreSession, StoreTransaction, ToldIncident, ToldRevision};
use crate::{
    database::{Remedy, SessionError, StoreError},
    model::{Batch, DeadLetter, DeadReason, ErrorKind, Revision, Row, printable},
};

/// What a stored batch brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// New rows.
    pub(super) rows: u64,
    /// Rows that were there already.
    pub(super) duplicates: u64,
    /// Placeholders that a result has replaced.
    pub(super) replaced: u64,
    /// Those of the duplicates that say something else than what is there.
    pub(super) conflicts: u64,
    /// Rows that the database refused, now dead letters.
    pub(super) refused: u64,
    /// Incidents that began, or go on after they had been closed.
    pub(super) opened: u64,
    /// Incidents that ended.
    pub(super) closed: u64,
}

impl Stored {
    fn count(&mut self, told: &ToldIncident) {
        match told.incident.closed {
            None => self.opened += 1,
            Some(_) => self.closed += 1,
        }
    }
}

/// One line for each incident that begins or ends: for who looks into the log at night.
fn tell(log: &Logger, told: &ToldIncident) {
    let (origin, incident) = (&told.origin, &told.incident);
    let (site, location) = (printable(&origin.site), printable(&origin.location));
    let error = told.error.map_or("", ErrorKind::as_str);
    let detail = told.detail.as_deref().unwrap_or_default();
    match incident.ended {
        None if incident.flaps == 0 => {
            warn!(log, "incident opened"; "site" => &site, "location" => &location,
                "began" => %incident.began, "error" => error, "detail" => detail);
        }
        None => {
            warn!(log, "incident goes on, the site is flapping"; "site" => &site, "location" => &location,
                "began" => %incident.began, "flaps" => incident.flaps, "error" => error, "detail" => detail);
        }
        Some(ended) => {
            let lasted = ended.micros_since(incident.began) / 1_000_000;
            info!(log, "incident closed"; "site" => &site, "location" => &location,
                "began" => %incident.began, "ended" => %ended, "lasted_s" => lasted, "error" => error);
        }
    }
}

/// How storing a batch ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Committed.
    Stored(Stored),
    /// Another owner has moved an offset: nothing was stored.
    Fenced,
    /// An earlier try, whose commit was not heard of, had succeeded.
    AlreadyStored,
}

/// What one try needs besides the batch.
pub(super) struct Try<'a, S> {
    pub(super) session: &'a mut S,
    pub(super) log: &'a Logger,
    /// Whether an earlier try of this batch got as far as its commit.
    pub(super) commit_unknown: &'a mut bool,
}

impl<S: StoreSession> Try<'_, S> {
    /// Stores `batch`, choosing the fast way first and the careful one where it must.
    pub(super) async fn store(mut self, batch: &Batch) -> Result<End, SessionError> {
        let mut way = Way::Direct;
        for _ in 0..4 {
            self.session.prepare(batch, self.log).await?;
            match self.transact(batch, way).await {
                Err(error) => match error.remedy {
                    Remedy::Absorb | Remedy::SetAside => {
                        debug!(self.log, "the direct way is closed to this batch"; "reason" => %error);
                        way = Way::Staged;
                    }
                    Remedy::Repartition => self.session.forget_partitions(),
                    Remedy::Retry => {
                        warn!(self.log, "PostgreSQL asks for another try"; "reason" => %error);
                        // Not the same for two that are in each other's way.
                        let delay = Duration::from_millis(fastrand::u64(100..300));
                        tokio::time::sleep(delay).await;
                    }
                    Remedy::Reconnect | Remedy::Drift | Remedy::Denied => return Err(error.into()),
                },
                Ok(end) => return Ok(end),
            }
        }
        // The staged way meets neither duplicates nor bad rows as errors: two tries in a row mean something else.
        Ok(self.transact(batch, Way::Staged).await?)
    }

    async fn transact(&mut self, batch: &Batch, way: Way) -> Result<End, StoreError> {
        let mut transaction = self.session.begin().await?;
        if !(transaction.move_offsets(batch).await? && transaction.take_letters(batch).await?) {
            let moved = *self.commit_unknown && transaction.moved_already(batch).await?;
            transaction.rollback().await?;
            if moved {
                return Ok(End::AlreadyStored);
            }
            self.session.forget();
            return Ok(End::Fenced);
        }
        let (mut stored, refused) = match way {
            Way::Direct => {
                let rows = transaction.copy(&batch.rows).await?;
                let stored = Stored {
                    rows,
                    ..Stored::default()
                };
                (stored, Vec::new())
            }
            Way::Staged => store_staged(&mut transaction, &batch.rows).await?,
        };
        write_dead_letters(&mut transaction, batch, &refused).await?;
        let sources = refused.iter().map(|(row, _)| row.source).collect();
        let incidents = transaction.judge(batch, &sources).await?;
        stored.refused += store_revisions(&mut transaction, batch).await?;
        fail::fail_point!("writer::before_commit");
        *self.commit_unknown = true;
        transaction.commit().await?;
        for told in &incidents {
            stored.count(told);
            tell(self.log, told);
        }
        Ok(End::Stored(stored))
    }
}

#[derive(Clone, Copy)]
enum Way {
    /// Straight into the partitioned table: fails as a whole on a duplicate or a bad row.
    Direct,
    /// Through the stage: about half as fast.
    Staged,
}

/// Stores `rows` through the stage. Duplicates are absorbed; a range with a row that the database refuses is halved until
/// the row is alone: bad rows × log n tries.
async fn store_staged<'a>(
    transaction: &mut impl StoreTransaction,
    rows: &'a [Row],
) -> Result<(Stored, Vec<(&'a Row, String)>), StoreError> {
    let (mut stored, mut refused) = (Stored::default(), Vec::new());
    let mut ranges = vec![rows];
    while let Some(range) = ranges.pop() {
        match transaction.absorb(range).await {
            Ok(absorbed) => {
                stored.rows += absorbed.new;
                stored.replaced += absorbed.replaced;
                stored.conflicts += absorbed.conflicts;
                stored.duplicates += range.len() as u64 - absorbed.new - absorbed.replaced;
            }
            Err(error) if error.remedy == Remedy::SetAside => {
                if let [row] = range {
                    stored.refused += 1;
                    refused.push((row, error.told));
                } else {
                    let (first, second) = range.split_at(range.len() / 2);
                    ranges.extend([second, first]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((stored, refused))
}

async fn write_dead_letters(
    transaction: &mut impl StoreTransaction,
    batch: &Batch,
    refused: &[(&Row, String)],
) -> Result<(), StoreError> {
    for letter in &batch.dead {
        transaction.write_letter(&batch.topic, letter).await?;
    }
    for (row, detail) in refused {
        let letter = DeadLetter {
            source: row.source,
            reason: DeadReason::Refused,
            detail: detail.clone(),
            key: Some(row.origin.site.clone().into_bytes()),
            payload: row.payload.to_vec(),
        };
        transaction.write_letter(&batch.topic, &letter).await?;
    }
    Ok(())
}

/// Stores which slots of sites are due, in the transaction of the batch that they came with. Gives how many the database has
/// refused.
///
/// A revision is told again and again, and may come again from long ago: what is there is kept, and only `until` is ever
/// added. What the database refuses becomes a dead letter and holds up nobody.
async fn store_revisions(
    transaction: &mut impl StoreTransaction,
    batch: &Batch,
) -> Result<u64, StoreError> {
    let told = merged(&batch.revisions);
    let mut refused = 0;
    let mut ranges = vec![&*told];
    while let Some(range) = ranges.pop() {
        if range.is_empty() {
            continue;
        }
        let Err(error) = transaction.add_revisions(range).await else {
            continue;
        };
        match error.remedy {
            Remedy::SetAside | Remedy::Absorb => {}
            _ => return Err(error),
        }
        if let [told] = range {
            refused += 1;
            let letter = DeadLetter {
                source: told.revision.source,
                reason: DeadReason::Refused,
                detail: error.told,
                key: Some(told.revision.origin.site.clone().into_bytes()),
                payload: told.revision.payload.to_vec(),
            };
            transaction.write_letter(&batch.topic, &letter).await?;
        } else {
            let (first, second) = range.split_at(range.len() / 2);
            ranges.extend([second, first]);
        }
    }
    Ok(refused)
}

/// Each revision once: a statement may not touch a row twice.
fn merged(revisions: &[Revision]) -> Vec<ToldRevision<'_>> {
    let mut told: Vec<ToldRevision<'_>> = Vec::new();
    let mut places = HashMap::new();
    for revision in revisions {
        let origin = &revision.origin;
        let key = (&*origin.site, &*origin.location, revision.since);
        let place = *places.entry(key).or_insert(told.len());
        match told.get_mut(place) {
            Some(told) => told.until = told.until.or(revision.until),
            None => told.push(ToldRevision {
                revision,
                until: revision.until,
            }),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{About, Due, Origin, Slot};

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
            rules: None,
            about: About::default(),
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
        let merged = merged(&told);
        let shown: Vec<_> = merged
            .iter()
            .map(|told| {
                (
                    told.revision.since.as_micros(),
                    told.until.map(Slot::as_micros),
                )
            })
            .collect();
        assert_eq!(shown, [(1, Some(5)), (7, None)]);
    }
}
