//! The bounded way from one actor to another.
//!
//! An actix mailbox is not a bound: `do_send` always enqueues, and every clone of an `Addr` has an allowance of its own.
//! An [`Intake`] is one: a permit from a shared semaphore travels inside the message and is given back when the receiver
//! has finished with it, so the number of messages queued or in work never exceeds the capacity.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A message on its way through an [`Intake`], with the permit that it occupies until it is dropped.
pub struct Delivery<M> {
    /// What was sent.
    pub message: M,
    permit: OwnedSemaphorePermit,
}

impl<M> Delivery<M> {
    /// Takes the message out; the permit is given back when the returned guard is dropped, that is, when the receiver
    /// has really finished.
    pub fn into_parts(self) -> (M, OwnedSemaphorePermit) {
        (self.message, self.permit)
    }
}

impl<M: Send + 'static> Message for Delivery<M> {
    type Result = ();
}

/// The sending side of a bounded queue into one actor. Clones share the bound.
pub struct Intake<M: Send + 'static> {
    to: Recipient<Delivery<M>>,
    permits: Arc<Semaphore>,
    capacity: usize,
    /// Messages that go together a little later, each with its permit.
    soon: Arc<Mutex<Vec<Delivery<M>>>>,
}

/// How long a message waits for others to go with it.
const SOON: Duration = Duration::from_millis(5);

/// So many do not wait for more.
const ENOUGH: usize = 256;

impl<M: Send + 'static> Clone for Intake<M> {
    fn clone(&self) -> Self {
        Self {
            to: self.to.clone(),
            permits: Arc::clone(&self.permits),
            capacity: self.capacity,
            soon: Arc::clone(&self.soon),
        }
    }
}

impl<M: Send + 'static> Intake<M> {
    /// An intake into `to` that holds at most `capacity` messages, queued and in work together.
    pub fn new(to: Recipient<Delivery<M>>, capacity: usize) -> Self {
        Self {
            to,
            permits: Arc::new(Semaphore::new(capacity)),
            capacity,
            soon: Arc::default(),
        }
    }

    /// Hands `message` over if there is room now, else gives it back.
    ///
    /// # Errors
    /// The message itself, when the intake is full.
    pub fn try_offer(&self, message: M) -> Result<(), M> {
        match self.try_reserve() {
            Some(room) => {
                room.fill(message);
                Ok(())
            }
            None => Err(message),
        }
    }

    /// Room for one message, if there is any now.
    pub fn try_reserve(&self) -> Option<Room<'_, M>> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(Room {
            to: &self.to,
            permit,
        })
    }

    /// Waits for room, then hands `message` over. Waiting senders are served in order.
    pub async fn offer(&self, message: M) {
        if let Some(room) = self.reserve().await {
            room.fill(message);
        }
    }

    /// As [`Intake::offer`], but lets the message wait a few milliseconds for others: waking a receiver on another thread
    /// costs more than the message itself. What still waits when its sender ends is sent by [`Intake::flush`].
    pub async fn offer_soon(&self, message: M) {
        let Some(room) = self.reserve().await else {
            return;
        };
        let delivery = Delivery {
            message,
            permit: room.permit,
        };
        let waiting = {
            let mut soon = self.soon.lock().unwrap_or_else(PoisonError::into_inner);
            soon.push(delivery);
            soon.len()
        };
        if waiting >= ENOUGH {
            self.flush();
        } else if waiting == 1 {
            let me = self.clone();
            actix_rt::spawn(async move {
                tokio::time::sleep(SOON).await;
                me.flush();
            });
        }
    }

    /// Sends what waits for others.
    pub fn flush(&self) {
        let waiting =
            std::mem::take(&mut *self.soon.lock().unwrap_or_else(PoisonError::into_inner));
        for delivery in waiting {
            self.to.do_send(delivery);
        }
    }

    /// Waits for room and keeps it for one message, so that a sender that stops waiting still has its message. `None`
    /// never comes: the semaphore is private and is never closed.
    pub async fn reserve(&self) -> Option<Room<'_, M>> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(Room {
            to: &self.to,
            permit,
        })
    }

    /// Permits in use: messages queued or in work.
    pub fn in_use(&self) -> usize {
        self.capacity - self.permits.available_permits()
    }

    /// The most messages that the intake holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Room for one message in an [`Intake`].
pub struct Room<'a, M: Send + 'static> {
    to: &'a Recipient<Delivery<M>>,
    permit: OwnedSemaphorePermit,
}

impl<M: Send + 'static> Room<'_, M> {
    /// Hands `message` over.
    pub fn fill(self, message: M) {
        self.to.do_send(Delivery {
            message,
            permit: self.permit,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slow;
    impl Actor for Slow {
        type Context = Context<Self>;
    }
    impl Handler<Delivery<u8>> for Slow {
        type Result = ();
        fn handle(&mut self, delivery: Delivery<u8>, ctx: &mut Self::Context) {
            let (_, permit) = delivery.into_parts();
            ctx.wait(
                async move {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    drop(permit);
                }
                .into_actor(self),
            );
        }
    }

    #[actix_rt::test]
    async fn clones_share_the_bound() {
        let intake = Intake::new(Slow.start().recipient(), 4);
        let accepted = (0..50)
            .filter(|n| intake.clone().try_offer(*n).is_ok())
            .count();
        assert_eq!((accepted, intake.in_use()), (4, 4));
    }

    #[actix_rt::test]
    async fn what_waits_for_others_is_within_the_bound_and_goes_together() {
        tokio::time::pause();
        let intake = Intake::new(Slow.start().recipient(), 4);
        for n in 0..3 {
            intake.offer_soon(n).await;
        }
        assert_eq!((intake.in_use(), intake.soon.lock().unwrap().len()), (3, 3));
        assert!(intake.try_offer(3).is_ok() && intake.try_offer(4).is_err());
        tokio::time::sleep(SOON * 2).await;
        assert!(intake.soon.lock().unwrap().is_empty());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(intake.in_use(), 0);
    }

    #[actix_rt::test]
    async fn a_permit_comes_back_only_when_the_work_is_done() {
        tokio::time::pause();
        let intake = Intake::new(Slow.start().recipient(), 1);
        let start = tokio::time::Instant::now();
        for n in 0..4 {
            intake.offer(n).await;
        }
        assert_eq!(
            start.elapsed().as_millis() / 10,
            3,
            "three were finished before the fourth was let in"
        );
    }
}
