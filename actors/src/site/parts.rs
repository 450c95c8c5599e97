//! What one site's check is made of: one part as a rule, or one for each of the name's addresses.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sitewatch_config::{Resolve, Site};

use super::{
    attempt::{Attempt, Failure},
    check::check_part,
    gate::{Pass, host},
    probe::{Kept, addresses_of, micros},
    prober::Part,
    surroundings::Surroundings,
    tls_clients::SiteClients,
    trial::{Checked, Trial},
};
use crate::model::{ErrorKind, Phases, Reached, Slot};

/// The most addresses of a name that are checked each: more is a mistake in DNS, or somebody's joke.
const MOST_ADDRESSES: usize = 64;

/// The parts of a site, and what is kept for them from check to check.
pub struct Parts {
    kind: Kind,
    tls: SiteClients,
    is_slow: Cell<bool>,
}

enum Kind {
    /// The site as a whole; on a connection that is kept, if there is a place for one.
    Whole(Option<Box<Kept>>),
    /// Each of its addresses, those known from the last time.
    Each(Box<RefCell<Vec<IpAddr>>>),
}

impl Parts {
    /// The parts of `site`, before its first check.
    pub fn of(site: &Site) -> Self {
        let options = &site.options;
        Self {
            kind: match options.schedule.resolve {
                Resolve::Each => Kind::Each(Box::default()),
                Resolve::Any => Kind::Whole(options.request.keep_alive.then(Box::default)),
            },
            tls: SiteClients::default(),
            is_slow: Cell::default(),
        }
    }

    /// Checks all parts at once for the slot `slot`, as soon as there is a place. There is always at least one part.
    pub async fn check(&self, site: &Site, slot: Slot, around: &Surroundings) -> Vec<Checked> {
        let pass = around.gate.enter_for(site).await;
        self.check_now(site, slot, around, pass).await
    }

    /// As [`Parts::check`], now.
    pub(super) async fn check_now(
        &self,
        site: &Site,
        slot: Slot,
        around: &Surroundings,
        pass: Pass<'_>,
    ) -> Vec<Checked> {
        match &self.kind {
            Kind::Each(known) => self.check_each(site, slot, around, pass, known).await,
            Kind::Whole(kept) => {
                let part = Part {
                    address: None,
                    kept: kept.as_deref(),
                    tls: &self.tls,
                    is_slow: &self.is_slow,
                };
                let trial = Trial::new(site, slot, around, Duration::ZERO);
                // Not in one expression, which would hold the list's memory while the check lasts.
                let checked = check_part(trial, pass, part).await;
                vec![checked]
            }
        }
    }

    /// Resolves the name once, and checks each address with a place and retries of its own.
    async fn check_each(
        &self,
        site: &Site,
        slot: Slot,
        around: &Surroundings,
        pass: Pass<'_>,
        known: &RefCell<Vec<IpAddr>>,
    ) -> Vec<Checked> {
        let begun = Instant::now();
        let mut trial = Trial::new(site, slot, around, Duration::ZERO);
        let mut pass = pass;
        let addresses = loop {
            let asked = Instant::now();
            let found = addresses(site).await;
            drop(pass);
            let failure = match found {
                Ok(addresses) => break addresses,
                Err(failure) => failure,
            };
            let attempt = unresolved(failure, asked.elapsed());
            if let Some(verdict) = trial.judge(&attempt) {
                // Each of them would be told the same by DNS.
                let told = |address| {
                    let (trial, attempt) = (trial.clone(), attempt.clone());
                    trial.report(attempt, verdict.clone(), address)
                };
                return self.addresses().into_iter().map(told).collect();
            }
            pass = trial.wait_for_retry().await;
        };
        let resolving = begun.elapsed();
        let checks = addresses.iter().map(async |address| {
            let pass = around.gate.enter_for(site).await;
            let part = Part {
                address: Some(*address),
                kept: None,
                tls: &self.tls,
                is_slow: &self.is_slow,
            };
            check_part(Trial::new(site, slot, around, resolving), pass, part).await
        });
        let all = join_all(checks).await;
        known.replace(addresses);
        all
    }

    /// Whether the site is checked as a whole.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.kind, Kind::Whole(_))
    }

    /// The addresses for which a slot has a row; `None` for the site as a whole.
    pub(super) fn addresses(&self) -> Vec<Option<IpAddr>> {
        match &self.kind {
            Kind::Each(known) if !known.borrow().is_empty() => {
                known.borrow().iter().copied().map(Some).collect()
            }
            _ => vec![None],
        }
    }
}

/// An attempt that did not come beyond DNS.
fn unresolved(failure: Failure, took: Duration) -> Attempt {
    let took = micros(took);
    Attempt {
        failure: Some(failure),
        reached: Reached::Dns,
        phases: Phases {
            dns_us: Some(took),
            total_us: Some(took),
            ..Phases::default()
        },
        ..Attempt::default()
    }
}

async fn addresses(site: &Site) -> Result<Vec<IpAddr>, Failure> {
    let timeout = site.options.schedule.timeout;
    let asked = tokio::time::timeout(timeout, addresses_of(site));
    let mut addresses = asked.await.unwrap_or_else(|_| {
        let within = humantime::format_duration(timeout);
        let detail = format!("{}: no answer from DNS within {within}", host(site));
        Err(Failure::new(ErrorKind::DnsTimeout, detail))
    })?;
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    Ok(addresses)
}
