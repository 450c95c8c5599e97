//! When failures are an incident: the judge of a site at a location. Pure: the same checks in the order of their slots give the same
//! incidents, whoever judges them and when.

use serde::Serialize;

use super::{Outcome, Slot};

/// When an incident begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// So many checks in a row that are down open an incident.
    pub failure_threshold: u8,
    /// So many checks in a row that are up or degraded close it.
    pub success_threshold: u8,
    /// A site that was well for less than so many microseconds is flapping: its incident goes on.
    pub flap_window_us: i64,
}

impl Rules {
    /// No threshold is larger: so many of the last checks are enough to judge on.
    pub const LARGEST_THRESHOLD: u8 = 30;

    /// Those of a site about which nothing is said.
    pub const DEFAULT: Self = Self {
        failure_threshold: 3,
        success_threshold: 2,
        flap_window_us: 300_000_000,
    };
}

/// Which rules are in force from which slot on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleBook(Vec<(Slot, Rules)>);

impl RuleBook {
    /// From what was announced, in any order.
    pub fn new(mut announced: Vec<(Slot, Rules)>) -> Self {
        announced.sort_by_key(|(since, _)| *since);
        announced.dedup_by_key(|(since, _)| *since);
        Self(announced)
    }

    /// The rules for a check of `slot`: before the first announcement those of the first.
    pub fn at(&self, slot: Slot) -> Rules {
        let after = self.0.partition_point(|(since, _)| *since <= slot);
        let place = after.saturating_sub(1);
        self.0
            .get(place)
            .map_or(Rules::DEFAULT, |(_, rules)| *rules)
    }

    /// Notes an announcement. Whether it changes what was in force for slots from `since` on.
    pub fn add(&mut self, since: Slot, rules: Rules) -> bool {
        let is_new = self.0.is_empty() || self.at(since) != rules;
        if let Err(place) = self.0.binary_search_by_key(&since, |(since, _)| *since) {
            self.0.insert(place, (since, rules));
        }
        is_new
    }
}

/// An incident, as it is stored. All instants are slots of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The first failure: with the site and the location it is the incident's identity.
    pub began: Slot,
    /// The failure with which the threshold was reached.
    pub opened: Slot,
    /// The first success after the last failure, of an incident that is closed.
    pub ended: Option<Slot>,
    /// The success with which the threshold was reached.
    pub closed: Option<Slot>,
    /// How often it had been closed and went on.
    pub flaps: i32,
}

/// Checks in a row of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Streak {
    failing: bool,
    since: Slot,
    latest: Slot,
    /// Not more than is ever asked for.
    count: u8,
}

/// What a check has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Same,
    /// This incident began, ended, or goes on.
    Changed(Incident),
    /// The check is older than one that was judged: what it changes only judging again can say.
    Late,
}

/// What is known of a site at a location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judge {
    newest: Option<Slot>,
    streak: Option<Streak>,
    /// The last incident.
    incident: Option<Incident>,
}

impl Judge {
    /// The judge that has seen the checks up to `newest`. `recent` are the last of them with an outcome other than unknown, the newest
    /// first, [`Rules::LARGEST_THRESHOLD`] of them or all; `incident` is the last one.
    pub fn resumed(
        newest: Option<Slot>,
        recent: impl IntoIterator<Item = (Slot, Outcome)>,
        incident: Option<Incident>,
    ) -> Self {
        let mut streak: Option<Streak> = None;
        for (slot, outcome) in recent {
            let failing = outcome == Outcome::Down;
            match &mut streak {
                None => {
                    streak = Some(Streak {
                        failing,
                        since: slot,
                        latest: slot,
                        count: 1,
                    })
                }
                Some(streak) if streak.failing == failing => {
                    (streak.since, streak.count) = (slot, streak.count.saturating_add(1));
                }
                Some(_) => break,
            }
        }
        Self {
            newest,
            streak,
            incident,
        }
    }

    /// Whether an incident is open.
    pub fn is_open(&self) -> bool {
        self.incident
            .is_some_and(|incident| incident.closed.is_none())
    }

    /// Whether a check of this slot or a later one was judged.
    pub fn has_seen(&self, slot: Slot) -> bool {
        self.newest.is_some_and(|newest| newest >= slot)
    }

