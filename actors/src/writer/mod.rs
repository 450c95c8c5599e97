//! The writer actor: stores the consumer's batches in PostgreSQL, one transaction each.
//!
//! The offsets live in the database and move in the same transaction as the rows, so a message is stored exactly once
//! whatever fails in between. While PostgreSQL is away the writer tries on for ever with its batch in its hands; its
//! intake stays full meanwhile, and the consumer pauses. Other settings reach it in each of its waits.

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
mod worker;

use std::time::Duration;

use actix::prelude::*;
use sitewatch_config::PostgresSettings;
use slog::Logger;

use self::worker::Worker;
pub use self::{
    letters::{LetterFilter, Letters, ReplayOrder, Replayed, StoredLetter, replay},
    postgres::{Postgres, PostgresTransaction},
    seam::{
        Absorbed, FoundBreak, Store, StoreSession, StoreTransaction, StoredOffset, ToldIncident,
        ToldRevision,
    },
    session::Session,
};
use crate::{
    database::SessionError,
    health::Pulse,
    intake::Delivery,
    metrics::Metrics,
    model::WriterOrder,
    supervision::{Fault, Stop},
    wanted::{Changed, Wanted},
};

/// How often an idle writer looks after its connection.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// Stores batches in `S`.
pub struct Writer<S: Store = Postgres> {
    /// Absent while a future of this actor works with it.
    worker: Option<Worker<S>>,
    /// As it was made: each worker brings its own one up to what is wanted.
    store: S,
    wanted: Wanted<PostgresSettings>,
    pulse: Pulse,
    metrics: Metrics,
    log: Logger,
    fault: Fault,
}

impl<S: Store> Writer<S> {
    /// A writer to `store`, which is made of the first of the settings.
    pub fn new(
        store: S,
        wanted: Wanted<PostgresSettings>,
        pulse: Pulse,
        metrics: Metrics,
        log: Logger,
        fault: Fault,
    ) -> Self {
        Self {
            worker: None,
            store,
            wanted,
            pulse,
            metrics,
            log,
            fault,
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        self.worker = Some(self.new_worker());
        self.pulse.beat();
        ctx.add_stream(self.wanted.changes());
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
        Worker::new(
            self.store.clone(),
            self.wanted.clone(),
            self.metrics.clone(),
            self.log.clone(),
        )
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

impl<S: Store> StreamHandler<Changed> for Writer<S> {
    /// Wakes an idle worker. One at work hears of the change in each of its waits.
    fn handle(&mut self, _: Changed, ctx: &mut Self::Context) {
        self.work(ctx, async |worker| worker.follow().await);
    }
}

impl<S: Store> Handler<Stop> for Writer<S> {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        // What was queued before has been stored: the mailbox is served in order.
        ctx.stop();
    }
}
