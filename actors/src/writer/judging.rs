//! Incidents of the checks that a batch brings: judged in its transaction by what is remembered of the sites, which is read again
//! whenever somebody else may have stored or judged meanwhile.
//!
//! Whose checks come from a partition of Kafka is judged by the writer that stores it. Four things end what it remembers: a transaction
//! that did not come through; a batch that does not begin where its last one ended; a site whose checks come from another
//! partition by now; and judging again (housekeeping), after which `rollup_state.judged_again` has another number.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::{Error, Transaction};

use super::{late, origins::Origins, seam::ToldIncident};
use crate::{
    database::incidents::{self, Pair, Seat},
    model::{Batch, ErrorKind, Incident, OffsetRange, Origin, Slot, Verdict},
};

/// So many sites and locations are remembered, some hundred bytes each, before all are read again as they come.
const MOST_SITES: usize = 100_000;

/// What the writer remembers of the sites.
#[derive(Default)]
pub(super) struct Judges {
    sites: HashMap<Pair, Seat, foldhash::fast::RandomState>,
    /// Where the last batch of each partition ended.
    next: HashMap<i32, i64>,
    judged_again: i64,
    /// The numbers of the sites and locations of the batch's rows.
    of_rows: Vec<Option<Pair>>,
    /// Whether a transaction is under way that has judged.
    is_open: bool,
}

impl Judges {
    /// A transaction begins.
    pub(super) fn begin(&mut self) {
        if std::mem::take(&mut self.is_open) {
            // The last one was rolled back.
            self.forget();
        }
    }

    /// The transaction has come through.
    pub(super) fn committed(&mut self) {
        self.is_open = false;
    }

    fn forget(&mut self) {
        self.sites.clear();
        self.next.clear();
    }

    /// Forgets what others may have changed since: all of it after judging again, else the sites of those partitions of which the
    /// batch does not go on where the last one ended.
    fn meet(&mut self, judged_again: i64, ranges: &[OffsetRange]) {
        if self.judged_again != judged_again {
            self.forget();
            self.judged_again = judged_again;
        }
        for OffsetRange {
            partition, from, ..
        } in ranges
        {
            if self.next.get(partition) != Some(from) {
                self.sites
                    .retain(|_, seat| seat.partition != Some(*partition));
            }
        }
    }

    /// Sees to it that all of the batch's sites are known as they are before it.
    pub(super) async fn prepare(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        judged_again: i64,
        origins: &Origins,
    ) -> Result<(), Error> {
        if batch.is_replay() {
            return Ok(());
        }
        self.meet(judged_again, &batch.ranges);
        if self.sites.len() > MOST_SITES {
            self.sites.clear();
        }
        self.of_rows.clear();
        let pairs = batch.rows.iter().map(|row| origins.ids(&row.origin));
        self.of_rows.extend(pairs);
        let of_rows = self.of_rows.iter().flatten();
        let mut missing: Vec<Pair> = of_rows
            .filter(|pair| !self.sites.contains_key(pair))
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        let seats = incidents::judges(transaction, &missing, None).await?;
        self.sites.extend(seats);
        Ok(())
    }

