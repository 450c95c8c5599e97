//! The database's clock, as a process knows it: asked now and then, and carried on by the monotonic clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::{Client, Error};

use crate::model::Slot;

/// How long an answer is carried on before the database is asked again.
const ASKED_FOR: Duration = Duration::from_secs(10);

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
        let asked = Instant::now();
        let row = client.query_one("SELECT clock_timestamp()", &[]).await?;
        // The answer is about half as old as the question.
        let at = asked + asked.elapsed() / 2;
        self.set(at, Slot::from_system_time(row.get(0)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
