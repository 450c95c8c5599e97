//! The consumer actor: owns the thread that reads Kafka and hands batches to the writers.

mod assignment;
mod buffer;
mod client;
mod clocks;
mod in_flight;
mod inquiry;
mod inspector;
mod kafka_source;
mod lane;
mod locating;
mod reader;
mod source;
mod standstill;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use sitewatch_config::{KafkaSettings, PostgresSettings, Settings};
use slog::{Logger, error, info};
use tokio::{runtime::Handle, sync::oneshot};

use self::kafka_source::KafkaSource;
pub use self::{
    reader::{Parts, Reader},
    source::{Change, Source},
};
use crate::{
    database::DatabaseClock,
    health::{Obstacles, Pulse},
    intake::Intake,
    kafka::client_problem,
    metrics::Metrics,
    model::WriterOrder,
    supervision::{Fault, Stop},
    time::wall_clock,
    wanted::{Changed, Renewal, Wanted},
};

/// The settings of a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerSettings {
    /// The topic, and how to get to it.
    pub kafka: KafkaSettings,
    /// How batches are made, and which slots are absurd. Nothing else of it is set: where PostgreSQL is concerns the writers.
    pub postgres: PostgresSettings,
}

impl ConsumerSettings {
    /// Those among the settings of a node.
    pub fn of(settings: &Settings) -> Self {
        let postgres = &settings.postgres;
        Self {
            kafka: settings.kafka.clone(),
            postgres: PostgresSettings {
                batch: postgres.batch.clone(),
                max_slot_age: postgres.max_slot_age,
                max_slot_ahead: postgres.max_slot_ahead,
                ..PostgresSettings::default()
            },
        }
    }
}

/// What a consumer is made of.
pub struct ConsumerParts {
    /// The settings, which a reload may change.
    pub settings: Wanted<ConsumerSettings>,
    /// What the client calls itself to Kafka.
    pub client_id: String,
    /// How long stopping may take.
    pub patience: Duration,
    /// Where batches go.
    pub writers: Vec<Intake<WriterOrder>>,
    /// Beats with each turn of the reading thread.
    pub pulse: Pulse,
    /// What time it is for the database.
    pub database_clock: DatabaseClock,
    /// Where it is noted what keeps this consumer from storing.
    pub obstacles: Obstacles,
    /// Counters.
    pub metrics: Metrics,
    /// Log.
    pub log: Logger,
}

/// Reads Kafka.
pub struct Consumer {
    parts: ConsumerParts,
    fault: Fault,
    /// In use: what is wanted may be refused.
    settings: Arc<ConsumerSettings>,
    /// What is used as soon as the thread that reads has ended.
    next: Option<Next>,
    /// Whether there ever was a client: a failure to make another one ends no process that works.
    has_worked: bool,
    /// Ends the reading thread when it is dropped.
    reading: Option<Reading>,
    stopping: bool,
}

/// Settings that were taken, with the client that is made of them.
struct Next {
    source: KafkaSource,
    renewal: Renewal<ConsumerSettings>,
}

