//! A session that keeps the tables in order, pass by pass.

use std::time::Duration;

use sitewatch_config::PostgresSettings;
use slog::{Logger, debug};
use tokio_postgres::Client;

use super::{
    LONGEST, judging,
    retention::{self, Dropper, Reason},
    rollup::Rollups,
};
use crate::{
    database::{
        CHECKS, Partitions, SessionError, Span, existing, open, untold, write_calendars,
        write_windows,
    },
    model::Slot,
};

/// The advisory lock of a pass. The session holds it, so it goes with the process.
const LOCK: i64 = 0x7369_7465_0003;

/// So far after the last slot that is taken a partition begins into which nothing can come.
const FREE: Duration = Duration::from_secs(86_400);

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Partitions that were dropped.
    pub dropped: u64,
    /// Whether it has ended before its work: it leaves time to others.
    pub more: bool,
    /// Whether a drop waits for those who read the partition.
    pub waits: bool,
}

/// Keeps the tables of a database in order. Dropped, its session ends.
pub struct Keeper {
    client: Client,
    settings: PostgresSettings,
    partitions: Partitions,
    rollups: Rollups,
    dropper: Dropper,
    log: Logger,
}

impl Keeper {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// If PostgreSQL does not answer, refuses, or has a schema that this program can't use.
    pub async fn open(
        settings: PostgresSettings,
        schema: &str,
        log: Logger,
    ) -> Result<Self, SessionError> {
        let up = untold();
        let (client, _) = open(&settings, schema, &up, &log).await?;
        // Compiling a rollup's statement takes a quarter of a second, each time.
        client.batch_execute("SET jit = off").await?;
        Ok(Self {
            client,
            partitions: Partitions::new(CHECKS, settings.partition_width),
            settings,
            rollups: Rollups::new(),
            dropper: Dropper::default(),
            log,
        })
    }

    /// Does what is to be done at the time `now`. `None`: another one is at it.
    ///
    /// # Errors
    /// What the database says. A new keeper is needed then, and goes on.
    pub async fn pass(&mut self, now: Slot) -> Result<Option<Done>, SessionError> {
        let lock = "SELECT pg_try_advisory_lock($1)";
        if !self
            .client
            .query_one(lock, &[&LOCK])
            .await?
            .get::<_, bool>(0)
        {
            debug!(self.log, "another one keeps house");
            return Ok(None);
        }
        let done = self.keep(now).await?;
        let unlock = "SELECT pg_advisory_unlock($1)";
        self.client.execute(unlock, &[&LOCK]).await?;
        Ok(Some(done))
    }

    async fn keep(&mut self, now: Slot) -> Result<Done, SessionError> {
        let mut done = Done::default();
        if !self.dropper.is_waiting() {
            done.dropped += self.dropper.finish(&self.client, &self.log).await?;
        }
        let free = later(now, self.settings.max_slot_ahead + FREE);
        let misfits = self.make_ahead(now, free).await?;
        done.more = self.rollups.pass(&mut self.client, now, &self.log).await?;
        write_windows(&mut self.client, now).await?;
        let max_age = self.settings.max_slot_age;
        done.more |= write_calendars(&mut self.client, now, max_age, LONGEST).await?;
        for class in retention::classes(&self.settings.retention) {
            for partition in existing(&self.client, class.tables).await? {
                if partition.is_going || self.dropper.is_waiting() {
                    continue;
                }
                let is_misfit = class.tables == CHECKS && misfits.contains(&partition.span);
                let reason = retention::reason(partition.span, now, class.kept)
                    .or_else(|| is_misfit.then_some(Reason::Width));
                if let Some(reason) = reason {
                    let (client, log) = (&mut self.client, &self.log);
                    let dropped = self.dropper.drop(client, &partition, &class, reason, log);
                    done.dropped += dropped.await?;
                }
            }
        }
        if !misfits.is_empty() {
            self.make_ahead(now, free).await?;
        }
        done.waits = self.dropper.has_left_some();
        // Last, since it may read much.
        done.more |= judging::pass(&mut self.client, &self.log).await?;
        Ok(done)
    }

    async fn make_ahead(&mut self, now: Slot, free: Slot) -> Result<Vec<Span>, SessionError> {
        self.partitions
            .make_ahead(&mut self.client, &self.log, now, free)
            .await
    }
}

fn later(now: Slot, by: Duration) -> Slot {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Slot::from_micros(now.as_micros().saturating_add(by))
}