    /// Whether a check that comes late may change what comes next. It does not if the site is well and was so after it: then at most an
    /// incident of the past is missing.
    pub fn is_touched_by(&self, slot: Slot, outcome: Outcome) -> bool {
        let is_past = match self.streak {
            Some(streak) => !streak.failing && slot < streak.latest,
            None => false,
        };
        outcome != Outcome::Unknown && (self.is_open() || !is_past)
    }

    /// Judges a check. One that was judged before brings nothing.
    pub fn hear(&mut self, slot: Slot, outcome: Outcome, rules: Rules) -> Verdict {
        match self.newest {
            Some(newest) if slot < newest => return Verdict::Late,
            Some(newest) if slot == newest => return Verdict::Same,
            _ => self.newest = Some(slot),
        }
        let failing = match outcome {
            // It says nothing, for or against.
            Outcome::Unknown => return Verdict::Same,
            Outcome::Down => true,
            Outcome::Up | Outcome::Degraded => false,
        };
        let streak = match self.streak {
            Some(streak) if streak.failing == failing => Streak {
                latest: slot,
                count: streak.count.saturating_add(1),
                ..streak
            },
            _ => Streak {
                failing,
                since: slot,
                latest: slot,
                count: 1,
            },
        };
        self.streak = Some(streak);
        let changed = match (self.is_open(), failing) {
            (false, true) if streak.count >= rules.failure_threshold => {
                self.open(slot, streak.since, rules)
            }
            (true, false) if streak.count >= rules.success_threshold => Incident {
                ended: Some(streak.since),
                closed: Some(slot),
                // An incident is open: there is one.
                ..self.incident.unwrap_or_else(|| fresh(streak.since, slot))
            },
            _ => return Verdict::Same,
        };
        self.incident = Some(changed);
        Verdict::Changed(changed)
    }

    fn open(&self, slot: Slot, since: Slot, rules: Rules) -> Incident {
        let last = self.incident.and_then(|last| Some((last, last.ended?)));
        match last {
            Some((last, ended)) if since.micros_since(ended) < rules.flap_window_us => Incident {
                ended: None,
                closed: None,
                flaps: last.flaps.saturating_add(1),
                ..last
            },
            _ => fresh(since, slot),
        }
    }
}

