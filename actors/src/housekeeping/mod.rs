//! The housekeeping actor: makes partitions ahead, computes rollups, judges incidents again, and drops what is too old.
//!
//! Each consumer has one, and a pass is made under an advisory lock. It has a session of its own and blocks no writer:
//! partitions are attached and detached without a lock that one waits for.
//! Nothing depends on its being in time: a writer makes for itself a partition that is missing.

mod dropper;
mod horizon;
mod judging;
mod keeper;
mod months;
mod retention;
mod rollup;

use std::time::Duration;

use actix::prelude::*;
use sitewatch_config::PostgresSettings;
use slog::{Logger, debug, error, info, warn};
use tokio::time::Instant;
use tokio_postgres::{Row, Transaction, error::SqlState};

pub use self::keeper::{Done, Keeper};
use crate::{
    database::{Clocks, ROLLUP_LOCK, SchemaText, SessionError},
    metrics::Metrics,
    retry::Retry,
    supervision::{Fault, Stop},
    time::wall_clock,
    wanted::{Changed, Wanted},
};

/// From the end of one pass to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// The same, as a multiple of what the pass took, where it has left work: most of the time is the writers'.
const REST: u32 = 9;

/// By how much two clocks may differ before it is told, in seconds.
const MOST_OFFSET_S: f64 = 2.0;

/// How long one kind of work goes on in a pass, about. The rest after it is as much longer as [`REST`] says.
const LONGEST: Duration = Duration::from_millis(200);

/// Lets no writer begin until the end of the transaction, and waits for those that have begun. `false` if one of them takes long: behind
/// this lock waits who stores, and one that stands still must not hold up the others.
async fn lock_out_writers(transaction: &Transaction<'_>) -> Result<bool, tokio_postgres::Error> {
    transaction
        .batch_execute("SET LOCAL lock_timeout = '500ms'")
        .await?;
    let locked = transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&ROLLUP_LOCK])
        .await;
    match locked {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The sites that notes of `rollup_dirty` name; `None` is all.
fn sites_of(notes: &[Row]) -> Option<Vec<i32>> {
    let mut sites = Vec::new();
    for note in notes {
        sites.extend(note.get::<_, Option<Vec<i32>>>(0)?);
    }
    sites.sort_unstable();
    sites.dedup();
    Some(sites)
}

/// Keeps the tables in order.
pub struct Housekeeper {
    wanted: Wanted<PostgresSettings>,
    schema: SchemaText,
    /// Absent while a pass is under way, and without a session.
    keeper: Option<Keeper>,
    /// The next pass, or the one that is under way.
    next: Option<SpawnHandle>,
    retry: Retry,
    /// Whether the last pass failed: one log line for each change.
    failing: bool,
    /// Whether the clocks differed at the last look: one log line for each change.
    clocks_differ: bool,
    metrics: Metrics,
    log: Logger,
    fault: Fault,
}

impl Housekeeper {
    /// A housekeeper of the database of these settings.
    pub fn new(
        wanted: Wanted<PostgresSettings>,
        schema: SchemaText,
        metrics: Metrics,
        log: Logger,
        fault: Fault,
    ) -> Self {
        Self {
            wanted,
            schema,
            keeper: None,
            next: None,
            retry: Retry::for_connections(),
            failing: false,
            clocks_differ: false,
            metrics,
            log,
            fault,
        }
    }

    /// One pass, and then the next one after a while.
    fn work(&mut self, ctx: &mut Context<Self>) {
        fail::fail_point!("housekeeping::work");
        self.next = None;
        let keeper = self.keeper.take();
        let settings = (*self.wanted.latest()).clone();
        let schema = SchemaText::clone(&self.schema);
        let (log, begin) = (self.log.clone(), Instant::now());
        let pass = async move {
            let mut keeper = match keeper {
                Some(keeper) => keeper,
                None => Keeper::open(settings, &schema, log).await?,
            };
            let clocks = keeper.clocks().await?;
            let done = keeper.pass(clocks).await?;
            Ok::<_, SessionError>((keeper, done, clocks))
        };
        let pass = pass.into_actor(self).map(move |end, me: &mut Self, ctx| {
            let after = match end {
                Ok((keeper, done, clocks)) => {
                    me.hear(clocks);
                    me.keeper = Some(keeper);
                    let more = done.is_some_and(|done| done.more);
                    me.told(done);
                    if more {
                        (begin.elapsed() * REST).min(PAUSE)
                    } else {
                        PAUSE
                    }
                }
                // Where a reload has led to this database, the process goes on with the rest of its work.
                Err(problem) if problem.is_final() && !me.wanted.has_changed_ever() => {
                    me.fault.refuse(problem);
                    return ctx.stop();
                }
                Err(problem) => me.failed(&problem),
            };
            me.next = Some(ctx.run_later(after, Self::work));
        });
        self.next = Some(ctx.spawn(pass));
    }

    fn told(&mut self, done: Option<Done>) {
        self.retry.reset();
        if std::mem::take(&mut self.failing) {
            info!(self.log, "housekeeping works again");
        }
        // Another consumer's does it.
        let Some(done) = done else { return };
        self.metrics.partitions_dropped.inc_by(done.dropped);
        self.metrics
            .housekeeping_last_pass
            .set(wall_clock().as_micros() / 1_000_000);
    }

    /// Tells by how much the clocks differ, when that has become too much.
    fn hear(&mut self, clocks: Clocks) {
        let ahead_s = clocks.ahead_s();
        let differ = ahead_s.abs() > MOST_OFFSET_S;
        if differ && !self.clocks_differ {
            warn!(self.log, "this machine's clock and the database's differ: is one of them not synchronised?"; "ahead_s" => ahead_s,
                "here" => %clocks.process, "database" => %clocks.database);
        }
        if !clocks.agree() {
            error!(self.log, "nothing is dropped: this machine's clock and the database's differ by more than an hour";
                "ahead_s" => ahead_s, "here" => %clocks.process, "database" => %clocks.database);
        }
        self.clocks_differ = differ;
    }

    fn failed(&mut self, problem: &SessionError) -> Duration {
        if std::mem::replace(&mut self.failing, true) {
            debug!(self.log, "housekeeping still does not work"; "reason" => %problem);
        } else {
            warn!(self.log, "housekeeping does not work, trying on"; "reason" => %problem);
        }
        self.retry.next_delay()
    }
}

impl Actor for Housekeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        (self.keeper, self.next) = (None, None);
        ctx.add_stream(self.wanted.changes());
        self.work(ctx);
    }
}

impl Supervised for Housekeeper {}

impl StreamHandler<Changed> for Housekeeper {
    /// What is under way is rolled back, and begun anew with the new settings.
    fn handle(&mut self, _: Changed, ctx: &mut Self::Context) {
        let Some(renewal) = self.wanted.take() else {
            return;
        };
        self.keeper = None;
        if let Some(next) = self.next.take() {
            ctx.cancel_future(next);
        }
        self.retry.reset();
        self.work(ctx);
        renewal.confirm();
    }
}

impl Handler<Stop> for Housekeeper {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        // What is under way is rolled back, or gone on with by the next one.
        ctx.stop();
    }
}
