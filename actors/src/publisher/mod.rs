//! The publisher actor: makes the sites' results durable, and sends them to Kafka until it has acknowledged them.
//!
//! A result waits in memory for at most `spool.sync_interval`, then it is written to the spool with all others that wait,
//! and once it is durable it counts as checked and its sender's permit is given back. From then on it is the spool's: it
//! is sent, sent again, and let go of only when Kafka has acknowledged it, over restarts and outages of any length.
//!
//! Where the disk does not take a result (it fails, or the spool is full), the result goes to Kafka straight from memory
//! and counts as checked when Kafka has it. So checks go on as long as either works. If neither does, the sites wait
//! for room in the intake, and report as `missed` what they could not check.

mod arrivals;
mod outbox;
mod outside;
mod producer;
mod sending;
pub mod spool;
mod trouble;
mod turn;

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use sitewatch_config::{KafkaSettings, SpoolSettings};
use slog::{Logger, debug, error, info, warn};
use tokio::time::Instant;

pub use self::outside::{End, Ends, Link, OpenDisk, Outside, Real, Refused, Ticket};
use self::{
    arrivals::{Arrivals, Held},
    outbox::{Lane, Outbox, Window},
    outside::{Wake, What},
    spool::{Id, Limits},
    trouble::DiskState,
    turn::{Done, Kept, NotDurable, Turn},
};
use crate::{
    intake::{Delivery, Intake},
    metrics::Metrics,
    model::Report,
    retry::Retry,
    supervision::{Fault, Stop},
};

/// What others tell the publisher.
pub enum PublisherOrder {
    /// Use these settings of Kafka from now on, with a new client.
    Reconfigure(Box<KafkaSettings>),
    /// Use these settings of the spool from now on; its folder stays.
    Respool(SpoolSettings),
    /// The Kafka client has failed for good and must be replaced.
    ClientFailed(String),
}

/// How often a publisher that has nothing else to do looks after its spool: what Kafka has is let go of.
const IDLE_TURN: Duration = Duration::from_secs(1);

/// How often one that can't write to its spool looks for another way.
const TROUBLED: Duration = Duration::from_millis(50);

/// So many results do not wait for more.
const ENOUGH: usize = 1000;

/// How long an orderly end waits for a Kafka that does not answer: what it does not take stays in the spool.
const DEAF_KAFKA: Duration = Duration::from_secs(1);

/// Makes results durable and publishes them.
pub struct Publisher<O: Outside = Real> {
    kafka: KafkaSettings,
    spool: SpoolSettings,
    /// How long an orderly end may take.
    patience: Duration,
    outside: O,
    kept: Kept<O::Disk>,
    link: Option<O::Link>,
    ends: Option<Ends>,
    arrivals: Arrivals,
    outbox: Outbox,
    /// Delivered, and not let go of yet.
    delivered: Vec<Id>,
    refused: Vec<(Id, String)>,
    /// Whether a turn at the disk is under way.
    turning: bool,
    /// The next turn, if one is planned.
    planned: Option<(Instant, SpawnHandle)>,
    /// When what Kafka did not take is sent again.
    resend: Retry,
    resend_at: Option<Instant>,
    disk: DiskState,
    /// Since when this publisher is to end.
    ending: Option<Instant>,
    /// Nothing is known of what an earlier life had on its way: all that is in the spool is sent.
    start_over: bool,
    /// The result that is being taken in, and whether an earlier life failed with it.
    in_hand: Option<(Delivery<Report>, bool)>,
    orders: Intake<PublisherOrder>,
    metrics: Metrics,
    log: Logger,
    fault: Fault,
}

/// What a publisher is made of.
pub struct PublisherParts<O> {
    /// The Kafka client's settings.
    pub kafka: KafkaSettings,
    /// The spool's settings.
    pub spool: SpoolSettings,
    /// How long an orderly end may take.
    pub patience: Duration,
    /// Disk, Kafka, threads and time.
    pub outside: O,
    /// The way to this actor, for the Kafka client's threads.
    pub orders: Intake<PublisherOrder>,
    /// Counters.
    pub metrics: Metrics,
    /// Log.
    pub log: Logger,
}

impl<O: Outside> Publisher<O> {
    /// A publisher of these parts.
    pub fn new(parts: PublisherParts<O>, fault: Fault) -> Self {
        Self {
            outbox: Outbox::new(window(&parts.kafka)),
            kafka: parts.kafka,
            spool: parts.spool,
            patience: parts.patience,
            outside: parts.outside,
            kept: Kept::default(),
            link: None,
            ends: None,
            arrivals: Arrivals::default(),
            delivered: Vec::new(),
            refused: Vec::new(),
            turning: false,
            planned: None,
            resend: Retry::for_connections(),
            resend_at: None,
            disk: DiskState::default(),
            ending: None,
            start_over: false,
            in_hand: None,
            orders: parts.orders,
            metrics: parts.metrics,
            log: parts.log,
            fault,
        }
    }

