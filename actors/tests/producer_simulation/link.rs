//! A Kafka that delays, loses and doubles messages and reorders its acknowledgements.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sitewatch_actors::publisher::{End, Ends, Link, Refused, Ticket};

use crate::world::{Identity, World};

/// A client of it.
pub(crate) struct FakeLink {
    world: World,
    ends: Ends,
    life: Life,
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
    pub(crate) fn new(world: World, ends: Ends, process: Arc<AtomicBool>) -> Self {
        let client = Arc::new(AtomicBool::new(true));
        Self {
            world,
            ends,
            life: Life { client, process },
        }
    }
}

fn identity(key: &[u8], payload: &[u8]) -> Identity {
    let message: serde_json::Value = serde_json::from_slice(payload).unwrap();
    let slot: jiff::Timestamp = message["slot"].as_str().unwrap().parse().unwrap();
    (
        String::from_utf8(key.to_vec()).unwrap(),
        slot.as_microsecond(),
    )
}

fn store(world: &World, identity: &Identity) {
    world.note(&format!("kafka has {identity:?}"));
    *world.state().topic.entry(identity.clone()).or_default() += 1;
}

impl Link for FakeLink {
    fn send(&self, ticket: Ticket, key: &[u8], payload: &[u8]) -> Result<(), Refused> {
        if self.world.happens(10) {
            return Err(Refused::Full);
        }
        if self.world.happens(5) {
            return Err(Refused::Now("injected".to_owned()));
        }
        let identity = identity(key, payload);
        let (world, ends, life) = (self.world.clone(), self.ends.clone(), self.life.clone());
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(world.below(200))).await;
                if !life.goes_on() {
                    // It was on the wire when the client went, or it was not.
                    if world.happens(300) {
                        store(&world, &identity);
                    }
                    return;
                }
                if !world.state().outage {
                    break;
                }
            }
            if world.happens(30) {
                return ends.tell(ticket, End::Failed("injected: not delivered".to_owned()));
            }
            store(&world, &identity);
            // The answer may be slow, and may be lost: the client then says that it failed.
            tokio::time::sleep(Duration::from_millis(world.below(100))).await;
            if !life.goes_on() {
                return;
            }
            let end = if world.happens(30) {
                End::Failed("injected: the answer is lost".to_owned())
            } else {
                End::Delivered
            };
            ends.tell(ticket, end);
        });
        Ok(())
    }

    fn close(self, _: Duration) {
        self.life.client.store(false, Ordering::Relaxed);
    }
}
