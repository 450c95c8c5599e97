//! The numbers under which sites and locations are stored.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use slog::{Logger, info, warn};
use tokio::time::Instant;
use tokio_postgres::{Client, Error, Transaction, error::SqlState};

use crate::{
    database::{
        ROLLUP_LOCK,
        incidents::{JUDGED_AGAIN, Pair},
    },
    model::{Origin, Revision, Slot, printable},
};

/// What may be remembered, in bytes, before it is forgotten: made-up names in the topic can't fill the memory.
const MOST_REMEMBERED: usize = 16 << 20;

/// So many new sites within an hour are worth a word: each has a row for ever.
const MANY_SITES: u64 = 1000;

/// Numbers that are known to be committed.
#[derive(Default)]
pub(super) struct Origins {
    /// Looked up several times for each row, by long texts: by a hash that is quick.
    known: HashMap<Arc<Origin>, Known, foldhash::fast::RandomState>,
    /// Announcements with former names that have been looked at, by the site's name and the first slot.
    renamed: HashSet<(String, Slot)>,
    /// What both weigh.
    bytes: usize,
    new_sites: NewSites,
}

/// Counts the sites that get a row, by the hour.
#[derive(Default)]
struct NewSites {
    since: Option<Instant>,
    count: u64,
}

impl NewSites {
    /// Counts `more` of them. Returns their number of this hour if it becomes large with these.
    fn count(&mut self, more: u64, now: Instant) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= Duration::from_secs(3600) {
            (self.since, self.count) = (Some(now), 0);
        }
        let before = self.count;
        self.count += more;
        (before < MANY_SITES && self.count >= MANY_SITES).then_some(self.count)
    }
}

struct Known {
    ids: Pair,
    /// From which partitions of Kafka checks have come: mostly one.
    partitions: Vec<i32>,
}

impl Origins {
    /// The numbers of an origin that [`Origins::learn`] has seen.
    pub(super) fn ids(&self, origin: &Arc<Origin>) -> Option<Pair> {
        self.known.get(origin).map(|known| known.ids)
    }

    /// Forgets all numbers: others may have taken them away.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.renamed.clear();
        self.bytes = 0;
    }

    /// Makes sure that these origins have numbers, and that it is known from which partition of Kafka their checks come, if from one.
    /// Commits on its own, before the batch: a batch that is rolled back must not take numbers away that are remembered here.
    pub(super) async fn learn<'a>(
        &mut self,
        client: &mut Client,
        origins: impl Iterator<Item = (&'a Arc<Origin>, Option<i32>)>,
        revisions: &[Revision],
        log: &Logger,
    ) -> Result<(), Error> {
        if self.bytes > MOST_REMEMBERED {
            // What the batch needs is asked for again.
            self.forget();
        }
        let is_new = |(origin, partition): &(&Arc<Origin>, Option<i32>)| {
            let known = self.known.get(*origin);
            known.is_none_or(|known| partition.is_some_and(|it| !known.partitions.contains(&it)))
        };
        let new: Vec<_> = origins.filter(is_new).collect();
        let key = |it: &Revision| (it.origin.site.clone(), it.since);
        let renaming: Vec<_> = revisions
            .iter()
            .filter(|it| !it.about.formerly.is_empty() && !self.renamed.contains(&key(it)))
            .collect();
        if new.is_empty() && renaming.is_empty() {
            return Ok(());
        }
        // The last URL of a name counts. Sorted, so that two consumers wait for each other in the same order.
        let sites: BTreeMap<&str, &str> = new
            .iter()
            .map(|(origin, _)| (origin.site.as_str(), origin.url.as_str()))
            .collect();
        let locations: BTreeSet<&str> = new
            .iter()
            .map(|(origin, _)| origin.location.as_str())
            .collect();
        let (names, urls): (Vec<_>, Vec<_>) = sites.into_iter().unzip();
        let places: Vec<_> = locations.into_iter().collect();

        let transaction = client.transaction().await?;
        for revision in &renaming {
            rename(
                &transaction,
                &revision.origin.site,
                &revision.about.formerly,
                log,
            )
            .await?;
        }
        // Two steps, not one upsert: an upsert uses up a number of the sequence even where nothing is inserted.
        let added = transaction
            .execute(
                "INSERT INTO site (name, url)
                 SELECT new.name, new.url FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS new(name, url, n)
                  WHERE NOT EXISTS (SELECT FROM site WHERE site.name = new.name)
                    AND NOT EXISTS (SELECT FROM site_alias WHERE site_alias.name = new.name) ORDER BY n
                 ON CONFLICT DO NOTHING",
                &[&names, &urls],
            )
            .await?;
        transaction
            .execute(
                "UPDATE site SET url = new.url FROM unnest($1::text[], $2::text[]) AS new(name, url)
                  WHERE site.name = new.name AND site.url <> new.url",
                &[&names, &urls],
            )
            .await?;
        transaction
            .execute(
                "INSERT INTO location (name)
                 SELECT new.name FROM unnest($1::text[]) WITH ORDINALITY AS new(name, n)
                  WHERE NOT EXISTS (SELECT FROM location WHERE location.name = new.name) ORDER BY n
                 ON CONFLICT DO NOTHING",
                &[&places],
            )
            .await?;
        let sites = transaction
            .query(
                "SELECT name, site_id FROM site WHERE name = ANY($1)
                 UNION ALL
                 SELECT name, site_id FROM site_alias AS former WHERE name = ANY($1)
                    AND NOT EXISTS (SELECT FROM site WHERE site.name = former.name)",
                &[&names],
            )
            .await?;
        let places = transaction
            .query(
                "SELECT name, location_id FROM location WHERE name = ANY($1)",
                &[&places],
            )
            .await?;
        let by_name = |rows: &[tokio_postgres::Row]| -> HashMap<String, i32> {
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        };
        let (sites, places) = (by_name(&sites), by_name(&places));
        let learnt: Vec<_> = new
            .into_iter()
            .filter_map(|(origin, partition)| {
                let ids = (*sites.get(&origin.site)?, *places.get(&origin.location)?);
                Some((origin, ids, partition))
            })
            .collect();
        transaction.commit().await?;
        if let Some(count) = self.new_sites.count(added, Instant::now()) {
            warn!(log, "many sites are new, each has a row of the table site from now on: if they are not yours, see who may write to the topic";
                "within_the_hour" => count);
        }
        let claims = learnt.iter().map(|(_, ids, partition)| (*ids, *partition));
        claim(client, claims.collect()).await?;
        for key in renaming.into_iter().map(key) {
            self.bytes += key.0.len() + 100;
            self.renamed.insert(key);
        }
        for (origin, ids, partition) in learnt {
            let known = self.known.entry(Arc::clone(origin)).or_insert_with(|| {
                self.bytes += origin.weight();
                Known {
                    ids,
                    partitions: Vec::new(),
                }
            });
            known.partitions.extend(partition);
        }
        Ok(())
    }
}