fn fresh(began: Slot, opened: Slot) -> Incident {
    Incident {
        began,
        opened,
        ended: None,
        closed: None,
        flaps: 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    const RULES: Rules = Rules {
        failure_threshold: 2,
        success_threshold: 2,
        flap_window_us: 5 * MINUTE,
    };

    fn slot(minute: usize) -> Slot {
        Slot::from_micros(minute as i64 * MINUTE)
    }

    /// A check a minute: `u`p, de`g`raded, `d`own, `n`ot known.
    fn outcomes(text: &str) -> Vec<Outcome> {
        text.bytes()
            .map(|letter| match letter {
                b'u' => Outcome::Up,
                b'g' => Outcome::Degraded,
                b'd' => Outcome::Down,
                _ => Outcome::Unknown,
            })
            .collect()
    }

    /// All incidents, as `began opened-ended closed flaps`, in minutes.
    fn incidents(text: &str) -> Vec<String> {
        let (mut judge, mut all) = (Judge::default(), std::collections::BTreeMap::new());
        for (minute, outcome) in outcomes(text).into_iter().enumerate() {
            if let Verdict::Changed(it) = judge.hear(slot(minute), outcome, RULES) {
                all.insert(it.began, it);
            }
        }
        let minute = |slot: Slot| slot.as_micros() / MINUTE;
        all.values()
            .map(|it| {
                let end = it.ended.zip(it.closed);
                let end = end.map_or_else(String::new, |(ended, closed)| {
                    format!("{} {}", minute(ended), minute(closed))
                });
                format!(
                    "{} {}-{end} x{}",
                    minute(it.began),
                    minute(it.opened),
                    it.flaps
                )
            })
            .collect()
    }

    #[test]
    fn an_incident_is_opened_and_closed_by_so_many_in_a_row() {
        assert_eq!(incidents("uudddduu"), ["2 3-6 7 x0"]);
        assert_eq!(incidents("uduuduudug"), [""; 0]);
        assert_eq!(incidents("ddud"), ["0 1- x0"]);
        assert_eq!(incidents("ddgu"), ["0 1-2 3 x0"]);
    }

    #[test]
    fn what_is_not_known_is_neither_a_failure_nor_a_success() {
        assert_eq!(incidents("udnnnd"), ["1 5- x0"]);
        assert_eq!(incidents("ddunnu"), ["0 1-2 5 x0"]);
        assert_eq!(incidents("nnnnn"), [""; 0]);
    }

    #[test]
    fn an_incident_of_a_site_that_flaps_goes_on() {
        assert_eq!(incidents("dduuuudduu"), ["0 1-8 9 x1"]);
        assert_eq!(incidents("dduudduudd"), ["0 1- x2"]);
        // Well for five minutes.
        assert_eq!(incidents("dduuuuudduu"), ["0 1-2 3 x0", "7 8-9 10 x0"]);
    }

    #[test]
    fn a_check_that_comes_again_or_late_changes_nothing_and_lateness_is_told() {
        let mut judge = Judge::default();
        judge.hear(slot(1), Outcome::Down, RULES);
        let before = judge.clone();
        assert_eq!(judge.hear(slot(1), Outcome::Down, RULES), Verdict::Same);
        assert_eq!(judge.hear(slot(0), Outcome::Down, RULES), Verdict::Late);
        assert_eq!(judge, before);
    }

    #[test]
    fn a_late_check_touches_all_but_a_site_that_was_well_after_it() {
        let judge = |text: &str| {
            let mut judge = Judge::default();
            for (minute, outcome) in outcomes(text).into_iter().enumerate() {
                judge.hear(slot(minute), outcome, RULES);
            }
            judge
        };
        let touched = |text, minute| judge(text).is_touched_by(slot(minute), Outcome::Down);
        assert!(!touched("uuuu", 2));
        // What was not known at its end may have been down.
        assert!(touched("uunn", 2) && touched("ddu", 1) && touched("uud", 1) && touched("nn", 0));
        assert!(!judge("uud").is_touched_by(slot(1), Outcome::Unknown));
    }

    #[test]
    fn rules_hold_from_their_slot_on() {
        let other = Rules {
            failure_threshold: 9,
            ..RULES
        };
        let mut book = RuleBook::new(vec![(slot(5), other), (slot(2), RULES)]);
        assert_eq!(
            [1, 2, 4, 5, 9].map(|at| book.at(slot(at)).failure_threshold),
            [2, 2, 2, 9, 9]
        );
        assert!(!book.add(slot(7), other) && book.add(slot(3), other));
        assert_eq!(book.at(slot(4)), other);
        assert!(book.add(slot(1), Rules::DEFAULT) && book.at(slot(0)) == Rules::DEFAULT);
        assert_eq!(RuleBook::default().at(slot(1)), Rules::DEFAULT);
        assert!(RuleBook::default().add(slot(1), Rules::DEFAULT));
        // One that says the same again still parts what comes late from what is in force.
        let mut book = RuleBook::new(vec![(slot(1), RULES)]);
        assert!(!book.add(slot(5), RULES) && book.add(slot(3), other));
        assert_eq!(
            [2, 3, 4, 5, 9].map(|at| book.at(slot(at)).failure_threshold),
            [2, 9, 9, 2, 2]
        );
    }

    proptest! {
        /// A judge that is resumed from what is stored goes on as the one that has seen everything.
        #[test]
        fn one_that_is_resumed_goes_on_alike(
            letters in proptest::collection::vec(proptest::sample::select(b"uuddgn".as_slice()), 0..200),
            cut in 0usize..200,
            failure_threshold in 1u8..5, success_threshold in 1u8..5, window in 0i64..20,
        ) {
            let rules = Rules { failure_threshold, success_threshold, flap_window_us: window * MINUTE };
            let all = outcomes(std::str::from_utf8(&letters).map_err(|e| TestCaseError::fail(e.to_string()))?);
            let (mut whole, mut incident) = (Judge::default(), None);
            let cut = cut.min(all.len());
            for (minute, outcome) in all[..cut].iter().enumerate() {
                if let Verdict::Changed(it) = whole.hear(slot(minute), *outcome, rules) {
                    incident = Some(it);
                }
            }
            let seen = all[..cut].iter().copied().enumerate().rev().filter(|(_, outcome)| *outcome != Outcome::Unknown);
            let recent = seen.take(Rules::LARGEST_THRESHOLD.into()).map(|(minute, outcome)| (slot(minute), outcome));
            let mut resumed = Judge::resumed(cut.checked_sub(1).map(slot), recent, incident);
            for (minute, outcome) in all.iter().enumerate().skip(cut) {
                prop_assert_eq!(whole.hear(slot(minute), *outcome, rules), resumed.hear(slot(minute), *outcome, rules));
            }
        }
    }
}
