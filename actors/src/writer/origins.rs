//! The numbers under which sites and locations are stored.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio_postgres::{Client, Error};

use crate::model::Origin;

/// A site's and a location's number.
pub(super) type OriginIds = (i32, i32);

/// Numbers that are known to be committed.
#[derive(Default)]
pub(super) struct Origins {
    known: HashMap<Arc<Origin>, OriginIds>,
}

impl Origins {
    /// The numbers of an origin that [`Origins::learn`] has seen.
    pub(super) fn ids(&self, origin: &Arc<Origin>) -> Option<OriginIds> {
        self.known.get(origin).copied()
    }

    /// Makes sure that these origins have numbers. Commits on its own, before the batch: a batch that is rolled
    /// back must not take numbers away that are remembered here.
    pub(super) async fn learn<'a>(
        &mut self,
        client: &mut Client,
        origins: impl Iterator<Item = &'a Arc<Origin>>,
    ) -> Result<(), Error> {
        let new: Vec<_> = origins
            .filter(|origin| !self.known.contains_key(*origin))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        // The last URL of a name counts. Sorted, so that two consumers wait for each other in the same order.
        let sites: BTreeMap<&str, &str> = new
            .iter()
            .map(|origin| (origin.site.as_str(), origin.url.as_str()))
            .collect();
        let locations: BTreeSet<&str> = new.iter().map(|origin| origin.location.as_str()).collect();
        let (names, urls): (Vec<_>, Vec<_>) = sites.into_iter().unzip();
        let places: Vec<_> = locations.into_iter().collect();

        let transaction = client.transaction().await?;
        // Two steps, not one upsert: an upsert uses up a number of the sequence even where nothing is inserted.
        transaction
            .execute(
                "INSERT INTO site (name, url)
                 SELECT new.name, new.url FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS new(name, url, n)
                  WHERE NOT EXISTS (SELECT FROM site WHERE site.name = new.name) ORDER BY n
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
                "SELECT name, site_id FROM site WHERE name = ANY($1)",
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
            .filter_map(|origin| {
                Some((
                    Arc::clone(origin),
                    (*sites.get(&origin.site)?, *places.get(&origin.location)?),
                ))
            })
            .collect();
        let (sites, locations): (Vec<i32>, Vec<i32>) = learnt.iter().map(|(_, ids)| *ids).unzip();
        transaction
            .execute(
                "INSERT INTO site_location (site_id, location_id)
                 SELECT DISTINCT * FROM unnest($1::int4[], $2::int4[]) AS new(site, location) ORDER BY 1, 2
                 ON CONFLICT DO NOTHING",
                &[&sites, &locations],
            )
            .await?;
        transaction.commit().await?;
        self.known.extend(learnt);
        Ok(())
    }
}
