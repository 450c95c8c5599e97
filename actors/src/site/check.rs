//! One check: its attempts, one after another.

use std::net::IpAddr;

use sitewatch_config::Site;

use super::{
    attempt::Attempt,
    gate::{Pass, host},
    probe::{self, Kept, Means},
    surroundings::Surroundings,
    tls_clients::SiteClients,
    trial::{Checked, Trial},
};

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
    let mut pass = pass;
    loop {
        let attempt = attempt(site, around, part).await;
        drop(pass);
        if let Some(verdict) = trial.judge(&attempt) {
            return trial.report(attempt, verdict, part.address);
        }
        if let Some(kept) = part.kept {
            kept.let_go();
        }
        pass = trial.wait_for_retry().await;
    }
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
