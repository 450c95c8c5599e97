//! What all sites of a node share.

use slog::Logger;

use super::{body_pool::BodyPool, clock::Clock, gate::Gate, network::Network, prober::Prober};
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
    pub(super) prober: Box<dyn Prober>,
    pub(super) bodies: BodyPool,
}

impl Surroundings {
    /// Surroundings at `location` where at most `max_checks` run at once, `per_host` of them at one host. Sites are asked over
    /// the network.
    pub fn new(location: String, limits: (usize, usize), metrics: Metrics, log: Logger) -> Self {
        let prober = Box::new(Network::new());
        let clock = Clock::default().telling(log.clone());
        Self::with(prober, clock, location, limits, metrics, log)
    }

    /// As [`Surroundings::new`], with another prober and another clock.
    pub fn with(
        prober: Box<dyn Prober>,
        clock: Clock,
        location: String,
        (max_checks, per_host): (usize, usize),
        metrics: Metrics,
        log: Logger,
    ) -> Self {
        Self {
            bodies: BodyPool::new(metrics.clone()),
            location,
            run: clock.now(),
            metrics,
            log,
            clock,
            gate: Gate::new(max_checks, per_host),
            prober,
        }
    }
}
