//! The database's clock: asked now and then, carried on by the monotonic clock in between, and compared with this process's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::{Client, Error};

use crate::{model::Slot, time::wall_clock};

/// How long an answer is carried on before the database is asked again.
const ASKED_FOR: Duration = Duration::from_secs(10);

/// The most by which this machine's clock and the database's may differ. Sleeping machines and time zones set wrongly are further apart.
const MOST_APART: Duration = Duration::from_secs(3600);

/// The times that two clocks show at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The database's: that of all consumers.
    pub database: Slot,
    /// This process's.
    pub process: Slot,
}

impl Clocks {
    /// Asks the database for its time.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn of(client: &Client) -> Result<Self, Error> {
        let (at, said) = time_of(client).await?;
        Ok(Self {
            database: said.later(at.elapsed()),
            process: wall_clock(),
        })
    }

    /// Two clocks that both show `now`.
    pub fn agreeing(now: Slot) -> Self {
        Self {
            database: now,
            process: now,
        }
    }

    /// Returns how far this process's clock is ahead of the database's, in microseconds.
    pub fn ahead_us(self) -> i64 {
        self.process.micros_since(self.database)
    }

    /// Returns the same in seconds, for people and gauges.
    #[expect(clippy::cast_precision_loss, reason = "a microsecond does not matter")]
    pub fn ahead_s(self) -> f64 {
        self.ahead_us() as f64 / 1e6
    }

    /// Returns true if they differ by an hour at most. Of clocks further apart one is wrong, and neither is believed.
    pub fn agree(self) -> bool {
        Duration::from_micros(self.ahead_us().unsigned_abs()) <= MOST_APART
    }
}

/// Asks the database for its time. Returns it with the instant at which it was read: about half-way between question and answer.
async fn time_of(client: &Client) -> Result<(Instant, Slot), Error> {
    let asked = Instant::now();
    let row = client.query_one("SELECT clock_timestamp()", &[]).await?;
    let at = asked + asked.elapsed() / 2;
    Ok((at, Slot::from_system_time(row.get(0))))
}

/// What the database's clock says. Clones share what is known.
#[derive(Clone, Debug, Default)]
pub struct DatabaseClock(Arc<Mutex<Option<(Instant, Slot)>>>);

impl DatabaseClock {
    /// Returns the time by the database's clock; `None` before it was asked for the first time.
    pub fn now(&self) -> Option<Slot> {
        let (at, said) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(said.later(at.elapsed()))
    }

    /// Notes what the database `said` when the monotonic clock said `at`.
    pub fn set(&self, at: Instant, said: Slot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, said));
    }

    /// Asks the database, unless that was done lately.
    pub(crate) async fn ask(&self, client: &Client) -> Result<(), Error> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|(at, _)| at.elapsed() < ASKED_FOR) {
            return Ok(());
        }
        let (at, said) = time_of(client).await?;
        self.set(at, said);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_an_hour_apart_agree_and_clocks_further_apart_do_not() {
        let hour = 3_600_000_000;
        for (ahead, agree) in [
            (-hour, true),
            (hour, true),
            (-hour - 1, false),
            (hour + 1, false),
        ] {
            let clocks = Clocks {
                process: Slot::from_micros(ahead),
                ..Clocks::agreeing(Slot::from_micros(0))
            };
            assert_eq!((clocks.ahead_us(), clocks.agree()), (ahead, agree));
        }
    }

    #[actix_rt::test]
    async fn it_goes_on_by_itself() {
        tokio::time::pause();
        let clock = DatabaseClock::default();
        assert_eq!(clock.now(), None);
        clock.clone().set(Instant::now(), Slot::from_micros(5));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now(), Some(Slot::from_micros(60_000_005)));
    }
}
