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
pub mod spool;
mod turn;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use sitewatch_config::{KafkaSettings, SpoolSettings};
use slog::{Logger, debug, error, info, warn};

pub use self::outside::{End, Ends, Link, OpenDisk, Outside, Real, Refused, Ticket};
use self::{
    arrivals::{Arrivals, Held},
    outbox::{Lane, Outbox, Window},
    outside::{Wake, What},
    spool::{Entry, Id, Limits},
    turn::{Done, Kept, NotDurable, Turn},
};
use crate::{
    intake::{Delivery, Intake},
    metrics::Metrics,
    model::{Report, Slot},
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

/// So many results do not wait for more.
const ENOUGH: usize = 1000;

/// How long an orderly end waits for a Kafka that does not answer: what it does not take stays in the spool.
const DEAF_KAFKA: Duration = Duration::from_secs(1);

/// Makes results durable and publishes them.
pub struct Publisher<O: Outside = Real> {
    kafka: KafkaSettings,
    spool: SpoolSettings,
    /// How long letting go of a client may take, and an orderly end.
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
    /// Site and slot of the result that is being taken in.
    in_work: Option<(Arc<str>, Slot)>,
    orders: Intake<PublisherOrder>,
    metrics: Metrics,
    log: Logger,
    fault: Fault,
}

/// How the disk does.
struct DiskState {
    well: bool,
    full: bool,
    retry: Retry,
    /// Not before then is it tried again.
    not_before: Option<Instant>,
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
            disk: DiskState {
                well: true,
                full: false,
                retry: Retry::for_connections(),
                not_before: None,
            },
            ending: None,
            start_over: false,
            in_work: None,
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

    /// Lets go of the client. What it had is told as failed, and sent again.
    fn disconnect(&mut self) -> impl ActorFuture<Self, Output = ()> + use<O> {
        let (link, patience) = (self.link.take(), self.patience);
        let closed = self.outside.offload(move || {
            if let Some(link) = link {
                link.close(patience);
            }
        });
        closed.into_actor(self).map(|_, me: &mut Self, _| me.hear())
    }

    /// The life before this one ended with a result in its hands: what it would do to this one is not tried out.
    fn give_up_in_work(&mut self) {
        if let Some((site, slot)) = self.in_work.take() {
            error!(self.log, "a result is lost: taking it in failed"; "site" => site, "slot" => %slot);
            self.metrics.lost.with_label_values(&["panic"]).inc();
        }
    }

    fn take_in(&mut self, delivery: Delivery<Report>) {
        let (report, permit) = delivery.into_parts();
        match report.encode() {
            Ok(payload) => self.arrivals.add(Held {
                report,
                payload: payload.into(),
                permit,
            }),
            Err(problem) => {
                error!(self.log, "a result can't be encoded"; "site" => report.site(), "error" => %problem);
                self.metrics
                    .lost
                    .with_label_values(&["not encodable"])
                    .inc();
            }
        }
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
        let disk_may = self
            .disk
            .not_before
            .is_none_or(|time| time <= Instant::now());
        let backlog_may = self.resend_at.is_none_or(|time| time <= Instant::now());
        let after =
            if disk_may && backlog_may && self.link.is_some() && self.outbox.wants().is_some() {
                Duration::ZERO
            } else if disk_may && self.arrivals.waiting() >= ENOUGH && !self.disk.full {
                Duration::ZERO
            } else if self.arrivals.waiting() > 0 || !self.delivered.is_empty() {
                self.spool.sync_interval.max(Duration::from_millis(
                    u64::from(self.disk.full || !disk_may) * 50,
                ))
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
        if let Some(problem) = done.untidy {
            warn!(self.log, "the spool could not let go of what Kafka has, trying on"; "reason" => problem);
        }
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
        self.plan_next(ctx);
        self.look_for_end(ctx);
    }

    fn tell_damage(&self, damage: &[spool::Damage]) {
        for damage in damage {
            error!(self.log, "the spool is damaged there, what was there is lost; the file is kept"; "file" => &damage.file,
                "offset" => damage.offset, "bytes" => damage.bytes);
            self.metrics.spool_damage.inc();
        }
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

    /// Sends what was read of the spool; the first that could not be sent, if any.
    fn send_backlog(&mut self, entries: Vec<Entry>) -> Option<Id> {
        for entry in entries {
            if !self.send(
                What::Spooled(entry.id),
                Lane::Backlog,
                &entry.key,
                &entry.payload,
            ) {
                return Some(entry.id);
            }
        }
        None
    }

    /// Results that the disk does not take go to Kafka from memory, as far as there is room.
    fn set_afloat(&mut self) {
        while self.link.is_some() && self.outbox.takes_fresh() {
            let Some((number, held)) = self.arrivals.set_afloat() else {
                return;
            };
            let (site, payload) = (Arc::clone(held.report.site()), Arc::clone(&held.payload));
            if !self.send(What::Afloat(number), Lane::Fresh, site.as_bytes(), &payload) {
                self.arrivals.land(number);
                return;
            }
        }
    }

    fn send(&mut self, what: What, lane: Lane, key: &[u8], payload: &[u8]) -> bool {
        let Some(link) = &self.link else { return false };
        let ticket = Ticket {
            what,
            lane,
            bytes: payload.len(),
        };
        match link.send(ticket, key, payload) {
            Ok(()) => {
                self.outbox.sent(lane, payload.len());
                true
            }
            Err(Refused::Full) => {
                self.send_again_later();
                false
            }
            Err(Refused::Never(reason)) => {
                self.outbox.sent(lane, payload.len());
                self.ended(ticket, End::Refused(reason));
                true
            }
            Err(Refused::Now(reason)) => {
                debug!(self.log, "the Kafka client takes no message"; "reason" => reason);
                self.send_again_later();
                false
            }
        }
    }

    /// Hears how messages have ended.
    fn hear(&mut self) {
        let ended = self.ends.as_ref().map(Ends::take).unwrap_or_default();
        for (ticket, end) in ended {
            self.ended(ticket, end);
        }
    }

    fn ended(&mut self, ticket: Ticket, end: End) {
        self.outbox.ended(ticket.lane, ticket.bytes);
        match (ticket.what, end) {
            (What::Spooled(id), End::Delivered) => {
                self.delivered.push(id);
                self.resend.reset();
            }
            (What::Afloat(number), End::Delivered) => {
                if let Some(held) = self.arrivals.delivered(number) {
                    self.accept(&held.report);
                }
            }
            (What::Spooled(id), End::Refused(reason)) => {
                error!(self.log, "Kafka will never take a result, it is set aside"; "reason" => &reason,
                    "file" => %self.spool.dir.join(turn::REFUSED).display());
                self.metrics.lost.with_label_values(&["refused"]).inc();
                self.refused.push((id, reason));
            }
            (What::Afloat(number), End::Refused(reason)) => {
                if let Some(held) = self.arrivals.delivered(number) {
                    error!(self.log, "Kafka will never take a result, and the disk has not got it"; "reason" => reason,
                        "site" => held.report.site(), "slot" => %held.report.slot());
                    self.metrics.lost.with_label_values(&["refused"]).inc();
                }
            }
            (What::Spooled(id), End::Failed(_)) => {
                self.outbox.again(id);
                self.send_again_later();
            }
            (What::Afloat(number), End::Failed(_)) => {
                self.arrivals.land(number);
                self.send_again_later();
            }
        }
    }

    fn send_again_later(&mut self) {
        if self.resend_at.is_none_or(|time| time <= Instant::now()) {
            self.resend_at = Some(Instant::now() + self.resend.next_delay());
        }
    }

    /// A result is where nothing is lost: now it counts as checked.
    fn accept(&self, report: &Report) {
        if let Report::Check(result) = report {
            self.metrics.count_check(result);
            debug!(self.log, "accepted"; "site" => &*result.site, "slot" => %result.slot);
        }
    }

    fn disk_is_well(&mut self) {
        if !self.disk.well || self.disk.full {
            info!(self.log, "the spool takes results again");
        }
        (self.disk.well, self.disk.full, self.disk.not_before) = (true, false, None);
        self.disk.retry.reset();
        self.metrics.spool_up.set(1);
    }

    fn disk_is_full(&mut self) {
        self.arrivals.give_back();
        if !self.disk.full {
            error!(self.log, "the spool is full: sites wait until Kafka takes results (spool.when_full: block)";
                "max_bytes" => self.spool.max_bytes, "dir" => %self.spool.dir.display());
        }
        self.disk.full = true;
        self.set_afloat();
    }

    fn disk_failed(&mut self, problem: &str) {
        self.arrivals.give_back();
        self.metrics.spool_errors.inc();
        self.metrics.spool_up.set(0);
        if self.disk.well {
            error!(self.log, "the spool can't be written: results go to Kafka from memory, and count when Kafka has them";
                "dir" => %self.spool.dir.display(), "reason" => problem);
        } else {
            debug!(self.log, "the spool still can't be written"; "reason" => problem);
        }
        self.disk.well = false;
        self.disk.not_before = Some(Instant::now() + self.disk.retry.next_delay());
        self.set_afloat();
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
        self.give_up_in_work();
        self.connect(ctx);
        // What an earlier life had begun is done again.
        self.arrivals.give_back();
        (self.turning, self.planned) = (false, None);
        self.start_over = true;
        self.plan(ctx, Duration::ZERO);
    }
}

impl<O: Outside> Supervised for Publisher<O> {}

impl<O: Outside> Handler<Delivery<Report>> for Publisher<O> {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<Report>, ctx: &mut Self::Context) {
        self.in_work = Some((Arc::clone(delivery.message.site()), delivery.message.slot()));
        fail::fail_point!("publisher::publish");
        self.take_in(delivery);
        self.in_work = None;
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
