//! The publisher actor: makes the sites' results durable, and sends them to Kafka until it has acknowledged them.
//!
//! A result waits in memory for at most `spool.sync_interval`, then it is written to the spool with all others that wait,
//! and once it is durable it counts as checked and its sender's permit is given back. From then on it is the spool's: it
//! is sent, sent again, and let go of only when Kafka has acknowledged it, over restarts and outages of any length.
//!
//! Where the disk does not take a result (it fails, or the spool is full), the result goes to Kafka straight from memory
//! and counts as checked when Kafka has it. So checks go on as long as either works. If neither does, the sites wait
//! for room in the intake, and report as `missed` what they could not check.
//!
//! After an outage the backlog goes to Kafka no faster than the consumers store it: fresh results overtake it in the spool,
//! and would wait behind it in Kafka.

mod arrivals;
mod disk_state;
mod linking;
mod lookout;
mod outbox;
mod outside;
mod pace;
mod producer;
mod real;
mod sending;
mod set_aside;
pub mod spool;
mod throttle;
mod turn;
mod yielding;

use std::{collections::HashSet, time::Duration};

use actix::prelude::*;
use sitewatch_config::{KafkaSettings, Settings, SpoolSettings};
use slog::{Logger, error};
use tokio::time::Instant;

use self::{
    arrivals::{Arrivals, Held},
    disk_state::DiskState,
    outbox::{BACKLOG_PART, Outbox, Window},
    outside::Wake,
    spool::Id,
    throttle::Throttle,
    turn::Kept,
    yielding::Yielding,
};
pub use self::{
    outside::{End, Ends, Link, OpenDisk, Outside, PartitionLag, Refused, Ticket},
    real::Real,
    set_aside::{AllSetAside, SetAside, TakeOutError, put_back, set_aside_in, throw_away},
};
use crate::{
    health::{EVERY, Pulse},
    intake::{Delivery, Intake},
    metrics::Metrics,
    model::Report,
    retry::Retry,
    supervision::{Fault, Stop},
    wanted::{Changed, Wanted},
};

/// The settings of a publisher.
#[derive(Clone, Debug, PartialEq)]
pub struct PublisherSettings {
    /// The Kafka client's.
    pub kafka: KafkaSettings,
    /// The spool's. Its folder stays while the publisher lives.
    pub spool: SpoolSettings,
}

impl PublisherSettings {
    /// Those among the settings of a node.
    pub fn of(settings: &Settings) -> Self {
        Self {
            kafka: settings.kafka.clone(),
            spool: settings.spool.clone(),
        }
    }
}

/// What others tell the publisher.
pub enum PublisherOrder {
    /// The Kafka client has failed for good and must be replaced.
    ClientFailed(String),
}

/// Makes results durable and publishes them.
pub struct Publisher<O: Outside = Real> {
    wanted: Wanted<PublisherSettings>,
    /// In use, as is the spool's: what is wanted may be refused.
    kafka: KafkaSettings,
    spool: SpoolSettings,
    /// How long an orderly end may take.
    patience: Duration,
    outside: O,
    kept: Kept<O::Disk>,
    link: Option<O::Link>,
    ends: Option<Ends>,
    /// Whether there ever was a client: a failure to make another one ends no process that works.
    has_worked: bool,
    arrivals: Arrivals,
    outbox: Outbox,
    /// Counts the openings of the spool: the id of a record is valid within one opening only.
    opening: u32,
    /// Delivered, and not let go of yet.
    delivered: Vec<Id>,
    refused: Vec<(Id, String)>,
    /// Refused with others in one request, and to be sent alone: whose fault it was, Kafka does not say.
    doubtful: HashSet<Id>,
    /// Whether a turn at the disk is under way.
    turning: bool,
    /// The next turn, if one is planned.
    planned: Option<(Instant, SpawnHandle)>,
    /// When what Kafka did not take is sent again.
    resend: Retry,
    resend_at: Option<Instant>,
    disk: DiskState,
    /// Whether the backlog is to wait for the consumers at all.
    yields: bool,
    yielding: Yielding,
    throttle: Throttle,
    /// Whether a look at the consumers is under way or planned.
    looking: bool,
    /// Since when this publisher is to end.
    ending: Option<Instant>,
    /// Nothing is known of what an earlier life had on its way: all that is in the spool is sent.
    start_over: bool,
    /// The result that is being taken in, and whether an earlier life failed with it.
    in_hand: Option<(Delivery<Report>, bool)>,
    orders: Intake<PublisherOrder>,
    pulse: Pulse,
    metrics: Metrics,
    log: Logger,
    fault: Fault,
}

/// What a publisher is made of.
pub struct PublisherParts<O> {
    /// The settings, which a reload may change.
    pub settings: Wanted<PublisherSettings>,
    /// How long an orderly end may take.
    pub patience: Duration,
    /// Whether a backlog goes to Kafka no faster than it is stored. Without fresh results there is no reason to wait.
    pub yields: bool,
    /// Disk, Kafka, threads and time.
    pub outside: O,
    /// The way to this actor, for the Kafka client's threads.
    pub orders: Intake<PublisherOrder>,
    /// Beats while this actor and its turns at the disk come round.
    pub pulse: Pulse,
    /// Counters.
    pub metrics: Metrics,
    /// Log.
    pub log: Logger,
}

