//! While there is a large backlog the publisher looks how far the consumers are, and lets as much of it go as they store.

use std::time::Duration;

use actix::prelude::*;
use prometheus::IntGauge;
use slog::{debug, info};
use tokio::time::Instant;

use super::{
    Publisher,
    outside::{Link as _, Outside, PartitionLag},
};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(200);

/// The same where nobody was seen.
const LOOK_IN_VAIN: Duration = Duration::from_secs(5);

/// Whether the backlog waits for the consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Yielding {
    /// There is none, or so little that it delays nobody.
    #[default]
    No,
    /// As much of it goes as they store.
    ToConsumers,
    /// No consumer was seen, so it goes as fast as Kafka takes it.
    ToNobody,
}

impl<O: Outside> Publisher<O> {
    /// Looks at the consumers, if there is a reason to, and plans the next look.
    pub(super) fn look_out(&mut self, ctx: &mut Context<Self>) {
        if self.looking {
            return;
        }
        if !self.has_to_yield() {
            return self.yield_no_more();
        }
        self.looking = true;
        let kafka_is_up = self.metrics.kafka_up.with_label_values(&["producer"]).get() != 0;
        if !kafka_is_up {
            self.throttle.forget();
        }
        // Little goes before the first look.
        if !kafka_is_up || self.yielding == Yielding::No {
            self.outbox.allow(Some(self.throttle.first()));
        }
        match &self.link {
            Some(link) if kafka_is_up => {
                let looked = link.look().into_actor(self);
                ctx.spawn(looked.map(|seen, me, ctx| {
                    me.yield_to(seen);
                    let after = match me.yielding {
                        Yielding::ToNobody => LOOK_IN_VAIN,
                        _ => LOOK,
                    };
                    me.look_again(after, ctx);
                    me.plan_next(ctx);
                }));
            }
            _ => self.look_again(LOOK, ctx),
        }
    }

    /// Whether there is a backlog, and fresh results that it would delay: at an orderly end there are none any more. And where
    /// room becomes scarce, that is what they need most.
    fn has_to_yield(&self) -> bool {
        let of = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or_default();
        let is_large = of(&self.metrics.spool_results) > self.throttle.first();
        let is_full = of(&self.metrics.spool_bytes) > self.spool.max_bytes / 4 * 3;
        self.yields && self.ending.is_none() && is_large && !is_full
    }

    fn look_again(&mut self, after: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(after, |me, ctx| {
            me.looking = false;
            me.look_out(ctx);
        });
    }

    fn yield_to(&mut self, seen: Result<Vec<PartitionLag>, String>) {
        if !self.has_to_yield() {
            return self.yield_no_more();
        }
        let now = Instant::now();
        let allowed = match seen {
            Ok(lags) if !lags.is_empty() => {
                self.set_yielding(Yielding::ToConsumers);
                Some(self.throttle.seen(now, lags))
            }
            none => {
                self.set_yielding(self.yielding.max(Yielding::ToConsumers));
                let reason = none.err();
                let reason = reason.as_deref().unwrap_or("no offset is committed");
                debug!(self.log, "no consumer is seen"; "group" => &self.kafka.group, "reason" => reason);
                let allowed = self.throttle.seen_none(now);
                if allowed.is_none() && self.yielding != Yielding::ToNobody {
                    info!(self.log, "no consumer is seen, the backlog goes to Kafka at full speed"; "group" => &self.kafka.group,
                        "reason" => reason);
                    self.yielding = Yielding::ToNobody;
                }
                allowed
            }
        };
        self.outbox.allow(allowed);
    }

    fn set_yielding(&mut self, to: Yielding) {
        if self.yielding == Yielding::No {
            info!(self.log, "there is a backlog, it goes to Kafka as fast as the consumers store it";
                "results" => self.metrics.spool_results.get(), "group" => &self.kafka.group);
        }
        self.yielding = to;
    }

    fn yield_no_more(&mut self) {
        self.outbox.allow(None);
        if self.yielding == Yielding::No {
            return;
        }
        self.throttle.forget();
        self.yielding = Yielding::No;
        if let Some(link) = &self.link {
            link.rest();
        }
    }
}
