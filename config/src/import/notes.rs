//! What is not carried over.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Collects the lines of `left_out`. All readers of one import share it.
#[derive(Default)]
pub(super) struct Notes {
    notes: RefCell<Vec<Note>>,
    /// The sites or modules of the input, to tell what is true of all of them.
    places: RefCell<BTreeSet<String>>,
}

struct Note {
    /// The site, module or job; empty for the file itself.
    place: String,
    /// The keys; none if the place as a whole is meant.
    keys: Vec<String>,
    why: String,
}

/// Below this number a line for each place is easier to read than one for all.
const MANY: usize = 3;

impl Notes {
    /// Makes a site or module known that is carried over.
    pub(super) fn enter(&self, place: &str) {
        self.places.borrow_mut().insert(place.to_owned());
    }

    /// A key that is not carried over, or not as it was.
    pub(super) fn key(&self, place: &str, key: &str, why: impl Into<String>) {
        let why = why.into();
        let mut notes = self.notes.borrow_mut();
        // Notes of one place follow each other: the others need no look.
        let mut own = notes
            .iter_mut()
            .rev()
            .take_while(|note| note.place == place);
        match own.find(|note| note.why == why && !note.keys.is_empty()) {
            Some(note) if note.keys.iter().any(|known| known == key) => {}
            Some(note) => note.keys.push(key.to_owned()),
            None => notes.push(Note {
                place: place.to_owned(),
                keys: vec![key.to_owned()],
                why,
            }),
        }
    }

    /// Something about a site or module as a whole.
    pub(super) fn whole(&self, place: &str, what: impl Into<String>) {
        self.notes.borrow_mut().push(Note {
            place: place.to_owned(),
            keys: Vec::new(),
            why: what.into(),
        });
    }

    /// A site or module that is not carried over at all.
    pub(super) fn skip(&self, place: &str, why: impl Into<String>) {
        self.whole(place, format!("left out: {}", why.into()));
    }

    /// The lines. What is true of every site alike is said once.
    pub(super) fn lines(&self) -> Vec<String> {
        let (notes, places) = (self.notes.borrow(), self.places.borrow());
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for note in notes.iter().filter(|note| places.contains(&note.place)) {
            for key in &note.keys {
                *counts.entry((&note.why, key)).or_default() += 1;
            }
        }
        let is_general = |note: &Note, key: &str| {
            let count = counts.get(&(&*note.why, key));
            places.len() >= MANY && places.contains(&note.place) && count == Some(&places.len())
        };
        let mut lines = Vec::new();
        let mut said = BTreeSet::new();
        for note in notes.iter() {
            if note.keys.is_empty() {
                lines.push(format!("{}: {}", note.place, note.why));
                continue;
            }
            let (general, own): (Vec<&str>, Vec<&str>) = note
                .keys
                .iter()
                .map(String::as_str)
                .partition(|key| is_general(note, key));
            let place = if note.place.is_empty() {
                String::new()
            } else {
                format!("{}: ", note.place)
            };
            if !general.is_empty() && said.insert(&note.why) {
                lines.push(format!(
                    "all {}: {}: {}",
                    places.len(),
                    general.join(", "),
                    note.why
                ));
            }
            if !own.is_empty() {
                lines.push(format!("{place}{}: {}", own.join(", "), note.why));
            }
        }
        // Names and keys are the user's own, and a line stays a line.
        lines
            .into_iter()
            .map(|line| line.replace(char::is_control, " "))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_true_of_all_is_said_once() {
        let notes = Notes::default();
        for place in ["a", "b", "c"] {
            notes.enter(place);
            notes.key(place, "alerts", "none are sent");
            if place == "b" {
                notes.key(place, "hooks", "none are sent");
            }
            notes.key(place, "tags", "none are sent");
        }
        notes.key("b", "ui", "there is none");
        notes.key("", "web", "there is none");
        notes.skip("d", "no HTTP");
        assert_eq!(
            notes.lines(),
            [
                "all 3: alerts, tags: none are sent",
                "b: hooks: none are sent",
                "b: ui: there is none",
                "web: there is none",
                "d: left out: no HTTP"
            ]
        );
    }
}
