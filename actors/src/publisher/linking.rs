//! The publisher's Kafka client: made, replaced, let go of.

use std::time::Duration;

use actix::prelude::*;
use sitewatch_config::{KafkaSettings, SpoolSettings};
use slog::{error, info};

use super::{Ends, Link, Outside, Publisher, PublisherOrder, PublisherSettings, throttle, window};

/// How long an orderly end waits for a Kafka that does not answer: what it does not take stays in the spool.
pub(super) const DEAF_KAFKA: Duration = Duration::from_secs(1);

impl<O: Outside> Publisher<O> {
    /// Makes the Kafka client, unless it outlived a failure of this actor.
    pub(super) fn connect(&mut self, ctx: &mut Context<Self>) {
        if self.link.is_some() {
            return;
        }
        match self.new_client(&self.kafka, ctx) {
            Ok((link, ends)) => {
                (self.link, self.ends) = (Some(link), Some(ends));
                self.has_worked = true;
            }
            // As when a file that kafka.options name is being replaced.
            Err(problem) if self.has_worked => {
                self.fault.raise(problem);
                ctx.stop();
            }
            Err(problem) => {
                self.fault.refuse(problem);
                ctx.stop();
            }
        }
    }

    fn new_client(
        &self,
        kafka: &KafkaSettings,
        ctx: &Context<Self>,
    ) -> Result<(O::Link, Ends), String> {
        fail::fail_point!("publisher::client", |_| Err("injected fault".to_owned()));
        let orders = self.orders.clone();
        let ends = Ends::new(ctx.address().recipient(), move |reason| {
            // A full intake holds the same news already.
            let _ = orders.try_offer(PublisherOrder::ClientFailed(reason));
        });
        let link = self.outside.connect(kafka, ends.clone())?;
        Ok((link, ends))
    }

    /// Takes over what a reload wants. The new client is made before the old one is let go.
    pub(super) fn reconfigure(&mut self, ctx: &mut Context<Self>) {
        let Some(renewal) = self.wanted.take() else {
            return;
        };
        let PublisherSettings { kafka, spool } = (*renewal.settings).clone();
        let dir = std::mem::take(&mut self.spool.dir);
        self.spool = SpoolSettings { dir, ..spool };
        if kafka == self.kafka {
            return renewal.confirm();
        }
        let (link, ends) = match self.new_client(&kafka, ctx) {
            Ok(made) => made,
            Err(problem) => {
                error!(self.log, "Kafka settings can't be used, results go on with those before; see kafka.* and send SIGHUP again";
                    "reason" => &problem);
                return renewal.refuse(problem);
            }
        };
        info!(self.log, "Kafka settings changed, connecting anew");
        self.kafka = kafka;
        self.outbox.set_window(window(&self.kafka));
        self.throttle = throttle(&self.kafka);
        let closed = self.disconnect();
        ctx.wait(closed.map(|(), me: &mut Self, ctx: &mut Context<Self>| {
            (me.link, me.ends) = (Some(link), Some(ends));
            renewal.confirm();
            me.plan_next(ctx);
        }));
    }

    /// Lets go of the client, soon: what it still had is told as failed, and sent again from the spool.
    pub(super) fn disconnect(&mut self) -> impl ActorFuture<Self, Output = ()> + use<O> {
        let (link, patience) = (self.link.take(), DEAF_KAFKA.min(self.patience));
        let closed = self.outside.offload(move || {
            if let Some(link) = link {
                link.close(patience);
            }
        });
        closed.into_actor(self).map(|_, me: &mut Self, _| me.hear())
    }
}