impl<O: Outside> Publisher<O> {
    /// A publisher of these parts.
    pub fn new(parts: PublisherParts<O>, fault: Fault) -> Self {
        let PublisherSettings { kafka, spool } = (*parts.settings.latest()).clone();
        Self {
            outbox: Outbox::new(window(&kafka)),
            yields: parts.yields,
            yielding: Yielding::default(),
            throttle: throttle(&kafka),
            looking: false,
            wanted: parts.settings,
            kafka,
            spool,
            patience: parts.patience,
            outside: parts.outside,
            kept: Kept::default(),
            link: None,
            ends: None,
            has_worked: false,
            arrivals: Arrivals::default(),
            opening: 0,
            delivered: Vec::new(),
            refused: Vec::new(),
            doubtful: HashSet::new(),
            turning: false,
            planned: None,
            resend: Retry::for_connections(),
            resend_at: None,
            disk: DiskState::default(),
            ending: None,
            start_over: false,
            in_hand: None,
            orders: parts.orders,
            pulse: parts.pulse,
            metrics: parts.metrics,
            log: parts.log,
            fault,
        }
    }

    /// Takes in the result in hand. It stays in hand until that is done: the next life tries once more.
    fn take_in(&mut self) {
        fail::fail_point!("publisher::publish");
        let Some((delivery, _)) = &self.in_hand else {
            return;
        };
        let encoded = delivery.message.encode();
        let Some((delivery, _)) = self.in_hand.take() else {
            return;
        };
        let (report, permit) = delivery.into_parts();
        match encoded {
            Ok(payload) => self.arrivals.add(Held {
                report,
                payload: payload.into(),
                alone: false,
                permit,
            }),
            Err(problem) => self.give_up(&report, &problem.to_string()),
        }
    }

    /// The life before this one ended with a result in its hands: it is tried once more, not for ever.
    fn take_in_again(&mut self) {
        match self.in_hand.take() {
            None => {}
            Some((delivery, false)) => {
                self.in_hand = Some((delivery, true));
                self.take_in();
            }
            Some((delivery, true)) => {
                self.give_up(&delivery.message, "it made the publisher panic twice")
            }
        }
    }

    fn give_up(&self, report: &Report, why: &str) {
        error!(self.log, "a result is lost: it can't be taken in"; "reason" => why, "site" => report.site(),
            "slot" => %report.slot());
        self.metrics.lost.with_label_values(&["not taken in"]).inc();
    }
}

/// What may be on its way, as the settings say.
fn window(kafka: &KafkaSettings) -> Window {
    Window {
        messages: kafka.queue.max_messages as usize,
        bytes: kafka.queue.max_kbytes as usize * 1024,
    }
}

/// What may wait in Kafka at first is what may be on its way.
fn throttle(kafka: &KafkaSettings) -> Throttle {
    Throttle::new(window(kafka).messages / BACKLOG_PART)
}

impl<O: Outside> Actor for Publisher<O> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.pulse.beat();
        ctx.run_interval(EVERY, |me, _| {
            // A turn at the disk beats when it ends.
            if !me.turning {
                me.pulse.beat();
            }
        });
        ctx.add_stream(self.wanted.changes());
        self.connect(ctx);
        // What an earlier life had begun is done again.
        self.arrivals.give_back();
        (self.turning, self.planned, self.looking) = (false, None, false);
        self.take_in_again();
        self.start_over = true;
        self.plan(ctx, Duration::ZERO);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.pulse.rest();
    }
}

impl<O: Outside> Supervised for Publisher<O> {}

impl<O: Outside> Handler<Delivery<Report>> for Publisher<O> {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<Report>, ctx: &mut Self::Context) {
        self.in_hand = Some((delivery, false));
        self.take_in();
        fail::fail_point!("publisher::idle_fault", |_| {
            self.fault.raise("injected fault");
            ctx.stop();
        });
        self.plan_next(ctx);
    }
}

impl<O: Outside> Handler<Wake> for Publisher<O> {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.hear();
        self.plan_next(ctx);
        self.look_for_end(ctx);
    }
}

impl<O: Outside> StreamHandler<Changed> for Publisher<O> {
    fn handle(&mut self, _: Changed, ctx: &mut Self::Context) {
        self.reconfigure(ctx);
    }
}

impl<O: Outside> Handler<Delivery<PublisherOrder>> for Publisher<O> {
    type Result = ();

    fn handle(&mut self, order: Delivery<PublisherOrder>, ctx: &mut Self::Context) {
        match order.message {
            PublisherOrder::ClientFailed(reason) => {
                self.fault.raise(format!("Kafka client: {reason}"));
                let closed = self
                    .disconnect()
                    .map(|(), _: &mut Self, ctx: &mut Context<Self>| ctx.stop());
                ctx.wait(closed);
            }
        }
    }
}

impl<O: Outside> Handler<Stop> for Publisher<O> {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.ending = Some(Instant::now());
        self.outbox.allow(None);
        ctx.run_interval(Duration::from_millis(20), |me, ctx| me.look_for_end(ctx));
        self.plan(ctx, Duration::ZERO);
    }
}
