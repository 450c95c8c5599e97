//! One check: its attempts, one after another.

use std::net::IpAddr;

use sitewatch_config::Site;
use slog::Logger;

use super::{
    attempt::Attempt,
    clock::Clock,
    gate::{Gate, Pass},
    probe::{self, Kept, Means},
    tls_clients::{SiteClients, TlsClients},
    token::Tokens,
    trial::{Checked, Trial},
};
use crate::metrics::Metrics;

/// What all sites of a node share.
pub struct Surroundings {
    /// Where this node checks from.
    pub location: String,
    /// Counters.
    pub metrics: Metrics,
    /// Log.
    pub log: Logger,
    /// The time of day.
    pub clock: Clock,
    /// How many checks may run at once.
    pub gate: Gate,
    tls: TlsClients,
    tokens: Tokens,
}

impl Surroundings {
    /// Surroundings at `location` where at most `max_checks` run at once, `per_host` of them at one host.
    pub fn new(
        location: String,
        (max_checks, per_host): (usize, usize),
        metrics: Metrics,
        log: Logger,
    ) -> Self {
        Self {
            location,
            metrics,
            log,
            clock: Clock::default(),
            gate: Gate::new(max_checks, per_host),
            tls: TlsClients::new(),
            tokens: Tokens::default(),
        }
    }

    /// How many different TLS clients the sites need.
    pub fn tls_clients(&self) -> usize {
        self.tls.len()
    }
}

/// Which part of a site is checked.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// Only this one of its addresses.
    pub(super) address: Option<IpAddr>,
    /// The connection of the check before, where one is kept.
    pub(super) kept: Option<&'a Kept>,
    pub(super) tls: &'a SiteClients,
}

/// Makes one check of a part of a site.
pub(super) async fn check_part(mut trial: Trial<'_>, pass: Pass<'_>, part: Part<'_>) -> Checked {
    let Trial { site, around, .. } = trial;
    let mut pass = Some(pass);
    loop {
        let attempt = attempt(site, around, part).await;
        // Who waits for a retry holds up nobody.
        drop(pass.take());
        if let Some(verdict) = trial.judge(&attempt) {
            return trial.report(attempt, verdict, part.address);
        }
        if let Some(kept) = part.kept {
            kept.let_go();
        }
        tokio::time::sleep(site.options.schedule.retry_delay).await;
        pass = Some(around.gate.enter(host(site)).await);
    }
}

/// The host whose checks count together.
pub(super) fn host(site: &Site) -> &str {
    site.url.host_str().unwrap_or_default()
}

async fn attempt(site: &Site, around: &Surroundings, part: Part<'_>) -> Attempt {
    let token = match around.tokens.get(site, &around.tls).await {
        Ok(token) => token,
        Err(failure) => {
            return Attempt {
                failure: Some(failure),
                ..Attempt::default()
            };
        }
    };
    let means = Means {
        token: token.as_deref(),
        pinned: part.address.map(|address| (host(site), address)),
        kept: part.kept,
        ..Means::of(&around.tls, part.tls)
    };
    let attempt = probe::probe(site, &means).await;
    if attempt.status == Some(401)
        && let Some(token) = &token
    {
        around.tokens.let_go(site, token);
    }
    attempt
}
