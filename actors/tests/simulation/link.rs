//! A producer's way to Kafka, which delays, loses and doubles messages, and delays, reorders and loses acknowledgements.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::LocalBoxFuture;
use sitewatch_actors::publisher::{End, Ends, Link, PartitionLag, Refused, Ticket};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::sleep,
};

use super::{kafka::Kafka, world::World};

/// A client of the simulated Kafka. It may be sent to other threads, so what it draws is its own.
pub(crate) struct FakeLink {
    orders: UnboundedSender<Order>,
    random: Mutex<Rng>,
    life: Life,
}

/// What a client wants of the broker.
enum Order {
    Send(Sent),
    Look(oneshot::Sender<Seen>),
}

/// How far the consumers are, or why that can't be told.
type Seen = Result<Vec<PartitionLag>, String>;

struct Sent {
    ticket: Ticket,
    key: Vec<u8>,
    payload: Vec<u8>,
}

/// Whether the client still lives, and the process that has it.
#[derive(Clone)]
struct Life {
    client: Arc<AtomicBool>,
    process: Arc<AtomicBool>,
}

impl Life {
    fn goes_on(&self) -> bool {
        self.client.load(Ordering::Relaxed) && self.process.load(Ordering::Relaxed)
    }
}

impl FakeLink {
    /// A client of `process`, which tells how messages end to `ends`.
    pub(crate) fn connect(
        world: &Rc<World>,
        kafka: &Rc<Kafka>,
        ends: Ends,
        process: &Arc<AtomicBool>,
    ) -> Self {
        let (orders, received) = unbounded_channel();
        let life = Life {
            client: Arc::new(AtomicBool::new(true)),
            process: Arc::clone(process),
        };
        let wire = Wire {
            world: Rc::clone(world),
            kafka: Rc::clone(kafka),
            ends,
            life: life.clone(),
        };
        actix_rt::spawn(Rc::new(wire).carry(received));
        Self {
            orders,
            random: Mutex::new(Rng::with_seed(world.below(u64::MAX))),
            life,
        }
    }
}

impl Link for FakeLink {
    fn send(&self, ticket: Ticket, key: &[u8], payload: &[u8]) -> Result<(), Refused> {
        let drawn = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .u32(0..1000);
        match drawn {
            0..10 => return Err(Refused::Full),
            10..15 => return Err(Refused::Now("simulated".to_owned())),
            _ => {}
        }
        let sent = Sent {
            ticket,
            key: key.to_vec(),
            payload: payload.to_vec(),
        };
        let gone = |_| Refused::Now("the simulation is over".to_owned());
        self.orders.send(Order::Send(sent)).map_err(gone)
    }

    fn look(&self) -> LocalBoxFuture<'static, Seen> {
        let (seen, answer) = oneshot::channel();
        let asked = self.orders.send(Order::Look(seen)).is_ok();
        Box::pin(async move {
            let gone = || Err("the simulation is over".to_owned());
            if asked {
                answer.await.unwrap_or_else(|_| gone())
            } else {
                gone()
            }
        })
    }

    fn rest(&self) {}

    fn close(self, _: Duration) {
        self.life.client.store(false, Ordering::Relaxed);
    }
}

/// What lies between a client and the broker.
struct Wire {
    world: Rc<World>,
    kafka: Rc<Kafka>,
    ends: Ends,
    life: Life,
}

impl Wire {
    async fn carry(self: Rc<Self>, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            let me = Rc::clone(&self);
            match order {
                Order::Send(sent) => drop(actix_rt::spawn(me.deliver(sent))),
                Order::Look(seen) => drop(actix_rt::spawn(me.tell_lag(seen))),
            }
        }
    }

    async fn tell_lag(self: Rc<Self>, seen: oneshot::Sender<Seen>) {
        sleep(self.world.millis(300)).await;
        let lost = self.kafka.is_away() || self.world.chance(100);
        let told = if lost {
            Err("simulated: no answer".to_owned())
        } else {
            Ok(self.kafka.lags())
        };
        self.world.count("a producer looks at the consumers");
        // A client that is gone hears nothing.
        let _ = seen.send(told);
    }

    async fn deliver(self: Rc<Self>, sent: Sent) {
        let world = &self.world;
        loop {
            sleep(world.millis(200)).await;
            if !self.life.goes_on() {
                // It was on the wire when the client went, or it was not.
                if world.chance(300) {
                    self.store(&sent);
                }
                return;
            }
            if !self.kafka.is_away() {
                break;
            }
        }
        if world.chance(30) {
            return self.tell(&sent, End::Failed("simulated: not delivered".to_owned()));
        }
        self.store(&sent);
        // The answer may be slow, and may be lost: the client then says that it failed.
        sleep(world.millis(100)).await;
        if !self.life.goes_on() {
            return;
        }
        let end = if world.chance(30) {
            world.count("an acknowledgement is lost");
            End::Failed("simulated: the answer is lost".to_owned())
        } else {
            End::Delivered
        };
        self.tell(&sent, end);
    }

    fn tell(&self, sent: &Sent, end: End) {
        self.ends.tell(sent.ticket, end);
    }

    /// Into the partition of its key.
    fn store(&self, sent: &Sent) {
        let mut hasher = DefaultHasher::new();
        sent.key.hash(&mut hasher);
        let partition = (hasher.finish() % self.kafka.partition_count()) as i32;
        let place = self.kafka.append(partition, Some(sent.payload.clone()));
        let site = String::from_utf8_lossy(&sent.key);
        self.world
            .note(format_args!("{site}: a message at {place:?}"));
    }
}
