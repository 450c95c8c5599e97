//! What the publisher needs from outside: a disk, a Kafka client, threads that may block, and the time of day. The node has
//! the real ones ([`super::Real`]); the simulation has others, which fail as it wants.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use futures_util::future::LocalBoxFuture;
use sitewatch_config::KafkaSettings;

use super::{
    outbox::Lane,
    spool::{Disk, Id, OpenError},
};
use crate::model::{CheckResult, Slot};

/// Opens a disk, on a thread that may block.
pub type OpenDisk<D> = Box<dyn FnOnce() -> Result<D, OpenError> + Send>;

/// What the publisher needs from outside.
pub trait Outside: Unpin + 'static {
    /// Where the spool is kept.
    type Disk: Disk;
    /// A Kafka client.
    type Link: Link;

    /// A way to open the disk, on a thread that may block.
    fn disk(&self, folder: &Path) -> OpenDisk<Self::Disk>;

    /// A Kafka client with these settings, which tells of each message's end. Needs no broker: it connects by itself.
    ///
    /// # Errors
    /// If the settings are not usable, in words.
    fn connect(&self, settings: &KafkaSettings, ends: Ends) -> Result<Self::Link, String>;

    /// Does `work` where it may block. `None`: it panicked.
    fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> LocalBoxFuture<'static, Option<T>>;

    /// The time of day.
    fn now(&self) -> Slot;

    /// Hears of each result that counts as checked.
    fn accepted(&self, _: &CheckResult) {}
}

/// A Kafka client.
pub trait Link: Send + Unpin + 'static {
    /// Hands one message over; its end is told to [`Ends`] with the same ticket.
    ///
    /// # Errors
    /// If it is not taken; its end is not told then.
    fn send(&self, ticket: Ticket, key: &[u8], payload: &[u8]) -> Result<(), Refused>;

    /// How far the consumers are in each partition to which this client has delivered something, and in which they have
    /// committed an offset.
    ///
    /// # Errors
    /// Why that can't be told, in words.
    fn look(&self) -> LocalBoxFuture<'static, Result<Vec<PartitionLag>, String>>;

    /// There will be no look for a while.
    fn rest(&self);

    /// Waits until Kafka has answered for all messages, at most `patience`, and lets go of the client. Blocks.
    fn close(self, patience: Duration);
}

/// How far the consumers are in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: i32,
    /// The next offset that they will store, as they last said.
    pub committed: i64,
    /// The offset after the last message that was delivered.
    pub end: i64,
}

impl PartitionLag {
    /// Messages that wait to be stored.
    pub(super) fn waiting(&self) -> u64 {
        u64::try_from(self.end - self.committed).unwrap_or_default()
    }
}

/// Why a message was not taken.
#[derive(Debug)]
pub enum Refused {
    /// The client's queue is full.
    Full,
    /// This message can never be delivered, such as one that is too large.
    Never(String),
    /// Anything else, which may pass.
    Now(String),
}

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) what: What,
    pub(super) lane: Lane,
    /// Its payload's size.
    pub(super) bytes: usize,
    /// The opening of the spool in which its id is valid.
    pub(super) opening: u32,
    /// Whether it is to be the only one of its request.
    pub(super) alone: bool,
}

/// What a message is to the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A result of the spool.
    Spooled(Id),
    /// A result that is not in the spool, by its number: the disk did not take it.
    Unspooled(u64),
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Kafka has it.
    Delivered,
    /// Kafka will never take it.
    Refused(String),
    /// It was not delivered, and should be sent again.
    Failed(String),
}

/// Wakes the publisher: messages have ended.
pub(super) struct Wake;

impl Message for Wake {
    type Result = ();
}

/// Where a client tells how messages end. The publisher is woken once for many.
#[derive(Clone)]
pub struct Ends(Arc<Told>);

struct Told {
    list: Mutex<Vec<(Ticket, End)>>,
    woken: AtomicBool,
    publisher: Recipient<Wake>,
    failed: Box<dyn Fn(String) + Send + Sync>,
}

impl Ends {
    pub(super) fn new(
        publisher: Recipient<Wake>,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Told {
            list: Mutex::default(),
            woken: AtomicBool::new(false),
            publisher,
            failed: Box::new(failed),
        }))
    }

    /// A message has ended.
    pub fn tell(&self, ticket: Ticket, end: End) {
        self.0
            .list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((ticket, end));
        // At most one is in the mailbox.
        if !self.0.woken.swap(true, Ordering::AcqRel) {
            self.0.publisher.do_send(Wake);
        }
    }

    /// The client has failed for good.
    pub fn client_failed(&self, reason: String) {
        (self.0.failed)(reason);
    }

    /// What has ended since the last call.
    pub(super) fn take(&self) -> Vec<(Ticket, End)> {
        // Before the list is taken: what comes after wakes anew.
        self.0.woken.store(false, Ordering::Release);
        std::mem::take(&mut self.0.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
