//! The bounded way from one actor to another.
//!
//! An actix mailbox is not a bound: `do_send` always enqueues, and every clone of an `Addr` has an allowance of its own.
//! An [`Intake`] is one: a permit from a shared semaphore travels inside the message and is given back when the receiver
//! has finished with it, so the number of messages queued or in work never exceeds the capacity. Where messages differ in size,
//! [`Intake::weighing`] bounds their bytes too.

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
    permit: Permit,
}

/// The room that a message takes; dropped, it is free again.
pub struct Permit {
    _place: OwnedSemaphorePermit,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl<M> Delivery<M> {
    /// Takes the message out; the permit is given back when the returned guard is dropped, that is, when the receiver
    /// has really finished.
    pub fn into_parts(self) -> (M, Permit) {
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
    budget: Option<Arc<Budget<M>>>,
    /// Messages that go together a little later, each with its permit.
    soon: Arc<Mutex<Vec<Delivery<M>>>>,
}

/// How many bytes the messages of an intake may have together.
struct Budget<M> {
    /// One for each [`UNIT`].
    permits: Arc<Semaphore>,
    units: u32,
    weigh: fn(&M) -> usize,
}

/// The bytes of a permit of a budget.
const UNIT: usize = 1024;

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
            budget: self.budget.clone(),
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
            budget: None,
            soon: Arc::default(),
        }
    }

    /// The same with a bound of `bytes` on all messages together, each of which has as many as `weigh` says. One that is larger than the
    /// bound goes alone. Who has reserved room without a message to weigh is bounded by the number only.
    pub fn weighing(mut self, bytes: usize, weigh: fn(&M) -> usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        self.budget = Some(Arc::new(Budget {
            permits: Arc::new(Semaphore::new(units as usize)),
            units,
            weigh,
        }));
        self
    }

    /// Waits for room for this message.
    async fn permit(&self, message: &M) -> Option<Permit> {
        let place = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let bytes = match &self.budget {
            None => None,
            Some(budget) => {
                let units = budget.units_of(message);
                let permits = Arc::clone(&budget.permits);
                Some(permits.acquire_many_owned(units).await.ok()?)
            }
        };
        Some(Permit {
            _place: place,
            _bytes: bytes,
        })
    }

    /// Hands `message` over if there is room now, else gives it back.
    ///
    /// # Errors
    /// The message itself, when the intake is full.
    pub fn try_offer(&self, message: M) -> Result<(), M> {
        let Ok(place) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Err(message);
        };
        let bytes = match &self.budget {
            None => None,
            Some(budget) => {
                let units = budget.units_of(&message);
                match Arc::clone(&budget.permits).try_acquire_many_owned(units) {
                    Ok(bytes) => Some(bytes),
                    Err(_) => return Err(message),
                }
            }
        };
        let permit = Permit {
            _place: place,
            _bytes: bytes,
        };
        self.to.do_send(Delivery { message, permit });
        Ok(())
    }

    /// Room for one message, if there is any now.
    pub fn try_reserve(&self) -> Option<Room<'_, M>> {
        let permit = Permit {
            _place: Arc::clone(&self.permits).try_acquire_owned().ok()?,
            _bytes: None,
        };
        Some(Room {
            to: &self.to,
            permit,
        })
    }

    /// Waits for room, then hands `message` over. Waiting senders are served in order.
    pub async fn offer(&self, message: M) {
        if let Some(permit) = self.permit(&message).await {
            self.to.do_send(Delivery { message, permit });
        }
    }

    /// As [`Intake::offer`], but lets the message wait a few milliseconds for others: waking a receiver on another thread
    /// costs more than the message itself. What still waits when its sender ends is sent by [`Intake::flush`].
    pub async fn offer_soon(&self, message: M) {
        let Some(permit) = self.permit(&message).await else {
            return;
        };
        let delivery = Delivery { message, permit };
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
        let permit = Permit {
            _place: Arc::clone(&self.permits).acquire_owned().await.ok()?,
            _bytes: None,
        };
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

impl<M> Budget<M> {
    fn units_of(&self, message: &M) -> u32 {
        let units = (self.weigh)(message).div_ceil(UNIT);
        u32::try_from(units).unwrap_or(u32::MAX).min(self.units)
    }
}

/// Room for one message in an [`Intake`].
pub struct Room<'a, M: Send + 'static> {
    to: &'a Recipient<Delivery<M>>,
    permit: Permit,
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
    async fn messages_are_bounded_by_their_bytes_and_one_beyond_all_bounds_goes_alone() {
        tokio::time::pause();
        let weigh = |kilobytes: &u8| usize::from(*kilobytes) * UNIT;
        let intake = Intake::new(Slow.start().recipient(), 100).weighing(10 * UNIT, weigh);
        assert!(intake.try_offer(6).is_ok());
        assert_eq!(intake.try_offer(5), Err(5));
        assert_eq!(intake.in_use(), 1, "a refused message holds no place");
        assert!(intake.try_offer(4).is_ok() && intake.try_offer(0).is_ok());
        let start = tokio::time::Instant::now();
        intake.offer_soon(255).await;
        assert_eq!(start.elapsed().as_millis() / 10, 2, "the others have gone");
        assert!(intake.try_offer(1).is_err() && intake.try_offer(0).is_ok());
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
