//! A session that keeps the tables in order, pass by pass.

use std::time::{Duration, SystemTime};

use sitewatch_config::PostgresSettings;
use slog::{Logger, debug, warn};
use tokio_postgres::{Client, Error, types::Timestamp};

use super::{
    LONGEST,
    dropper::{Dropper, Going, Order},
    horizon::horizon,
    judging,
    retention::{self, Class, Reason},
    rollup::Rollups,
};
use crate::{
    database::{
        CHECKS, Clocks, Partition, Partitions, SessionError, Span, existing, open, untold,
        write_calendars, write_windows,
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
    /// Whether this process's clock and the database's are near enough to each other; while they are not, nothing is dropped.
    pub clocks_agree: bool,
}

/// Keeps the tables of a database in order. Dropped, its session ends.
pub struct Keeper {
    client: Client,
    settings: PostgresSettings,
    partitions: Partitions,
    rollups: Rollups,
    dropper: Dropper,
    /// Whether the newest row is so old that the time for retention stands still.
    stands: bool,
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
            stands: false,
            log,
        })
    }

    /// Asks what time it is.
    ///
    /// # Errors
    /// What the database says.
    pub async fn clocks(&self) -> Result<Clocks, SessionError> {
        Ok(Clocks::of(&self.client).await?)
    }

    /// Does what is to be done now. `None`: another one is at it.
    ///
    /// # Errors
    /// What the database says. A new keeper is needed then, and goes on.
    pub async fn pass(&mut self, clocks: Clocks) -> Result<Option<Done>, SessionError> {
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
        let done = self.keep(clocks).await?;
        let unlock = "SELECT pg_advisory_unlock($1)";
        self.client.execute(unlock, &[&LOCK]).await?;
        Ok(Some(done))
    }

    async fn keep(&mut self, clocks: Clocks) -> Result<Done, SessionError> {
        let now = clocks.database;
        let mut done = Done {
            clocks_agree: clocks.agree(),
            ..Done::default()
        };
        let classes = retention::classes(&self.settings.retention);
        let horizon = self.horizon(clocks, &classes).await?;
        let grace = self.settings.retention.grace;
        if !self.dropper.is_waiting() {
            let order = Order {
                horizon,
                now,
                grace,
                classes: &classes,
            };
            let finished = self.dropper.finish(&mut self.client, &order, &self.log);
            done.dropped += finished.await?;
        }
        let free = now.later(self.settings.max_slot_ahead + FREE);
        let misfits = self.make_ahead(now, free).await?;
        done.more = self.rollups.pass(&mut self.client, now, &self.log).await?;
        write_windows(&mut self.client, now).await?;
        let max_age = self.settings.max_slot_age;
        done.more |= write_calendars(&mut self.client, now, max_age, LONGEST).await?;
        for class in &classes {
            let all = existing(&self.client, class.tables).await?;
            let is_misfit = |it: &&Partition| {
                class.tables == CHECKS && !it.is_going && misfits.contains(&it.span)
            };
            let too_old = horizon.map(|horizon| retention::oldest(&all, horizon, class.kept));
            let too_old = too_old.into_iter().flatten();
            let too_old = too_old.map(|it| (it, Reason::Retention, grace));
            let misfits = all.iter().filter(is_misfit);
            let misfits = misfits.map(|it| (it, Reason::Width, Duration::ZERO));
            for (partition, reason, stays) in too_old.chain(misfits) {
                if self.dropper.is_waiting() {
                    break;
                }
                let going = Going {
                    class,
                    reason,
                    now,
                    stays,
                };
                let (client, log) = (&mut self.client, &self.log);
                let gone = self.dropper.drop(client, partition, going, log).await?;
                done.dropped += gone;
                // Of each class the next ones have their own pass.
                done.more |= gone > 0 && reason == Reason::Retention;
            }
        }
        if !misfits.is_empty() {
            self.make_ahead(now, free).await?;
        }
        // What was found about rows that are gone.
        self.client.execute(FORGET_CONFLICTS, &[]).await?;
        done.waits = self.dropper.has_left_some();
        // Last, since it may read much.
        done.more |= judging::pass(&mut self.client, &self.log).await?;
        Ok(done)
    }

    /// Returns the time by which rows are too old: not known while the clocks are too far apart.
    async fn horizon(
        &mut self,
        clocks: Clocks,
        classes: &[Class],
    ) -> Result<Option<Slot>, SessionError> {
        if classes.iter().all(|class| class.kept.is_none()) {
            // No row is too old, and what was detached comes back.
            return Ok(horizon(clocks, None));
        }
        let newest = newest(&self.client).await?;
        let Some(horizon) = horizon(clocks, newest) else {
            return Ok(None);
        };
        let stands = horizon < clocks.database;
        if stands && !std::mem::replace(&mut self.stands, stands) {
            warn!(self.log, "nothing was stored for a day or more: by how long, rows get no older for postgres.retention";
                "newest" => newest.map(|it| it.to_string()));
        }
        self.stands = stands;
        Ok(Some(horizon))
    }

    async fn make_ahead(&mut self, now: Slot, free: Slot) -> Result<Vec<Span>, SessionError> {
        self.partitions
            .make_ahead(&mut self.client, &self.log, now, free)
            .await
    }
}

const FORGET_CONFLICTS: &str =
    "DELETE FROM check_conflict WHERE hour < (SELECT raw_since FROM rollup_state)";

/// The newest row there is, of a check or, where all of these are gone, of an hour or a day. Looked up by the keys, in the latest partition
/// that has rows.
async fn newest(client: &Client) -> Result<Option<Slot>, Error> {
    for (table, time) in [
        ("check_result", "slot"),
        ("rollup_hour", "hour"),
        ("rollup_day", "day"),
    ] {
        let latest = format!(
            "SELECT max(latest) FROM site_location p
              CROSS JOIN LATERAL (SELECT max({time}) AS latest FROM {table} r
                                   WHERE r.site_id = p.site_id AND r.location_id = p.location_id AND {time} >= $1 AND {time} < $2) AS r"
        );
        for partition in existing(client, &[table]).await?.iter().rev() {
            let bounds = [bound(partition.span.from), bound(partition.span.to)];
            let row = client.query_one(&latest, &[&bounds[0], &bounds[1]]).await?;
            if let Some(latest) = row.get::<_, Option<SystemTime>>(0) {
                return Ok(Some(Slot::from_system_time(latest)));
            }
        }
    }
    Ok(None)
}

/// The bound of a partition: somebody's own may have none.
fn bound(micros: i64) -> Timestamp<SystemTime> {
    match micros {
        i64::MIN => Timestamp::NegInfinity,
        i64::MAX => Timestamp::PosInfinity,
        micros => Timestamp::Value(Slot::from_micros(micros).to_system_time()),
    }
}
