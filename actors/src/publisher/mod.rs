//! The publisher actor: takes results from the sites and gives them to Kafka.
//!
//! Bounded twice: by its intake, and by the Kafka client's queue. While Kafka is away the queue fills; what it can't hold
//! is counted and logged as lost. The durable spool that will end this goes in front of [`producer::Producer::send`],
//! which is therefore the only way out of this folder.

mod producer;

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use sitewatch_config::KafkaSettings;
use slog::{Logger, error, info, warn};

use self::producer::{Producer, Refused};
use crate::{
    intake::{Delivery, Intake},
    kafka::client_problem,
    metrics::Metrics,
    model::{Report, Slot},
    supervision::{Fault, Stop},
};

/// What others tell the publisher.
pub enum PublisherOrder {
    /// Use these settings from now on: what is queued is flushed first.
    Reconfigure(Box<KafkaSettings>),
    /// The Kafka client has failed for good and must be replaced.
    ClientFailed(String),
}

/// Takes results and publishes them.
pub struct Publisher {
    settings: KafkaSettings,
    /// How long a flush may take at a stop or a change of settings.
    patience: Duration,
    client_id: String,
    producer: Option<Arc<Producer>>,
    /// Results lost since the queue was last seen with room.
    losing: u64,
    /// Site and slot of the result that is being published.
    in_work: Option<(Arc<str>, Slot)>,
    orders: Intake<PublisherOrder>,
    metrics: Metrics,
    log: Logger,
    fault: Fault,
}

impl Publisher {
    /// A publisher to the Kafka of `settings`; `orders` leads to itself, for the Kafka client's threads.
    pub fn new(
        settings: KafkaSettings,
        patience: Duration,
        client_id: String,
        orders: Intake<PublisherOrder>,
        metrics: Metrics,
        log: Logger,
        fault: Fault,
    ) -> Self {
        Self {
            settings,
            patience,
            client_id,
            producer: None,
            losing: 0,
            in_work: None,
            orders,
            metrics,
            log,
            fault,
        }
    }

    /// Makes the Kafka client, unless it outlived a failure of this actor. Needs no broker: the client connects by itself.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        if self.producer.is_some() {
            return;
        }
        let orders = self.orders.clone();
        let failed = move |reason: String| {
            // A full intake holds the same news already.
            let _ = orders.try_offer(PublisherOrder::ClientFailed(reason));
        };
        match Producer::new(
            &self.settings,
            &self.client_id,
            &self.metrics,
            &self.log,
            failed,
        ) {
            Ok(producer) => self.producer = Some(Arc::new(producer)),
            Err(problem) => {
                self.fault.refuse(client_problem(&problem));
                ctx.stop();
            }
        }
    }

    fn publish(&mut self, result: &Report) {
        let Some(producer) = &self.producer else {
            return self.lose("no client");
        };
        let payload = match result.encode() {
            Ok(payload) => payload,
            Err(problem) => {
                error!(self.log, "a result can't be encoded"; "site" => result.site(), "error" => %problem);
                return self.lose("not encodable");
            }
        };
        match producer.send(result.site(), &payload) {
            Ok(()) if self.losing > 0 => {
                warn!(self.log, "the Kafka queue has room again"; "lost_meanwhile" => self.losing);
                self.losing = 0;
            }
            Ok(()) => {}
            Err(Refused::Full) => self.lose("queue full"),
            Err(Refused::Error(problem)) => {
                error!(self.log, "a result was refused by the Kafka client"; "site" => result.site(), "error" => %problem);
                self.lose("refused");
            }
        }
    }

    /// The life before this one ended with a result in its hands: what it would do to this one is not tried out.
    fn give_up_in_work(&mut self) {
        if let Some((site, slot)) = self.in_work.take() {
            error!(self.log, "a result is lost: publishing it failed"; "site" => site, "slot" => %slot);
            self.metrics
                .delivery_failed
                .with_label_values(&["panic"])
                .inc();
        }
    }

    fn lose(&mut self, reason: &str) {
        if self.losing == 0 {
            error!(self.log, "results are being lost: the Kafka queue can't hold them";
                "reason" => reason, "max_messages" => self.settings.queue.max_messages,
                "max_kbytes" => self.settings.queue.max_kbytes);
        }
        self.losing += 1;
        self.metrics
            .delivery_failed
            .with_label_values(&[reason])
            .inc();
    }

    /// Sends what is queued, on a thread of its own since it blocks, and lets the client go.
    fn flush(&mut self) -> impl ActorFuture<Self, Output = ()> + use<> {
        let (producer, patience, log) = (self.producer.take(), self.patience, self.log.clone());
        async move {
            let Some(producer) = producer else { return };
            let flushed = tokio::task::spawn_blocking(move || {
                let left = producer.flush(patience);
                drop(producer);
                left
            });
            match flushed.await {
                Ok(0) => {}
                Ok(left) => {
                    error!(log, "results are lost: Kafka did not take them in time"; "lost" => left)
                }
                Err(problem) => error!(log, "flushing failed"; "error" => %problem),
            }
        }
        .into_actor(self)
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.give_up_in_work();
        self.begin(ctx);
    }
}

impl Supervised for Publisher {}

impl Handler<Delivery<Report>> for Publisher {
    type Result = ();

    #[cfg_attr(
        not(feature = "failpoints"),
        allow(unused_variables, reason = "only injected faults stop here")
    )]
    fn handle(&mut self, result: Delivery<Report>, ctx: &mut Self::Context) {
        let result = &result.message;
        self.in_work = Some((result.site().clone(), result.slot()));
        fail::fail_point!("publisher::publish");
        self.publish(result);
        self.in_work = None;
        fail::fail_point!("publisher::idle_fault", |_| {
            self.fault.raise("injected fault");
            ctx.stop();
        });
    }
}

impl Handler<Delivery<PublisherOrder>> for Publisher {
    type Result = ();

    fn handle(&mut self, order: Delivery<PublisherOrder>, ctx: &mut Self::Context) {
        match order.message {
            PublisherOrder::Reconfigure(settings) => {
                info!(
                    self.log,
                    "Kafka settings changed, flushing and connecting anew"
                );
                self.settings = *settings;
                let flushed = self
                    .flush()
                    .map(|(), me: &mut Self, ctx: &mut Context<Self>| me.begin(ctx));
                ctx.wait(flushed);
            }
            PublisherOrder::ClientFailed(reason) => {
                self.producer = None;
                self.fault.raise(format!("Kafka client: {reason}"));
                ctx.stop();
            }
        }
    }
}

impl Handler<Stop> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        let flushed = self
            .flush()
            .map(|(), _: &mut Self, ctx: &mut Context<Self>| ctx.stop());
        ctx.wait(flushed);
    }
}
