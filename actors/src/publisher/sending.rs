//! The publisher's messages on their way to Kafka, and how they end.

use std::sync::Arc;

use slog::{debug, error};
use tokio::time::Instant;

use super::{
    Publisher,
    outbox::Lane,
    outside::{End, Ends, Link as _, Outside, Refused, Ticket, What},
    set_aside,
    spool::{Entry, Id},
};

impl<O: Outside> Publisher<O> {
    /// Sends what was read of the spool; the first that could not be sent, if any.
    pub(super) fn send_backlog(&mut self, entries: Vec<Entry>) -> Option<Id> {
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
    pub(super) fn send_unspooled(&mut self) {
        while self.link.is_some() && self.outbox.takes_fresh() {
            let Some((number, held)) = self.arrivals.next_unspooled() else {
                return;
            };
            let (site, payload) = (Arc::clone(held.report.site()), Arc::clone(&held.payload));
            if !self.send(
                What::Unspooled(number),
                Lane::Fresh,
                site.as_bytes(),
                &payload,
            ) {
                self.arrivals.wait_again(number);
                return;
            }
        }
    }

    pub(super) fn send(&mut self, what: What, lane: Lane, key: &[u8], payload: &[u8]) -> bool {
        let Some(link) = &self.link else { return false };
        let alone = match what {
            What::Spooled(id) => self.doubtful.contains(&id),
            What::Unspooled(number) => self.arrivals.goes_alone(number),
        };
        let ticket = Ticket {
            alone,
            what,
            lane,
            bytes: payload.len(),
            opening: self.opening,
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
                // By the client, which has looked at nothing else.
                let ticket = Ticket {
                    alone: true,
                    ..ticket
                };
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
    pub(super) fn hear(&mut self) {
        let ended = self.ends.as_ref().map(Ends::take).unwrap_or_default();
        for (ticket, end) in ended {
            self.ended(ticket, end);
        }
    }

    pub(super) fn ended(&mut self, ticket: Ticket, end: End) {
        self.outbox.ended(ticket.lane, ticket.bytes);
        if matches!(ticket.what, What::Spooled(_)) && ticket.opening != self.opening {
            // The spool was opened again since, and all of it is sent again. There the id may be that of another message.
            return;
        }
        if let What::Spooled(id) = ticket.what {
            self.doubtful.remove(&id);
        }
        match (ticket.what, end) {
            (What::Spooled(id), End::Refused(reason)) if !ticket.alone => {
                debug!(self.log, "Kafka refused a request, each of its messages is sent again alone"; "reason" => reason);
                self.doubtful.insert(id);
                self.outbox.again(id);
            }
            (What::Unspooled(number), End::Refused(_)) if !ticket.alone => {
                self.arrivals.wait_to_go_alone(number);
            }
            (What::Spooled(id), End::Delivered) => {
                self.delivered.push(id);
                self.resend.reset();
            }
            (What::Unspooled(number), End::Delivered) => {
                if let Some(held) = self.arrivals.delivered(number) {
                    self.accept(&held.report);
                }
            }
            (What::Spooled(id), End::Refused(reason)) => {
                error!(self.log, "Kafka will never take a result, it is set aside: see `sitewatch-node spool refused`"; "reason" => &reason,
                    "file" => %self.spool.dir.join(set_aside::REFUSED).display());
                self.metrics.lost.with_label_values(&["refused"]).inc();
                self.refused.push((id, reason));
            }
            (What::Unspooled(number), End::Refused(reason)) => {
                if let Some(held) = self.arrivals.delivered(number) {
                    error!(self.log, "Kafka will never take a result, and the disk has not got it"; "reason" => reason,
                        "site" => held.report.site(), "slot" => %held.report.slot());
                    self.metrics.lost.with_label_values(&["refused"]).inc();
                }
            }
            (What::Spooled(id), End::Failed(_)) => {
                if ticket.alone {
                    self.doubtful.insert(id);
                }
                self.outbox.again(id);
                self.send_again_later();
            }
            (What::Unspooled(number), End::Failed(_)) => {
                self.arrivals.wait_again(number);
                self.send_again_later();
            }
        }
    }

    pub(super) fn send_again_later(&mut self) {
        if self.resend_at.is_none_or(|time| time <= Instant::now()) {
            self.resend_at = Some(Instant::now() + self.resend.next_delay());
        }
    }
}
