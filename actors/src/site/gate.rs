//! How many checks may run at once: on the node, and at one host. Who waits is late, and lateness is never the site's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sitewatch_config::Site;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets checks through.
pub struct Gate {
    all: Arc<Semaphore>,
    per_host: usize,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Leave to run one check. Given back when it is dropped.
pub struct Pass<'a> {
    _host: Place<'a>,
    /// `None` never comes: the semaphore is private and is never closed.
    _all: Option<OwnedSemaphorePermit>,
}

/// A place at a host, or in the queue for one.
struct Place<'a> {
    gate: &'a Gate,
    host: &'a str,
    permit: Option<OwnedSemaphorePermit>,
}

/// The host of a site, whose checks count together.
pub(super) fn host(site: &Site) -> &str {
    site.url.host_str().unwrap_or_default()
}

impl Gate {
    /// At most `all` checks at once, `per_host` of them at one host.
    pub fn new(all: usize, per_host: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            per_host: per_host.min(Semaphore::MAX_PERMITS),
            hosts: Mutex::default(),
        }
    }

    /// Waits until a check of `host` may run. Who came first goes first; a host that is full holds up nobody else.
    pub async fn enter<'a>(&'a self, host: &'a str) -> Pass<'a> {
        let semaphore = self.semaphore(host);
        let mut place = Place {
            gate: self,
            host,
            permit: None,
        };
        // The host first: who waits for a host that is full must not hold a place of all.
        place.permit = semaphore.acquire_owned().await.ok();
        Pass {
            _host: place,
            _all: Arc::clone(&self.all).acquire_owned().await.ok(),
        }
    }

    /// As [`Gate::enter`], for a check of `site`.
    pub(super) async fn enter_for<'a>(&'a self, site: &'a Site) -> Pass<'a> {
        self.enter(host(site)).await
    }

    fn semaphore(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = hosts.get(host) {
            return Arc::clone(semaphore);
        }
        let semaphore = Arc::new(Semaphore::new(self.per_host));
        hosts.insert(host.to_owned(), Arc::clone(&semaphore));
        semaphore
    }
}

impl Drop for Place<'_> {
    /// Forgets a host at which nothing runs or waits any more.
    fn drop(&mut self) {
        self.permit = None;
        let mut hosts = self
            .gate
            .hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if hosts
            .get(self.host)
            .is_some_and(|semaphore| Arc::strong_count(semaphore) == 1)
        {
            hosts.remove(self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix_rt::test]
    async fn a_full_host_holds_up_nobody_else() {
        let gate = Gate::new(3, 2);
        let (one, _two) = (gate.enter("a").await, gate.enter("a").await);
        let mut third = Box::pin(gate.enter("a"));
        assert!(third.as_mut().now_or_never().is_none());
        let other = gate.enter("b").now_or_never();
        assert!(other.is_some());
        assert!(gate.enter("c").now_or_never().is_none(), "three run");
        drop(one);
        assert!(third.now_or_never().is_some());
    }

    #[actix_rt::test]
    async fn hosts_are_forgotten() {
        let gate = Gate::new(1, 1);
        let pass = gate.enter("a").await;
        assert!(gate.enter("a").now_or_never().is_none());
        assert!(gate.enter("b").now_or_never().is_none());
        drop(pass);
        assert!(gate.hosts.lock().unwrap().is_empty());
    }
}