    /// Makes the Kafka client, unless it outlived a failure of this actor.
    fn connect(&mut self, ctx: &mut Context<Self>) {
        if self.link.is_some() {
            return;
        }
        let orders = self.orders.clone();
        let ends = Ends::new(ctx.address().recipient(), move |reason| {
            // A full intake holds the same news already.
            let _ = orders.try_offer(PublisherOrder::ClientFailed(reason));
        });
        match self.outside.connect(&self.kafka, ends.clone()) {
            Ok(link) => (self.link, self.ends) = (Some(link), Some(ends)),
            Err(problem) => {
                self.fault.refuse(problem);
                ctx.stop();
            }
        }
    }

    /// Lets go of the client, soon: what it still had is told as failed, and sent again from the spool.
    fn disconnect(&mut self) -> impl ActorFuture<Self, Output = ()> + use<O> {
        let (link, patience) = (self.link.take(), DEAF_KAFKA.min(self.patience));
        let closed = self.outside.offload(move || {
            if let Some(link) = link {
                link.close(patience);
            }
        });
        closed.into_actor(self).map(|_, me: &mut Self, _| me.hear())
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

    /// Sees to it that there is a turn `after` this time, or earlier.
    fn plan(&mut self, ctx: &mut Context<Self>, after: Duration) {
        if self.turning {
            return;
        }
        let at = Instant::now() + after;
        if let Some((planned, handle)) = &self.planned {
            if *planned <= at {
                return;
            }
            ctx.cancel_future(*handle);
        }
        let handle = ctx.run_later(after, |me, ctx| {
            me.planned = None;
            me.turn(ctx);
        });
        self.planned = Some((at, handle));
    }

    /// When the next turn should be, as things are.
    fn plan_next(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let passed = |time: Option<Instant>| time.is_none_or(|time| time <= now);
        let backlog =
            passed(self.resend_at) && self.link.is_some() && self.outbox.wants().is_some();
        let enough = self.arrivals.waiting() >= ENOUGH && !self.disk.full;
        let after = if let Some(time) = self.disk.not_before.filter(|time| *time > now) {
            // Meanwhile what can goes to Kafka from memory.
            TROUBLED.min(time - now)
        } else if backlog || enough {
            Duration::ZERO
        } else if self.disk.full {
            TROUBLED.max(self.spool.sync_interval)
        } else if self.arrivals.waiting() > 0 || !self.delivered.is_empty() {
            self.spool.sync_interval
        } else {
            IDLE_TURN
        };
        self.plan(ctx, after);
    }

    /// A turn at the disk. New results keep coming in meanwhile.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        if self.turning {
            return;
        }
        self.hear();
        let now = Instant::now();
        if self.disk.not_before.is_some_and(|time| time > now) {
            self.set_afloat();
            return self.plan_next(ctx);
        }
        let may_send = self.link.is_some() && self.resend_at.is_none_or(|time| time <= now);
        let turn = Turn {
            open: self.outside.disk(&self.spool.dir),
            folder: self.spool.dir.clone(),
            limits: Limits {
                max_bytes: self.spool.max_bytes,
                ..Limits::default()
            },
            when_full: self.spool.when_full,
            start_over: self.start_over,
            records: self.arrivals.begin(),
            delivered: std::mem::take(&mut self.delivered),
            refused: std::mem::take(&mut self.refused),
            read: self.outbox.wants().filter(|_| may_send),
            now: self.outside.now().as_micros(),
        };
        let kept = Arc::clone(&self.kept);
        self.turning = true;
        let done = self.outside.offload(move || turn.perform(&kept));
        ctx.spawn(done.into_actor(self).map(|done, me, ctx| {
            me.turning = false;
            match done {
                Some(done) => me.after_turn(done, ctx),
                None => {
                    me.fault.raise("a turn at the spool panicked");
                    ctx.stop();
                }
            }
        }));
    }

    fn after_turn(&mut self, done: Done, ctx: &mut Context<Self>) {
        self.metrics.spool_results.set(done.waiting.cast_signed());
        self.metrics.spool_bytes.set(done.bytes.cast_signed());
        if let Some(opened) = done.opened {
            info!(self.log, "spool opened"; "dir" => %self.spool.dir.display(), "results" => opened.results,
                "bytes" => opened.bytes, "torn_bytes" => opened.torn_bytes);
            self.tell_damage(&opened.damage);
        }
        if let Some(all) = done.all {
            self.outbox.start_over(all);
            self.start_over = false;
        }
        self.tell_damage(&done.damage);
        if let Some(dropped) = done.dropped {
            error!(self.log, "the spool is full, the oldest results were dropped (spool.when_full)";
                "results" => dropped.results, "bytes" => dropped.bytes, "max_bytes" => self.spool.max_bytes);
            self.metrics
                .lost
                .with_label_values(&["spool full"])
                .inc_by(dropped.results);
        }
        if let Some(problem) = &done.untidy
            && !self.disk.untidy
        {
            warn!(self.log, "the spool could not let go of what Kafka has, trying on"; "reason" => problem);
        }
        self.disk.untidy = done.untidy.is_some();
        match done.durable {
            Ok(ids) => {
                self.disk_is_well();
                self.durable(&ids);
            }
            Err(NotDurable::Unusable(problem)) => {
                self.fault.refuse(problem);
                return ctx.stop();
            }
            Err(NotDurable::Full) => self.disk_is_full(),
            Err(NotDurable::Disk(problem)) => self.disk_failed(&problem),
        }
        if let Some((span, entries, next)) = done.read {
            let next = self.send_backlog(entries).or(next);
            self.outbox.was_read(span, next);
        }
        if let Some(problem) = done.unread {
            warn!(self.log, "the backlog can't be read now, trying on"; "reason" => problem);
            self.send_again_later();
        }
        self.plan_next(ctx);
        self.look_for_end(ctx);
    }

    /// The results of the last turn are durable: they count, and go to Kafka.
    fn durable(&mut self, ids: &[Id]) {
        for (held, id) in self.arrivals.durable().into_iter().zip(ids) {
            self.accept(&held.report);
            let sent = self.outbox.takes_fresh()
                && self.send(
                    What::Spooled(*id),
                    Lane::Fresh,
                    held.report.site().as_bytes(),
                    &held.payload,
                );
            if !sent {
                self.outbox.leave(*id);
            }
        }
    }

    /// A result is where nothing is lost: now it counts as checked.
    fn accept(&self, report: &Report) {
        if let Report::Check(result) = report {
            self.metrics.count_check(result);
            debug!(self.log, "accepted"; "site" => &*result.site, "slot" => %result.slot);
            self.outside.accepted(result);
        }
    }

    /// Ends in order when all is delivered, or when there is no more time for it.
    fn look_for_end(&mut self, ctx: &mut Context<Self>) {
        let Some(since) = self.ending else { return };
        if self.turning {
            return;
        }
        let nothing_left = self.arrivals.is_empty()
            && self.outbox.is_empty()
            && self.delivered.is_empty()
            && self.refused.is_empty();
        // What is durable may wait for the next start, what is not is worth the whole time.
        let kafka_is_deaf = self.metrics.kafka_up.with_label_values(&["producer"]).get() == 0;
        let patience = if kafka_is_deaf && self.arrivals.is_empty() {
            DEAF_KAFKA.min(self.patience)
        } else {
            self.patience
        };
        if nothing_left || since.elapsed() >= patience {
            let waiting = self.metrics.spool_results.get();
            if !self.arrivals.is_empty() {
                error!(self.log, "results are lost: neither the disk nor Kafka took them in time"; "lost" => self.arrivals.len());
                self.metrics
                    .lost
                    .with_label_values(&["end"])
                    .inc_by(self.arrivals.len() as u64);
            }
            if waiting > 0 {
                warn!(self.log, "results stay in the spool, and are sent at the next start"; "results" => waiting,
                    "dir" => %self.spool.dir.display());
            }
            let link = self.link.take();
            let kept = Arc::clone(&self.kept);
            let closed = self.outside.offload(move || {
                if let Some(link) = link {
                    link.close(Duration::ZERO);
                }
                // The next process may have it.
                drop(kept.lock().map(|mut kept| kept.take()));
            });
            ctx.wait(closed.into_actor(self).map(|_, _, ctx| ctx.stop()));
        }
    }
}