/// Gives the site that had one of the names `formerly` the name `name`, unless there is a site of that name: then its history stays
/// apart. What still comes under the old name is the renamed site's.
async fn rename(
    transaction: &Transaction<'_>,
    name: &str,
    formerly: &[String],
    log: &Logger,
) -> Result<(), Error> {
    for old in formerly.iter().filter(|old| *old != name) {
        let renamed = transaction
            .execute(
                "WITH renamed AS (
                    UPDATE site SET name = $1 WHERE name = $2 AND NOT EXISTS (SELECT FROM site WHERE name = $1)
                    RETURNING site_id),
                 no_alias AS (DELETE FROM site_alias WHERE name = $1 AND EXISTS (SELECT FROM renamed))
                 INSERT INTO site_alias (name, site_id) SELECT $2, site_id FROM renamed
                 ON CONFLICT (name) DO UPDATE SET site_id = excluded.site_id, renamed_at = now()",
                &[&name, &old],
            )
            .await?;
        if renamed > 0 {
            info!(log, "a site has a new name, its history goes on"; "site" => printable(name),
                "formerly" => printable(old));
        }
    }
    Ok(())
}

/// Notes from which partition the checks of sites come. Where they came from another one, whose checks may still be on their way, its
/// writer must hear that it is no longer alone: so this waits for transactions under way, and lets others through now and then.
async fn claim(client: &mut Client, pairs: BTreeMap<Pair, Option<i32>>) -> Result<(), Error> {
    let (ids, partitions): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let (sites, locations): (Vec<i32>, Vec<i32>) = ids.into_iter().unzip();
    client
        .execute(ADD_PAIRS, &[&sites, &locations, &partitions])
        .await?;
    let taken = client
        .query_one(TAKEN, &[&sites, &locations, &partitions])
        .await?;
    if taken.get::<_, i64>(0) == 0 {
        client
            .execute(CLAIM, &[&sites, &locations, &partitions])
            .await?;
        return Ok(());
    }
    let mut tries = 0;
    loop {
        let transaction = client.transaction().await?;
        transaction
            .batch_execute("SET LOCAL lock_timeout = '500ms'")
            .await?;
        let lock = "SELECT pg_advisory_xact_lock($1)";
        match transaction.execute(lock, &[&ROLLUP_LOCK]).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && tries < CLAIMS => {
                transaction.rollback().await?;
                tries += 1;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(100..300))).await;
            }
            locked => {
                locked?;
                transaction
                    .execute(CLAIM, &[&sites, &locations, &partitions])
                    .await?;
                transaction.execute(JUDGED_AGAIN, &[]).await?;
                return transaction.commit().await;
            }
        }
    }
}

/// So often is the lock asked for, before that counts as a failure of the database.
const CLAIMS: u32 = 50;

const ADD_PAIRS: &str = "
    INSERT INTO site_location (site_id, location_id, partition)
    SELECT * FROM unnest($1::int4[], $2::int4[], $3::int4[]) AS new (site, location, partition)
    ON CONFLICT DO NOTHING";

/// How many of them come from another partition than before.
const TAKEN: &str = "
    SELECT count(*) FROM unnest($1::int4[], $2::int4[], $3::int4[]) AS new (site, location, partition)
      JOIN site_location AS stored ON stored.site_id = new.site AND stored.location_id = new.location
     WHERE stored.partition <> new.partition";

const CLAIM: &str = "
    UPDATE site_location AS stored SET partition = new.partition
      FROM unnest($1::int4[], $2::int4[], $3::int4[]) AS new (site, location, partition)
     WHERE stored.site_id = new.site AND stored.location_id = new.location AND new.partition IS NOT NULL
       AND stored.partition IS DISTINCT FROM new.partition";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_new_sites_are_told_once_an_hour() {
        let (mut sites, start) = (NewSites::default(), Instant::now());
        let minute = Duration::from_secs(60);
        let told: Vec<_> = (0..130)
            .filter_map(|n| sites.count(100, start + minute * n))
            .collect();
        assert_eq!(told, [1000, 1000, 1000]);
    }
}
