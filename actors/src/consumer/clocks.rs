//! Which slots are absurd is decided by the database's time: one clock for all consumers. While this machine's is far from it, one of the two
//! is wrong, and nobody here knows which: nothing is judged then.

use std::time::Duration;

use slog::{Logger, error, info};
use tokio::time::Instant;

use crate::{
    database::{Clocks, DatabaseClock},
    health::Obstacles,
    metrics::Metrics,
    model::Slot,
    time::WallClock,
};

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is told that they are too far apart.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// The name of the obstacle.
const OBSTACLE: &str = "clock";

/// Compares the two clocks.
pub(super) struct ClockWatch {
    database: DatabaseClock,
    process: WallClock,
    obstacles: Obstacles,
    next_look: Instant,
    /// When it was last told that they are too far apart; `None` while they agree.
    told: Option<Instant>,
}

impl ClockWatch {
    /// Compares this process's clock with that of the database.
    pub(super) fn new(database: DatabaseClock, process: WallClock, obstacles: Obstacles) -> Self {
        Self {
            database,
            process,
            obstacles,
            next_look: Instant::now(),
            told: None,
        }
    }

    /// Whether they are too far apart, at the last look.
    pub(super) fn are_apart(&self) -> bool {
        self.told.is_some()
    }

    /// The time by which slots are judged: this process's own until the database has said what time it is.
    pub(super) fn now(&self) -> Slot {
        self.database.now().unwrap_or_else(self.process)
    }

    /// Compares them if it is time to. Returns true if that has changed whether they are apart.
    pub(super) fn look(&mut self, metrics: &Metrics, log: &Logger) -> bool {
        let now = Instant::now();
        if now < self.next_look {
            return false;
        }
        // Before anything is read it is known.
        let Some(database) = self.database.now() else {
            return false;
        };
        self.next_look = now + LOOK;
        let clocks = Clocks {
            database,
            process: (self.process)(),
        };
        let ahead_s = clocks.ahead_s();
        metrics
            .clock_offset
            .with_label_values(&["database"])
            .set(ahead_s);
        let was_apart = self.are_apart();
        if clocks.agree() {
            if self.told.take().is_some() {
                info!(
                    log,
                    "this machine's clock and the database's agree again, reading on"
                );
                self.obstacles.set(OBSTACLE, None);
            }
        } else if self.told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
            self.told = Some(now);
            error!(log, "nothing is read: this machine's clock and the database's differ by more than an hour, set the one that is wrong";
                "ahead_s" => ahead_s, "here" => %clocks.process, "database" => %clocks.database);
            let told = format!("this machine's clock is {ahead_s:.0} s ahead of the database's");
            self.obstacles.set(OBSTACLE, Some(told));
        }
        was_apart != self.are_apart()
    }
}

impl Drop for ClockWatch {
    fn drop(&mut self) {
        self.obstacles.set(OBSTACLE, None);
    }
}
