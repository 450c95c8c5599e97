//! Who asks a site: the network, or, in the simulation, something that answers as it wants.

use std::{cell::Cell, net::IpAddr};

use futures_util::future::LocalBoxFuture;
use sitewatch_config::Site;

use super::{attempt::Attempt, probe::Kept, tls_clients::SiteClients};

/// Makes the attempts of all sites of a node.
pub trait Prober: Send + Sync {
    /// Asks a part of `site` once. It sees to it by itself that this ends, as the site's timeout says.
    fn attempt<'a>(&'a self, site: &'a Site, part: Part<'a>) -> LocalBoxFuture<'a, Attempt>;
}

/// Which part of a site is checked.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Only this one of its addresses.
    pub(super) address: Option<IpAddr>,
    /// The connection of the check before, where one is kept.
    pub(super) kept: Option<&'a Kept>,
    pub(super) tls: &'a SiteClients,
    /// Whether the site's bodies were slow to judge of late.
    pub(super) is_slow: &'a Cell<bool>,
}