/// What may be on its way, as the settings say.
fn window(kafka: &KafkaSettings) -> Window {
    Window {
        messages: kafka.queue.max_messages as usize,
        bytes: kafka.queue.max_kbytes as usize * 1024,
    }
}

impl<O: Outside> Actor for Publisher<O> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.connect(ctx);
        // What an earlier life had begun is done again.
        self.arrivals.give_back();
        (self.turning, self.planned) = (false, None);
        self.take_in_again();
        self.start_over = true;
        self.plan(ctx, Duration::ZERO);
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

impl<O: Outside> Handler<Delivery<PublisherOrder>> for Publisher<O> {
    type Result = ();

    fn handle(&mut self, order: Delivery<PublisherOrder>, ctx: &mut Self::Context) {
        match order.message {
            PublisherOrder::Reconfigure(settings) => {
                info!(self.log, "Kafka settings changed, connecting anew");
                self.kafka = *settings;
                self.outbox.set_window(window(&self.kafka));
                let closed = self
                    .disconnect()
                    .map(|(), me: &mut Self, ctx: &mut Context<Self>| {
                        me.connect(ctx);
                        me.plan_next(ctx);
                    });
                ctx.wait(closed);
            }
            PublisherOrder::Respool(settings) => {
                let dir = std::mem::take(&mut self.spool.dir);
                self.spool = SpoolSettings { dir, ..settings };
            }
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
        ctx.run_interval(Duration::from_millis(20), |me, ctx| me.look_for_end(ctx));
        self.plan(ctx, Duration::ZERO);
    }
}
