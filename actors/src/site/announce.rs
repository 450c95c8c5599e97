//! What a site announces: which slots are due, so that whoever reads the results knows which rows must exist.
//!
//! Rows come under the site's name, or, where each of its addresses is checked, under `name@address`: then each address is
//! announced with the first slot that has a row of it, and taken back with the first one that has none.

use std::{net::IpAddr, time::Duration};

use sitewatch_config::{IncidentOptions, Resolve, ScheduleOptions, Site};

use super::{schedule::Schedule, surroundings::Surroundings, trial::name};
use crate::model::{About, MESSAGE_VERSION, Rules, SiteRevision, Slot};

/// What stands is told again after so long, at one of the site's own slots: so all sites together never make a burst.
const AGAIN_US: i64 = 3_600_000_000;

/// What is to be told: of the site, or of one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    address: Option<IpAddr>,
    since: Slot,
    until: Option<Slot>,
}

/// What has been announced and stands. Outlives the lives of the actor.
#[derive(Debug, Default)]
pub(super) struct Standing {
    announced: Vec<(Option<IpAddr>, Slot)>,
    /// The ends, in the future, of what was announced under a clock that was ahead: whoever reads the announcements in the order of their
    /// first slots takes them for the last word from then on.
    ahead: Vec<Slot>,
    /// The slot at which all of it was last told.
    told: Option<Slot>,
}

impl Standing {
    pub(super) fn is_empty(&self) -> bool {
        self.announced.is_empty()
    }

    /// `slot` has, or will have, a row for exactly these addresses: what that changes, or all that stands where it is to be
    /// told again.
    pub(super) fn cover(&mut self, slot: Slot, addresses: &[Option<IpAddr>]) -> Vec<Change> {
        let mut changes = Vec::new();
        self.announced.retain(|(address, since)| {
            let stays = addresses.contains(address);
            if !stays {
                changes.push(Change {
                    address: *address,
                    since: *since,
                    // Not before the first one, which is still to come if the clock was set back.
                    until: Some(slot.max(*since)),
                });
            }
            stays
        });
        let known = self.ahead.len();
        self.ahead.retain(|end| *end > slot);
        if self.ahead.len() < known {
            for (_, since) in &mut self.announced {
                *since = slot;
            }
            changes.extend(self.all(None));
        }
        let told = *self.told.get_or_insert(slot);
        if slot.micros_since(told) >= AGAIN_US {
            self.told = Some(slot);
            changes.extend(self.all(None));
        }
        for address in addresses {
            if !self.announced.iter().any(|(known, _)| known == address) {
                self.announced.push((*address, slot));
                changes.push(Change {
                    address: *address,
                    since: slot,
                    until: None,
                });
            }
        }
        changes
    }

    /// The clock was set: the slots before `until` were taken, and the one that comes now is `next`. Ends what is not due any more, or not
    /// yet, by that. What the clock was set back to a time of goes on: its slots come once more.
    pub(super) fn step(&mut self, until: Slot, next: Slot) -> Vec<Change> {
        let goes_on = |since: Slot| next == until || next < until && since <= next;
        let mut changes = Vec::new();
        self.announced.retain(|(address, since)| {
            let stays = goes_on(*since);
            if !stays {
                changes.push(Change {
                    address: *address,
                    since: *since,
                    until: Some(until.max(*since)),
                });
            }
            stays
        });
        if !changes.is_empty() {
            self.told = None;
            if next < until {
                self.ahead.push(until);
            }
        }
        changes
    }

    /// The site has come to its end: `until` is the first slot that it does not take.
    pub(super) fn end(&mut self, until: Slot) -> Vec<Change> {
        let changes = self.all(Some(until)).collect();
        self.announced.clear();
        changes
    }

    fn all(&self, until: Option<Slot>) -> impl Iterator<Item = Change> {
        self.announced.iter().map(move |(address, since)| Change {
            address: *address,
            since: *since,
            until: until.map(|until| until.max(*since)),
        })
    }
}

/// The message that tells `change`.
pub(super) fn revision(
    site: &Site,
    schedule: &Schedule,
    around: &Surroundings,
    change: Change,
) -> SiteRevision {
    SiteRevision {
        v: MESSAGE_VERSION,
        kind: SiteRevision::KIND,
        site: name(site, change.address),
        url: site.shown_url().into(),
        location: around.location.clone(),
        since: change.since,
        until: change.until,
        due: schedule.due(),
        check_limit_us: micros(longest_check(&site.options.schedule)),
        config_hash: site.config_hash(),
        rules: rules(site.options.incident),
        about: about(site, change.address),
        labels: site.options.labels.clone(),
        run: around.run,
    }
}

