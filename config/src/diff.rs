//! What a reload changes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::site::Site;

/// The steps from one list of sites to another. Sites are told apart by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteChanges {
    /// Sites that are new.
    pub start: Vec<Arc<Site>>,
    /// Names of sites that are gone.
    pub stop: Vec<Arc<str>>,
    /// Sites whose settings are others than before, with those.
    pub replace: Vec<(Arc<Site>, Arc<Site>)>,
    /// How many sites stay as they are.
    pub unchanged: usize,
}

/// Compares two lists of sites. The order of a list means nothing.
pub fn diff_sites(old: &[Arc<Site>], new: &[Arc<Site>]) -> SiteChanges {
    let mut before: HashMap<&str, &Arc<Site>> =
        old.iter().map(|site| (&*site.name, site)).collect();
    let mut changes = SiteChanges::default();
    for site in new {
        match before.remove(&*site.name) {
            None => changes.start.push(Arc::clone(site)),
            Some(old) if Arc::ptr_eq(old, site) || old == site => changes.unchanged += 1,
            Some(old) => changes.replace.push((Arc::clone(old), Arc::clone(site))),
        }
    }
    let gone = old.iter().filter(|site| before.contains_key(&*site.name));
    changes.stop = gone.map(|site| site.name.clone()).collect();
    changes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::options::SiteOptions;

    /// Sites `0` to `9`, each with one of three intervals.
    fn sites() -> impl Strategy<Value = Vec<Arc<Site>>> {
        proptest::collection::btree_map(0u8..10, 1u64..4, 0..10).prop_map(|sites| {
            let site = |(name, seconds): (u8, u64)| {
                let mut options = SiteOptions::default();
                options.schedule.interval = Duration::from_secs(seconds);
                Arc::new(Site::with_options(
                    &name.to_string(),
                    "http://localhost/",
                    options,
                ))
            };
            sites.into_iter().map(site).collect()
        })
    }

    fn by_name(sites: &[Arc<Site>]) -> BTreeMap<Arc<str>, Arc<Site>> {
        sites
            .iter()
            .map(|site| (site.name.clone(), Arc::clone(site)))
            .collect()
    }

    proptest! {
        #[test]
        fn applied_to_the_old_sites_the_changes_give_the_new(old in sites(), mut new in sites(), turn in 0usize..10) {
            if !new.is_empty() {
                let turn = turn % new.len();
                new.rotate_left(turn);
            }
            let changes = diff_sites(&old, &new);
            let mut running = by_name(&old);
            for name in &changes.stop {
                prop_assert!(running.remove(name).is_some(), "{} was running", name);
            }
            for (old, site) in &changes.replace {
                let stopped = running.insert(site.name.clone(), Arc::clone(site));
                prop_assert_eq!(stopped.as_ref(), Some(old));
                prop_assert!(old != site, "{} is another", site.name);
            }
            for site in &changes.start {
                prop_assert!(running.insert(site.name.clone(), Arc::clone(site)).is_none());
            }
            prop_assert_eq!(&running, &by_name(&new));
            prop_assert_eq!(changes.unchanged + changes.start.len() + changes.replace.len(), new.len());
        }

        #[test]
        fn the_same_sites_change_nothing(sites in sites()) {
            let again: Vec<Arc<Site>> = sites.iter().map(|site| Arc::new(Site::clone(site))).collect();
            let expected = SiteChanges { unchanged: sites.len(), ..SiteChanges::default() };
            prop_assert_eq!(diff_sites(&sites, &again), expected);
        }
    }
}
