//! The writer actor: stores the consumer's batches in PostgreSQL, one transaction each.
//!
//! The offsets live in the database and move in the same transaction as the rows, so a message is stored exactly once
//! whatever fails in between. While PostgreSQL is away the writer tries on for ever with its batch in its hands; its
//! intake stays full meanwhile, and the consumer pauses.

mod jsonb;
mod judging;
mod late;
mod letters;
mod locate;
mod offsets;
mod origins;
mod position;
mod postgres;
mod revisions;
mod rows;
mod seam;
mod session;
mod stage;
mod store;

use std::time::Duration;

use actix::prelude::*;
use sitewatch_config::PostgresSettings;
use slog::{Logger, debug, info, warn};
use tokio::time::Instant;

pub use self::{
    letters::{LetterFilter, Letters, ReplayOrder, Replayed, StoredLetter, replay},
    postgres::{Postgres, PostgresTransaction},
    seam::{
        Absorbed, FoundBreak, Store, StoreSession, StoreTransaction, StoredOffset, ToldIncident,
        ToldRevision,
    },
    session::Session,
};
use self::{
    locate::Locating,
    position::Doubts,
    store::{End, Try},
};
use crate::{
    database::SessionError,
    health::Pulse,
    intake::Delivery,
    metrics::Metrics,
    model::{Batch, BatchEnd, Locate, Position, WriterOrder},
    retry::Retry,
    supervision::{Fault, Stop},
};

/// How often an idle writer looks after its connection.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// How often it is told that PostgreSQL can't be used, and that only a person can help.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A session that lasted so long did work.
const SETTLED: Duration = Duration::from_secs(30);

/// What the settings actor tells the writer.
pub enum WriterControl {
    /// Use these settings from now on, with a new connection.
    Reconfigure(PostgresSettings),
}

/// Stores batches in `S`.
pub struct Writer<S: Store = Postgres> {
    /// Absent while a future of this actor works with it.
    worker: Option<Worker<S>>,
    store: S,
    pulse: Pulse,
    metrics: Metrics,
    log: Logger,
    fault: Fault,
}

impl<S: Store> Writer<S> {
    /// A writer to `store`.
    pub fn new(store: S, pulse: Pulse, metrics: Metrics, log: Logger, fault: Fault) -> Self {
        Self {
            worker: None,
            store,
            pulse,
            metrics,
            log,
            fault,
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        self.worker = Some(self.new_worker());
        self.pulse.beat();
        ctx.run_interval(IDLE_LOOK, |me, ctx| {
            me.pulse.beat();
            if me.worker.as_ref().is_some_and(Worker::is_disconnected) {
                me.work(ctx, async |worker| worker.connect_once().await);
            } else {
                me.work(ctx, async |worker| {
                    worker.keep_time().await;
                    Ok(())
                });
            }
        });
    }

    fn new_worker(&self) -> Worker<S> {
        Worker {
            store: self.store.clone(),
            session: None,
            retry: Retry::for_connections(),
            doubts: Doubts::default(),
            not_before: None,
            connected_at: None,
            down_told: None,
            metrics: self.metrics.clone(),
            log: self.log.clone(),
        }
    }

    /// Lets the worker do `task`; the mailbox waits until it has finished.
    fn work<F>(&mut self, ctx: &mut Context<Self>, task: F)
    where
        F: AsyncFnOnce(&mut Worker<S>) -> Result<(), SessionError> + 'static,
    {
        let mut worker = self.worker.take().unwrap_or_else(|| self.new_worker());
        let pulse = self.pulse.clone();
        let done = async move {
            let end = pulse.beat_while(task(&mut worker)).await;
            (worker, end)
        };
        ctx.wait(done.into_actor(self).map(|(worker, end), me, ctx| {
            me.worker = Some(worker);
            if let Err(problem) = end {
                me.fault.refuse(problem);
                ctx.stop();
            }
        }));
    }
}

impl<S: Store> Actor for Writer<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.pulse.rest();
    }
}

impl<S: Store> Supervised for Writer<S> {}

impl<S: Store> Handler<Delivery<WriterOrder>> for Writer<S> {
    type Result = ();