/// A running thread; dropped, it is told to end.
struct Reading(Arc<AtomicBool>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Consumer {
    /// A consumer of these parts.
    pub fn new(parts: ConsumerParts, fault: Fault) -> Self {
        Self {
            settings: parts.settings.latest(),
            parts,
            fault,
            next: None,
            has_worked: false,
            reading: None,
            stopping: false,
        }
    }

    fn new_source(&self, kafka: &KafkaSettings) -> Result<KafkaSource, String> {
        fail::fail_point!("consumer::client", |_| Err("injected fault".to_owned()));
        let parts = &self.parts;
        KafkaSource::new(kafka, &parts.client_id, &parts.metrics, &parts.log)
            .map_err(|problem| client_problem(&problem))
    }

    /// Takes over what a reload wants, after what was read is stored. The new client is made before the old one is let go.
    fn reconfigure(&mut self) {
        let Some(renewal) = self.parts.settings.take() else {
            return;
        };
        match self.new_source(&renewal.settings.kafka) {
            Ok(source) => {
                info!(
                    self.parts.log,
                    "Kafka or batch settings changed, reading anew"
                );
                self.next = Some(Next { source, renewal });
                // The thread ends in order, and its end starts the next one.
                self.reading = None;
            }
            Err(problem) => {
                error!(self.parts.log, "Kafka settings can't be used, reading goes on with those before; see kafka.* and send SIGHUP again";
                    "reason" => &problem);
                renewal.refuse(problem);
            }
        }
    }

    /// Returns the client to read with, subscribed.
    fn next_source(&mut self) -> Result<KafkaSource, String> {
        let (source, renewal) = match self.next.take() {
            Some(Next { source, renewal }) => (source, Some(renewal)),
            None => (self.new_source(&self.settings.kafka)?, None),
        };
        source
            .subscribe()
            .map_err(|problem| client_problem(&problem))?;
        if let Some(renewal) = renewal {
            self.settings = Arc::clone(&renewal.settings);
            renewal.confirm();
        }
        Ok(source)
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        let stop = Arc::new(AtomicBool::new(false));
        // A thread that outlived a failure of this actor is told to end here.
        self.reading = Some(Reading(Arc::clone(&stop)));
        self.parts.pulse.beat();
        let source = match self.next_source() {
            Ok(source) => source,
            Err(problem) => {
                // As when a file that kafka.options name is being replaced.
                if self.has_worked {
                    self.fault.raise(problem);
                } else {
                    self.fault.refuse(problem);
                }
                return ctx.stop();
            }
        };
        self.has_worked = true;
        let parts = &self.parts;
        let reader = Reader::new(
            source,
            Parts {
                topic: &self.settings.kafka.topic,
                postgres: &self.settings.postgres,
                patience: parts.patience,
                writers: parts.writers.clone(),
                stop: Arc::clone(&stop),
                clock: wall_clock,
                pulse: parts.pulse.clone(),
                database_clock: parts.database_clock.clone(),
                obstacles: parts.obstacles.clone(),
                metrics: parts.metrics.clone(),
                log: parts.log.clone(),
            },
        );
        // The runtime that drives the writer.
        let runtime = Handle::current();
        let (done, end) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || {
                // Nobody listens to the thread of an earlier life.
                let _ = done.send(runtime.block_on(reader.run()));
            });
        if let Err(problem) = thread {
            self.fault
                .raise(format!("no thread to read Kafka on: {problem}"));
            return ctx.stop();
        }
        ctx.spawn(
            end.into_actor(self)
                .map(move |end, me, ctx| me.ended(end, &stop, ctx)),
        );
    }

    fn ended(
        &mut self,
        end: Result<Result<(), String>, oneshot::error::RecvError>,
        stop: &AtomicBool,
        ctx: &mut Context<Self>,
    ) {
        match end {
            Ok(Ok(())) if self.stopping => ctx.stop(),
            Ok(Ok(())) if stop.load(Ordering::Relaxed) => self.begin(ctx),
            Ok(Ok(())) => {
                self.fault.raise("the reading thread ended by itself");
                ctx.stop();
            }
            Ok(Err(problem)) => {
                self.fault.raise(problem);
                ctx.stop();
            }
            // The thread is gone without a word; its panic goes on here, so that it is told as one.
            Err(_) => std::panic::panic_any("the reading thread panicked"),
        }
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.add_stream(self.parts.settings.changes());
        self.begin(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.parts.pulse.rest();
    }
}

impl Supervised for Consumer {}

impl StreamHandler<Changed> for Consumer {
    fn handle(&mut self, _: Changed, _: &mut Self::Context) {
        if !self.stopping {
            self.reconfigure();
        }
    }
}

impl Handler<Stop> for Consumer {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.stopping = true;
        if self.reading.take().is_none() {
            ctx.stop();
        }
    }
}