    /// Judges the rows of a batch but for those that were `refused`, and stores what comes of it.
    pub(super) async fn judge(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        refused: &HashSet<(i32, i64)>,
        origins: &Origins,
    ) -> Result<Vec<ToldIncident>, Error> {
        self.is_open = true;
        if batch.is_replay() {
            // Whoever reads the partition knows nothing of these.
            let late = batch.rows.iter().filter_map(|row| {
                let (site, location) = origins.ids(&row.origin)?;
                Some((row.slot, location, site))
            });
            note_late(transaction, late.collect()).await?;
            transaction.execute(incidents::JUDGED_AGAIN, &[]).await?;
            return Ok(Vec::new());
        }
        for range in &batch.ranges {
            self.next.insert(range.partition, range.next);
        }
        let mut late = Vec::new();
        for revision in &batch.revisions {
            let Some(pair) = origins.ids(&revision.origin) else {
                continue;
            };
            if let (Some(rules), Some(seat)) = (revision.rules, self.sites.get_mut(&pair))
                && seat.book.add(revision.since, rules)
                && seat.judge.has_seen(revision.since)
            {
                late.push((revision.since, pair.1, pair.0));
            }
        }
        let mut events: Vec<(Pair, Incident, &Arc<Origin>)> = Vec::new();
        for (row, pair) in batch.rows.iter().zip(&self.of_rows) {
            if !refused.is_empty() && refused.contains(&row.source) {
                continue;
            }
            // A row without numbers is refused before this.
            let Some(pair) = *pair else {
                continue;
            };
            let Some(seat) = self.sites.get_mut(&pair) else {
                // Forgotten within this batch: see below.
                late.push((row.slot, pair.1, pair.0));
                continue;
            };
            let is_whole = seat.partition == Some(row.source.0);
            let rules = seat.book.at(row.slot);
            let verdict = if is_whole {
                seat.judge.hear(row.slot, row.outcome, rules)
            } else {
                // Others come by another way, and perhaps through another writer.
                Verdict::Late
            };
            match verdict {
                Verdict::Same => {}
                Verdict::Changed(incident) => events.push((pair, incident, &row.origin)),
                Verdict::Late => {
                    late.push((row.slot, pair.1, pair.0));
                    if seat.judge.is_touched_by(row.slot, row.outcome) {
                        // How many in a row it were only the rows say now.
                        self.sites.remove(&pair);
                    }
                }
            }
        }
        note_late(transaction, late).await?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        // What has become of each in the end.
        let ends: BTreeMap<_, _> = events
            .iter()
            .map(|(pair, incident, _)| ((*pair, incident.began), (*pair, *incident)))
            .collect();
        let ends: Vec<_> = ends.into_values().collect();
        let causes = incidents::store(transaction, &ends).await?;
        let told = events.into_iter().map(|(pair, incident, origin)| {
            let (error, detail) = causes
                .get(&(pair, incident.began))
                .cloned()
                .unwrap_or_default();
            ToldIncident {
                origin: Arc::clone(origin),
                incident,
                error: error.and_then(ErrorKind::of_id),
                detail,
            }
        });
        Ok(told.collect())
    }
}

/// Notes from where on sites are to be judged again: slots with locations and sites.
async fn note_late(
    transaction: &Transaction<'_>,
    late: Vec<(Slot, i32, i32)>,
) -> Result<(), Error> {
    let hours = late
        .into_iter()
        .map(|(slot, location, site)| (slot.floor(Slot::HOUR), location, site));
    match late::values(hours.collect(), "") {
        Some(values) => {
            let note =
                format!("INSERT INTO incident_late (since, location_id, site_ids) VALUES {values}");
            transaction.batch_execute(&note).await
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Judge, RuleBook};

    fn range(partition: i32, from: i64, next: i64) -> OffsetRange {
        OffsetRange {
            partition,
            from,
            next,
            absent: Vec::new(),
            last: None,
        }
    }

    /// Meets a batch of these ranges, which brings the site with the number of each partition. Gives the sites that it found.
    fn store(judges: &mut Judges, judged_again: i64, ranges: &[OffsetRange]) -> Vec<i32> {
        judges.meet(judged_again, ranges);
        let mut known: Vec<_> = judges.sites.keys().map(|(site, _)| *site).collect();
        known.sort_unstable();
        for range in ranges {
            let seat = Seat {
                judge: Judge::default(),
                book: RuleBook::default(),
                partition: Some(range.partition),
            };
            judges.sites.insert((range.partition, 1), seat);
            judges.next.insert(range.partition, range.next);
        }
        known
    }

    #[test]
    fn sites_are_remembered_as_long_as_their_partition_goes_on() {
        let mut judges = Judges::default();
        assert_eq!(store(&mut judges, 0, &[range(0, 0, 10)]), [0; 0]);
        assert_eq!(store(&mut judges, 0, &[range(1, 5, 9)]), [0]);
        assert_eq!(
            store(&mut judges, 0, &[range(0, 10, 20), range(2, 0, 1)]),
            [0, 1]
        );
        // Another one has stored what lies between, of the first partition.
        assert_eq!(
            store(&mut judges, 0, &[range(0, 30, 40), range(1, 9, 12)]),
            [1, 2]
        );
        assert_eq!(store(&mut judges, 0, &[range(0, 40, 41)]), [0, 1, 2]);
        // Something was judged again.
        assert_eq!(store(&mut judges, 1, &[range(0, 41, 42)]), [0; 0]);
    }

    #[test]
    fn nothing_is_remembered_of_a_transaction_that_was_rolled_back() {
        let mut judges = Judges::default();
        store(&mut judges, 0, &[range(0, 0, 10)]);
        judges.is_open = true;
        judges.committed();
        judges.begin();
        assert_eq!(judges.sites.len(), 1);
        judges.is_open = true;
        judges.begin();
        assert!(judges.sites.is_empty() && judges.next.is_empty());
    }
}
