//! What one site's check is made of: one part as a rule, or one for each of the name's addresses.

use std::{cell::RefCell, net::IpAddr};

use futures_util::future::join_all;
use sitewatch_config::{Resolve, Site};

use super::{
    attempt::Failure,
    check::{self, Part, Surroundings, check_part},
    probe::{Kept, resolve},
};
use crate::model::{CheckResult, ErrorKind, Slot};

/// The parts of a site, and what is kept for them from check to check.
pub(super) enum Parts {
    /// The site as a whole.
    Whole,
    /// The site as a whole, on a connection that is kept.
    Kept(Box<Kept>),
    /// Each of its addresses, those known from the last time.
    Each(Box<RefCell<Vec<IpAddr>>>),
}

impl Parts {
    pub(super) fn of(site: &Site) -> Self {
        match site.options.schedule.resolve {
            Resolve::Each => Self::Each(Box::default()),
            Resolve::Any if site.options.request.keep_alive => Self::Kept(Box::default()),
            Resolve::Any => Self::Whole,
        }
    }

    /// Checks all parts at once.
    pub(super) async fn check(
        &self,
        site: &Site,
        slot: Slot,
        around: &Surroundings,
    ) -> Vec<CheckResult> {
        let whole = |kept| Part {
            address: None,
            kept,
        };
        match self {
            Self::Whole => vec![check_part(site, slot, around, whole(None)).await.result],
            Self::Kept(kept) => vec![
                check_part(site, slot, around, whole(Some(kept)))
                    .await
                    .result,
            ],
            Self::Each(known) => self.check_each(site, slot, around, known).await,
        }
    }

    async fn check_each(
        &self,
        site: &Site,
        slot: Slot,
        around: &Surroundings,
        known: &RefCell<Vec<IpAddr>>,
    ) -> Vec<CheckResult> {
        match addresses(site).await {
            Ok(addresses) => {
                let part = |address: &IpAddr| Part {
                    address: Some(*address),
                    kept: None,
                };
                let checks = addresses
                    .iter()
                    .map(|address| check_part(site, slot, around, part(address)));
                let results = join_all(checks).await;
                known.replace(addresses);
                results.into_iter().map(|checked| checked.result).collect()
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
        match self {
            Self::Each(known) if !known.borrow().is_empty() => {
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
