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
use sitewatch_config::{KafkaSettings, PostgresSettings};
use slog::{Logger, info};
use tokio::{runtime::Handle, sync::oneshot};

use self::kafka_source::KafkaSource;
pub use self::{
    reader::{Parts, Reader},
    source::{Change, Source},
};
use crate::{
    database::DatabaseClock,
    health::{Obstacles, Pulse},
    intake::{Delivery, Intake},
    kafka::client_problem,
    metrics::Metrics,
    model::WriterOrder,
    supervision::{Fault, Stop},
    time::wall_clock,
};

/// What the settings actor tells the consumer.
pub enum ConsumerControl {
    /// Use these settings from now on: what was read is stored first.
    Reconfigure(KafkaSettings, PostgresSettings),
}

/// What a consumer is made of.
pub struct ConsumerParts {
    /// The topic, and how to get to it.
    pub kafka: KafkaSettings,
    /// How batches are made.
    pub postgres: PostgresSettings,
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
    /// Ends the reading thread when it is dropped.
    reading: Option<Reading>,
    stopping: bool,
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
            parts,
            fault,
            reading: None,
            stopping: false,
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        let stop = Arc::new(AtomicBool::new(false));
        // A thread that outlived a failure of this actor is told to end here.
        self.reading = Some(Reading(Arc::clone(&stop)));
        let parts = &self.parts;
        parts.pulse.beat();
        let source = KafkaSource::new(&parts.kafka, &parts.client_id, &parts.metrics, &parts.log);
        let source = match source {
            Ok(source) => source,
            Err(problem) => {
                self.fault.refuse(client_problem(&problem));
                return ctx.stop();
            }
        };
        let reader = Reader::new(
            source,
            Parts {
                topic: &parts.kafka.topic,
                postgres: &parts.postgres,
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
        self.begin(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.parts.pulse.rest();
    }
}

impl Supervised for Consumer {}

impl Handler<Delivery<ConsumerControl>> for Consumer {
    type Result = ();

    fn handle(&mut self, control: Delivery<ConsumerControl>, _: &mut Self::Context) {
        match control.message {
            ConsumerControl::Reconfigure(kafka, postgres) => {
                info!(
                    self.parts.log,
                    "Kafka or batch settings changed, reading anew"
                );
                (self.parts.kafka, self.parts.postgres) = (kafka, postgres);
                // The thread ends in order, and its end starts the next one.
                self.reading = None;
            }
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
