//! Connected, messages there, and none stored for a minute: a failure that shows, whatever its cause.

use std::time::Duration;

use slog::{Logger, error, info};
use tokio::time::Instant;

use crate::{health::Obstacles, metrics::Metrics};

/// How long nothing may be stored while there are messages.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the broker is asked for messages after that.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// The name of the obstacle.
const OBSTACLE: &str = "standstill";

/// Watches that what there is gets stored.
pub(super) struct Standstill {
    /// When something was stored last, or there was nothing to store.
    since: Instant,
    next_look: Instant,
    told: Option<Instant>,
    obstacles: Obstacles,
    metrics: Metrics,
}

impl Standstill {
    /// Begins to watch.
    pub(super) fn new(obstacles: Obstacles, metrics: Metrics) -> Self {
        let now = Instant::now();
        metrics.consumer_stalled.set(0);
        Self {
            since: now,
            next_look: now + PATIENCE,
            told: None,
            obstacles,
            metrics,
        }
    }

    /// Something was stored, or there is nothing to be stored.
    pub(super) fn goes_on(&mut self, log: &Logger) {
        self.since = Instant::now();
        self.next_look = self.since + PATIENCE;
        if self.told.take().is_some() {
            info!(log, "messages are stored again");
            self.metrics.consumer_stalled.set(0);
            self.obstacles.set(OBSTACLE, None);
        }
    }

    /// Whether it is time to ask the broker for messages that wait.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next_look
    }

    /// The broker has not answered: it is not known whether messages wait.
    pub(super) fn put_off(&mut self) {
        self.next_look = Instant::now() + LOOK;
    }

    /// So many messages wait, and this is why none is stored.
    pub(super) fn stands(&mut self, waiting: i64, why: &str, log: &Logger) {
        let now = Instant::now();
        self.next_look = now + LOOK;
        let seconds = self.since.elapsed().as_secs();
        self.metrics.consumer_stalled.set(1);
        let told = format!("{waiting} messages wait, and none was stored for {seconds} s: {why}");
        self.obstacles.set(OBSTACLE, Some(told));
        if self.told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
            self.told = Some(now);
            error!(log, "messages wait, and none is stored"; "why" => why, "for_s" => seconds, "messages" => waiting);
        }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        self.metrics.consumer_stalled.set(0);
        self.obstacles.set(OBSTACLE, None);
    }
}