    fn handle(&mut self, order: Delivery<WriterOrder>, ctx: &mut Self::Context) {
        fail::fail_point!("writer::fault", |_| {
            self.fault.raise("injected fault");
            ctx.stop();
        });
        let (order, permit) = order.into_parts();
        self.work(ctx, async move |worker| {
            let _until_done = permit;
            match order {
                WriterOrder::Store(batch) => worker.store(batch).await,
                WriterOrder::Locate(question) => worker.locate(question).await,
            }
        });
    }
}

impl<S: Store> Handler<Delivery<WriterControl>> for Writer<S> {
    type Result = ();

    fn handle(&mut self, control: Delivery<WriterControl>, _: &mut Self::Context) {
        match control.message {
            WriterControl::Reconfigure(settings) => {
                info!(self.log, "PostgreSQL settings changed, connecting anew");
                self.store.reconfigure(settings);
                self.worker = Some(self.new_worker());
            }
        }
    }
}

impl<S: Store> Handler<Stop> for Writer<S> {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        // What was queued before has been stored: the mailbox is served in order.
        ctx.stop();
    }
}

/// Does the writer's work, and holds the session while it does.
struct Worker<S: Store> {
    store: S,
    session: Option<S::Session>,
    retry: Retry,
    doubts: Doubts,
    /// When an idle writer may next try to connect.
    not_before: Option<Instant>,
    /// When the session began. That alone proves little: a table may be locked, a right missing.
    connected_at: Option<Instant>,
    /// When the absence of PostgreSQL was last logged; `None` while it is there.
    down_told: Option<Instant>,
    metrics: Metrics,
    log: Logger,
}

impl<S: Store> Worker<S> {
    fn is_disconnected(&self) -> bool {
        let closed = self
            .session
            .as_ref()
            .is_none_or(|session| session.is_closed());
        closed && self.not_before.is_none_or(|time| time <= Instant::now())
    }

    /// One try to connect.
    ///
    /// # Errors
    /// Only those that trying again can't mend.
    async fn connect_once(&mut self) -> Result<(), SessionError> {
        self.session = None;
        match self.store.connect(&self.log).await {
            Ok(session) => {
                self.session = Some(session);
                (self.not_before, self.connected_at) = (None, Some(Instant::now()));
                Ok(())
            }
            Err(problem) if problem.is_final() => Err(problem),
            Err(problem) => {
                self.failed(&problem);
                Ok(())
            }
        }
    }

    /// Learns what time it is for the database.
    async fn keep_time(&mut self) {
        if let Some(session) = &mut self.session
            && let Err(problem) = session.keep_time().await
        {
            self.failed(&problem);
        }
    }

    /// Notes that PostgreSQL does what it is asked to: a failure from now on is a new one.
    fn works(&mut self) {
        self.down_told = None;
        self.retry.reset();
    }

    /// Notes that PostgreSQL does not work, and sets the time of the next try. It is one log line for each outage; one a minute where
    /// only a person can help.
    fn failed(&mut self, problem: &SessionError) {
        self.session = None;
        self.metrics.postgres_up.set(0);
        let settled = |since: Instant| since.elapsed() > SETTLED;
        if self.connected_at.take().is_some_and(settled) {
            self.works();
        }
        let tell_again = problem.needs_a_person();
        let is_told = |at: Instant| !tell_again || at.elapsed() < TOLD_AGAIN;
        if self.down_told.is_some_and(is_told) {
            debug!(self.log, "PostgreSQL still can't be used"; "reason" => %problem);
        } else {
            self.down_told = Some(Instant::now());
            warn!(self.log, "PostgreSQL can't be used, trying on"; "reason" => %problem);
        }
        self.not_before = Some(Instant::now() + self.retry.next_delay());
    }

    /// The session, however long it takes to get one.
    async fn session(&mut self) -> Result<&mut S::Session, SessionError> {
        while self
            .session
            .as_ref()
            .is_none_or(|session| session.is_closed())
        {
            if let Some(time) = self.not_before.take() {
                tokio::time::sleep_until(time).await;
            }
            self.connect_once().await?;
        }
        self.session.as_mut().ok_or(SessionError::NoUrl)
    }

