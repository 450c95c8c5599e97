//! The prober that asks the sites themselves.

use futures_util::future::LocalBoxFuture;
use sitewatch_config::Site;

use super::{
    attempt::Attempt,
    gate::host,
    probe::{self, Means},
    prober::{Part, Prober},
    tls_clients::TlsClients,
    token::Tokens,
};

/// Asks over the network, logged in where a site wants it.
pub(super) struct Network {
    tls: TlsClients,
    tokens: Tokens,
}

impl Prober for Network {
    fn attempt<'a>(&'a self, site: &'a Site, part: Part<'a>) -> LocalBoxFuture<'a, Attempt> {
        Box::pin(self.ask(site, part))
    }
}

impl Network {
    pub(super) fn new() -> Self {
        Self {
            tls: TlsClients::new(),
            tokens: Tokens::default(),
        }
    }

    async fn ask(&self, site: &Site, part: Part<'_>) -> Attempt {
        let token = match self.tokens.get(site, &self.tls).await {
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
            ..Means::of(&self.tls, part.tls)
        };
        let attempt = probe::probe(site, &means).await;
        if attempt.status == Some(401)
            && let Some(token) = &token
        {
            self.tokens.let_go(site, token);
        }
        attempt
    }
}
