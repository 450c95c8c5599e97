//! What the producers have told over all their lives, and what must be stored of it.

use std::collections::{BTreeMap, BTreeSet};

use sitewatch_actors::{model::Slot, site::Schedule};
use sitewatch_config::Site;

use super::{
    database::{Key, Said, Tables},
    sites::is_of_a_producer,
};

/// What the producers have told, over all their lives.
#[derive(Default)]
pub(crate) struct Checked {
    /// Results that counted as checked, with what they say. They must be stored.
    pub(crate) accepted: Vec<(Key, Said)>,
    beginnings: Vec<Beginning>,
    lives: usize,
}

/// A site begins to be checked.
struct Beginning {
    life: usize,
    schedule: Schedule,
    /// Its first slot.
    key: Key,
    end: End,
    /// Another took its place in the same life.
    replaced: bool,
}

/// How the producer's life ended in which it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At any moment: what had not counted yet is gone.
    Killed,
    /// In order, while faults happened: all is there that a site has told of, but it may have found no room to say its end.
    InOrder,
    /// In order and undisturbed.
    Calm,
}

impl Checked {
    /// A producer's life begins. Gives its number.
    pub(crate) fn new_life(&mut self) -> usize {
        self.lives += 1;
        self.lives
    }

    /// In this life `site` begins at the time `now`.
    pub(crate) fn begin(&mut self, life: usize, site: &Site, now: Slot) {
        let schedule = Schedule::new(&site.name, &site.options.schedule);
        let first = schedule.next_after(now);
        for before in self.of_life(life) {
            before.replaced |= before.key.0 == *site.name;
        }
        self.beginnings.push(Beginning {
            life,
            schedule,
            key: (site.name.to_string(), first.as_micros()),
            end: End::Killed,
            replaced: false,
        });
    }

    /// How this life has ended. One of which nothing is said was killed.
    pub(crate) fn end(&mut self, life: usize, end: End) {
        for beginning in self.of_life(life) {
            beginning.end = end;
        }
    }

    fn of_life(&mut self, life: usize) -> impl Iterator<Item = &mut Beginning> {
        let all = self.beginnings.iter_mut();
        all.filter(move |beginning| beginning.life == life)
    }

    /// Compares what is stored of the producers' sites with what they did. Gives the checks that must be there once.
    pub(crate) fn judge(&self, stored: &Tables, problems: &mut Vec<String>) -> BTreeSet<Key> {
        let mut due: BTreeSet<_> = self.accepted.iter().map(|(key, _)| key.clone()).collect();
        let (mut schedules, mut times) = (BTreeMap::new(), BTreeMap::new());
        for Beginning { schedule, key, .. } in &self.beginnings {
            let of_site: &mut Vec<_> = schedules.entry(&*key.0).or_default();
            of_site.push(schedule);
            *times.entry(key).or_insert(0) += 1;
        }
        for beginning in &self.beginnings {
            // Of one that began with the same slot in two lives the database knows only the first end.
            if beginning.end != End::Killed && times[&beginning.key] == 1 {
                due.extend(beginning.slots(stored, problems));
            }
        }
        // What did not count may be there all the same, in a slot of its site.
        for (site, slot) in stored.rows.keys().filter(|key| is_of_a_producer(&key.0)) {
            let before = Slot::from_micros(slot - 1);
            let is_slot = |schedule: &&Schedule| schedule.next_after(before).as_micros() == *slot;
            let schedules = schedules.get(&**site).into_iter().flatten();
            if schedules.copied().any(|schedule| is_slot(&schedule)) {
                due.insert((site.clone(), *slot));
            } else {
                problems.push(format!("{slot} is no slot of {site}"));
            }
        }
        due
    }
}

impl Beginning {
    /// The slots from its first to its end, all of which the site has told of.
    fn slots(&self, stored: &Tables, problems: &mut Vec<String>) -> Vec<Key> {
        let (site, since) = &self.key;
        let until = match stored.revisions.get(&self.key) {
            Some(Some(until)) => *until,
            told => {
                if self.end == End::Calm && !self.replaced {
                    problems.push(format!("{site} from {since} on is {told:?}, not ended"));
                }
                return Vec::new();
            }
        };
        let mut slots = Vec::new();
        let mut slot = Slot::from_micros(*since);
        while slot.as_micros() < until {
            slots.push((site.clone(), slot.as_micros()));
            slot = self.schedule.next_after(slot);
        }
        slots
    }
}