fn about(site: &Site, address: Option<IpAddr>) -> About {
    let about = &site.options.about;
    let at = |name: &String| match address {
        Some(address) => format!("{name}@{address}"),
        None => name.clone(),
    };
    About {
        group: about.group.clone(),
        tags: about.tags.clone(),
        formerly: site.formerly().iter().map(at).collect(),
        sla_target: about.sla.map(|sla| sla.target_percent()),
        sla_window_us: about.sla.map(|sla| micros(sla.window)),
    }
}

fn rules(options: IncidentOptions) -> Rules {
    Rules {
        failure_threshold: options.failure_threshold,
        success_threshold: options.success_threshold,
        flap_window_us: micros(options.flap_window),
    }
}

/// The longest that a check may take: its attempts and the pauses between them.
fn longest_check(options: &ScheduleOptions) -> Duration {
    let retries = u32::from(options.retries);
    let attempts = options.timeout * (retries + 1) + options.retry_delay * retries;
    match options.resolve {
        Resolve::Any => attempts,
        // Its addresses are asked for first, with as many attempts.
        Resolve::Each => attempts * 2,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(seconds: i64) -> Slot {
        Slot::from_micros(seconds * 1_000_000)
    }

    fn shown(changes: &[Change]) -> Vec<(Option<IpAddr>, i64, Option<i64>)> {
        let seconds = |slot: Slot| slot.as_micros() / 1_000_000;
        let show = |change: &Change| {
            let Change {
                address,
                since,
                until,
            } = *change;
            (address, seconds(since), until.map(seconds))
        };
        changes.iter().map(show).collect()
    }

    #[test]
    fn a_site_is_announced_once_then_hourly_with_the_same_beginning_and_at_its_end() {
        let mut standing = Standing::default();
        assert_eq!(
            shown(&standing.cover(slot(60), &[None])),
            [(None, 60, None)]
        );
        let told: Vec<_> = (2..=125)
            .filter(|minute| !standing.cover(slot(minute * 60), &[None]).is_empty())
            .collect();
        assert_eq!(told, [61, 121]);
        assert_eq!(shown(&standing.end(slot(7560))), [(None, 60, Some(7560))]);
        assert!(standing.is_empty() && standing.end(slot(7620)).is_empty());
    }

    #[test]
    fn addresses_come_and_go() {
        let (a, b) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
        let mut standing = Standing::default();
        // DNS did not answer at first: the row is one of the site as a whole.
        assert_eq!(shown(&standing.cover(slot(1), &[None])), [(None, 1, None)]);
        let both = standing.cover(slot(2), &[a, b]);
        assert_eq!(
            shown(&both),
            [(None, 1, Some(2)), (a, 2, None), (b, 2, None)]
        );
        assert!(standing.cover(slot(3), &[b, a]).is_empty());
        assert_eq!(shown(&standing.cover(slot(4), &[a])), [(b, 2, Some(4))]);
        assert_eq!(shown(&standing.cover(slot(5), &[a, b])), [(b, 5, None)]);
        assert_eq!(
            shown(&standing.end(slot(6))),
            [(a, 2, Some(6)), (b, 5, Some(6))]
        );
    }

    #[test]
    fn what_a_clock_that_was_set_skips_is_not_announced() {
        let mut standing = Standing::default();
        standing.cover(slot(60), &[None]);
        // Forward: slots up to 110 were taken.
        let told = standing.step(slot(120), slot(1810));
        assert_eq!(shown(&told), [(None, 60, Some(120))]);
        assert_eq!(
            shown(&standing.cover(slot(1810), &[None])),
            [(None, 1810, None)]
        );
        // And back again: what was announced in between ends, and goes on when its time has come.
        let told = standing.step(slot(1830), slot(150));
        assert_eq!(shown(&told), [(None, 1810, Some(1830))]);
        assert_eq!(
            shown(&standing.cover(slot(150), &[None])),
            [(None, 150, None)]
        );
        let told: Vec<_> = (16..200)
            .flat_map(|n| standing.cover(slot(n * 10), &[None]))
            .collect();
        assert_eq!(shown(&told), [(None, 1830, None)]);
        // Back to a time at which it was due, or by less than a slot: nothing is said, and its end is where it was.
        for next in [1900, 1830, 2000] {
            assert_eq!(shown(&standing.step(slot(2000), slot(next))), []);
        }
        assert_eq!(shown(&standing.end(slot(2000))), [(None, 1830, Some(2000))]);
    }

    #[test]
    fn what_nothing_is_said_of_has_the_default_rules() {
        assert_eq!(rules(IncidentOptions::default()), Rules::DEFAULT);
    }

    #[test]
    fn the_longest_check_has_all_attempts_and_pauses() {
        let mut options = ScheduleOptions {
            timeout: Duration::from_secs(10),
            retries: 2,
            retry_delay: Duration::from_secs(3),
            ..ScheduleOptions::default()
        };
        assert_eq!(longest_check(&options), Duration::from_secs(36));
        options.resolve = Resolve::Each;
        assert_eq!(longest_check(&options), Duration::from_secs(72));
    }
}
