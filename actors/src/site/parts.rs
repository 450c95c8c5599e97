//! What one site's check is made of: one part as a rule, or one for each of the name's addresses.

use std::{cell::RefCell, net::IpAddr};

use futures_util::future::join_all;
use sitewatch_config::{Resolve, Site};

use super::{
    attempt::Failure,
    check::{self, Checked, Part, Surroundings, check_part},
    probe::{Kept, resolve},
};
use crate::model::{ErrorKind, Slot};

/// The parts of a site, and what is kept for them from check to check.
pub struct Parts(Kind);

enum Kind {
    /// The site as a whole.
    Whole,
    /// The site as a whole, on a connection that is kept.
    Kept(Box<Kept>),
    /// Each of its addresses, those known from the last time.
    Each(Box<RefCell<Vec<IpAddr>>>),
}

impl Parts {
    /// The parts of `site`, before its first check.
    pub fn of(site: &Site) -> Self {
        Self(match site.options.schedule.resolve {
            Resolve::Each => Kind::Each(Box::default()),
            Resolve::Any if site.options.request.keep_alive => Kind::Kept(Box::default()),
            Resolve::Any => Kind::Whole,
        })
    }

    /// Checks all parts at once, now, for the slot `slot`. There is always at least one.
    pub async fn check(&self, site: &Site, slot: Slot, around: &Surroundings) -> Vec<Checked> {
        let kept = match &self.0 {
            Kind::Each(known) => return self.check_each(site, slot, around, known).await,
            Kind::Kept(kept) => Some(&**kept),
            Kind::Whole => None,
        };
        let whole = Part {
            address: None,
            kept,
        };
        // Not in one expression, which would hold the list's memory while the check lasts.
        let checked = check_part(site, slot, around, whole).await;
        vec![checked]
    }

    async fn check_each(
        &self,
        site: &Site,
        slot: Slot,
        around: &Surroundings,
        known: &RefCell<Vec<IpAddr>>,
    ) -> Vec<Checked> {
        match addresses(site).await {
            Ok(addresses) => {
                let part = |address: &IpAddr| Part {
                    address: Some(*address),
                    kept: None,
                };
                let checks = addresses
                    .iter()
                    .map(|address| check_part(site, slot, around, part(address)));
                let all = join_all(checks).await;
                known.replace(addresses);
                all
            }
            // Each of them would be told the same by DNS.
            Err(failure) => self
                .addresses()
                .into_iter()
                .map(|address| {
                    check::unwell(site, slot, failure.kind, &failure.detail, around, address)
                })
                .collect(),
        }
    }

    /// The addresses for which a slot has a row; `None` for the site as a whole.
    pub(super) fn addresses(&self) -> Vec<Option<IpAddr>> {
        match &self.0 {
            Kind::Each(known) if !known.borrow().is_empty() => {
                known.borrow().iter().copied().map(Some).collect()
            }
            _ => vec![None],
        }
    }
}

async fn addresses(site: &Site) -> Result<Vec<IpAddr>, Failure> {
    let name = match site.url.host() {
        Some(url::Host::Domain(name)) => name,
        Some(url::Host::Ipv4(address)) => return Ok(vec![address.into()]),
        Some(url::Host::Ipv6(address)) => return Ok(vec![address.into()]),
        None => "",
    };
    let timeout = site.options.schedule.timeout;
    let asked = tokio::time::timeout(timeout, resolve(name, &site.options.connection));
    let mut addresses = asked.await.unwrap_or_else(|_| {
        let within = humantime::format_duration(timeout);
        let detail = format!("{name}: no answer from DNS within {within}");
        Err(Failure::new(ErrorKind::DnsTimeout, detail))
    })?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}
