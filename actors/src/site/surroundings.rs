//! What all sites of a node share.

use std::time::SystemTime;

use slog::Logger;

use super::{clock::Clock, gate::Gate, tls_clients::TlsClients, token::Tokens};
use crate::{metrics::Metrics, model::Slot};

/// What all sites of a node share.
pub struct Surroundings {
    /// Where this node checks from.
    pub location: String,
    /// When this process began to check: with the location, it names the run.
    pub run: Slot,
    /// Counters.
    pub metrics: Metrics,
    /// Log.
    pub log: Logger,
    /// The time of day.
    pub clock: Clock,
    /// How many checks may run at once.
    pub gate: Gate,
    pub(super) tls: TlsClients,
    pub(super) tokens: Tokens,
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
            run: Slot::from_system_time(SystemTime::now()),
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