    async fn store(&mut self, batch: Batch) -> Result<(), SessionError> {
        let (start, mut commit_unknown) = (Instant::now(), false);
        let end = loop {
            fail::fail_point!("writer::store");
            let log = self.log.clone();
            let session = self.session().await?;
            let next_try = Try {
                session,
                log: &log,
                commit_unknown: &mut commit_unknown,
            };
            match next_try.store(&batch).await {
                Ok(end) => break end,
                Err(problem) => self.failed(&problem),
            }
        };
        self.works();
        self.metrics
            .batch_seconds
            .observe(start.elapsed().as_secs_f64());
        self.metrics.batch_rows.observe(batch.rows.len() as f64);
        self.settle(batch, &end);
        Ok(())
    }

    fn settle(&self, batch: Batch, end: &End) {
        let (label, told) = match end {
            End::Stored(stored) => {
                self.metrics.rows_written.inc_by(stored.rows);
                self.metrics.duplicates.inc_by(stored.duplicates);
                self.metrics.placeholders_replaced.inc_by(stored.replaced);
                self.tell_conflicts(stored.conflicts);
                self.metrics
                    .dead_letters
                    .with_label_values(&["refused"])
                    .inc_by(stored.refused);
                for (event, number) in [("opened", stored.opened), ("closed", stored.closed)] {
                    let counter = self.metrics.incidents.with_label_values(&[event]);
                    counter.inc_by(number);
                }
                self.count_dead_letters(&batch);
                debug!(self.log, "batch stored"; "rows" => stored.rows, "duplicates" => stored.duplicates,
                    "dead_letters" => batch.dead.len() as u64 + stored.refused);
                ("stored", BatchEnd::Stored)
            }
            End::AlreadyStored => {
                info!(self.log, "a batch whose commit was not heard of is there"; "rows" => batch.rows.len());
                self.metrics.rows_written.inc_by(batch.rows.len() as u64);
                self.count_dead_letters(&batch);
                ("stored", BatchEnd::Stored)
            }
            End::Fenced => {
                warn!(self.log, "batch dropped: its offsets are not the stored ones, since another consumer was here or a backup was restored; reading from the stored ones";
                    "ranges" => ?batch.ranges);
                ("fenced", BatchEnd::Fenced)
            }
        };
        self.metrics.batches.with_label_values(&[label]).inc();
        batch.receipt.settle(told);
    }

    fn tell_conflicts(&self, conflicts: u64) {
        if conflicts > 0 {
            self.metrics.conflicts.inc_by(conflicts);
            warn!(self.log, "results dropped, since their slots have others that say something else: do two producers have one \
                node.location? see the table check_conflict"; "results" => conflicts);
        }
    }

    fn count_dead_letters(&self, batch: &Batch) {
        for letter in &batch.dead {
            self.metrics
                .dead_letters
                .with_label_values(&[letter.reason.as_str()])
                .inc();
            warn!(self.log, "message set aside in dead_letter"; "topic" => &*batch.topic,
                "partition" => letter.source.0, "offset" => letter.source.1,
                "reason" => letter.reason.as_str(), "detail" => &letter.detail);
        }
        if let Some(gaps) = batch
            .ranges
            .iter()
            .map(|range| range.absent.len() as u64)
            .reduce(|a, b| a + b)
        {
            self.metrics
                .gaps
                .with_label_values(&["absent"])
                .inc_by(gaps);
        }
    }

    async fn locate(&mut self, question: Locate) -> Result<(), SessionError> {
        let positions = loop {
            match self.try_locate(&question).await {
                Ok(positions) => break positions,
                Err(problem) if problem.is_final() => return Err(problem),
                Err(problem) => self.failed(&problem),
            }
        };
        // A consumer that is gone has lost its partitions.
        let _ = question.answer.send(positions);
        Ok(())
    }

    async fn try_locate(&mut self, question: &Locate) -> Result<Vec<Position>, SessionError> {
        let (log, metrics) = (self.log.clone(), self.metrics.clone());
        let mut doubts = std::mem::take(&mut self.doubts);
        let session = self.session().await?;
        let locating = Locating {
            session,
            doubts: &mut doubts,
            metrics: &metrics,
            log: &log,
        };
        let positions = locating.answer(question).await;
        self.doubts = doubts;
        Ok(positions?)
    }
}
