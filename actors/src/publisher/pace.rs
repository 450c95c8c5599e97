//! When the publisher turns to the disk, what it makes of what came of it, and when it has done its work.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use slog::{debug, error, info, warn};
use tokio::time::Instant;

use super::{
    Publisher,
    linking::DEAF_KAFKA,
    outbox::Lane,
    outside::{Link as _, Outside, What},
    spool::{Id, Limits},
    turn::{Done, NotDurable, Turn},
};
use crate::model::Report;

/// How often a publisher that has nothing else to do looks after its spool: what Kafka has is let go of.
const IDLE_TURN: Duration = Duration::from_secs(1);

/// How often one that can't write to its spool looks for another way.
const TROUBLED: Duration = Duration::from_millis(50);

/// So many results do not wait for more.
const ENOUGH: usize = 1000;

impl<O: Outside> Publisher<O> {
    /// Sees to it that there is a turn `after` this time, or earlier.
    pub(super) fn plan(&mut self, ctx: &mut Context<Self>, after: Duration) {
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
    pub(super) fn plan_next(&mut self, ctx: &mut Context<Self>) {
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
            self.send_unspooled();
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
            pulse: self.pulse.clone(),
        };
        let kept = Arc::clone(&self.kept);
        self.turning = true;
        let done = self.outside.offload(move || turn.perform(&kept));
        ctx.spawn(done.into_actor(self).map(|done, me, ctx| {
            me.turning = false;
            me.pulse.beat();
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
        if let Some((results, bytes)) = done.holds {
            self.metrics.spool_results.set(results.cast_signed());
            self.metrics.spool_bytes.set(bytes.cast_signed());
        }
        if let Some(opened) = done.opened {
            info!(self.log, "spool opened"; "dir" => %self.spool.dir.display(), "results" => opened.results,
                "bytes" => opened.bytes, "torn_bytes" => opened.torn_bytes);
            self.tell_damage(&opened.damage);
            self.tell_missing(opened.results);
            // Messages that ended meanwhile have ids of the opening before.
            self.opening += 1;
            self.delivered.clear();
            self.refused.clear();
            self.doubtful.clear();
        }
        self.refused.extend(done.refused);
        for note in &done.notes {
            warn!(self.log, "somebody else changed the spool's folder (spool.dir)"; "what" => note,
                "dir" => %self.spool.dir.display());
        }
        if let Some(all) = done.all {
            self.outbox.start_over(all);
            self.start_over = false;
        }
        self.look_out(ctx);
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
                self.disk_is_well(ids.len());
                self.durable(&ids);
            }
            Err(NotDurable::Unusable(problem)) => {
                self.fault.refuse(problem);
                return ctx.stop();
            }
            Err(NotDurable::Full) => self.disk_is_full(),
            Err(NotDurable::Disk(problem)) => self.disk_failed(&problem),
            Err(NotDurable::Lost(problem)) => {
                self.spool_is_lost(&problem);
                return self.plan(ctx, Duration::ZERO);
            }
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
    pub(super) fn accept(&self, report: &Report) {
        if let Report::Check(result) = report {
            self.metrics.count_check(result);
            debug!(self.log, "accepted"; "site" => &*result.site, "slot" => %result.slot);
            self.outside.accepted(result);
        }
    }

    /// Ends in order when all is delivered, or when there is no more time for it.
    pub(super) fn look_for_end(&mut self, ctx: &mut Context<Self>) {
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
