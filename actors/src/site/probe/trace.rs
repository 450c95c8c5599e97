//! What is noted while an attempt goes on: readable also when it is cut off by its timeout.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    time::Instant,
};

use crate::model::{Phases, Reached};

use super::super::attempt::TlsFacts;

/// The most bytes that the head of an answer may have: more than any honest server sends (curl's limit for one line is
/// 100 kB, nginx sends at most 4 to 8 kB).
pub(super) const LARGEST_HEAD: usize = 32 * 1024;

/// How the body of an answer of HTTP/1 ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has none.
    Empty,
    /// By its length or its last chunk: sooner is too soon.
    Told,
    /// With the connection.
    UntilClosed,
}

/// What is noted while an attempt goes on. One phase follows on the other, so that together they are the whole time.
#[derive(Debug)]
pub(super) struct Trace {
    reached: Cell<Reached>,
    /// When the current phase began.
    since: Cell<Instant>,
    phases: Cell<Phases>,
    pub(super) remote_ip: Cell<Option<IpAddr>>,
    pub(super) tls: RefCell<Option<Rc<TlsFacts>>>,
    pub(super) refused: RefCell<Vec<String>>,
    /// Whether bytes of the connection itself come before those of the answer, as in HTTP/2.
    framed: Cell<bool>,
    /// Whether the request is one to which the answer has no body (HEAD).
    pub(super) to_head: Cell<bool>,
    /// How the body of the answer ends.
    pub(super) framing: Cell<Framing>,
    /// The version of HTTP/1 of the answer.
    pub(super) version: Cell<Option<&'static str>>,
    /// How an answer begins that is none of HTTP/1.
    pub(super) not_http: RefCell<Option<String>>,
    /// Whether the other side has closed the connection.
    pub(super) ended: Cell<bool>,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            reached: Cell::new(Reached::Dns),
            since: Cell::new(Instant::now()),
            phases: Cell::default(),
            remote_ip: Cell::default(),
            tls: RefCell::default(),
            refused: RefCell::default(),
            framed: Cell::new(false),
            to_head: Cell::new(false),
            framing: Cell::new(Framing::Empty),
            version: Cell::new(None),
            not_http: RefCell::default(),
            ended: Cell::new(false),
        }
    }

    /// Bytes of the connection itself come before those of the answer, whose reader bounds its head.
    pub(super) fn framed(&self) {
        self.framed.set(true);
    }

    /// Whether [`Trace::framed`] was told.
    pub(super) fn is_framed(&self) -> bool {
        self.framed.get()
    }

    /// Another check on a connection that was kept: what is known of the connection stays.
    pub(super) fn begin_again(&self) {
        self.phases.set(Phases::default());
        self.framed.set(false);
        self.framing.set(Framing::Empty);
        self.version.set(None);
        self.ended.set(false);
        self.skip_to(Reached::Ttfb);
    }

    pub(super) fn reached(&self) -> Reached {
        self.reached.get()
    }

    /// Ends the current phase and begins `next`.
    pub(super) fn enter(&self, next: Reached) {
        let now = Instant::now();
        self.note(now);
        self.reached.set(next);
        self.since.set(now);
    }

    /// Takes over what `other` knows of the connection.
    pub(super) fn on_the_connection_of(&self, other: &Self) {
        self.remote_ip.set(other.remote_ip.get());
        self.tls.replace(other.tls.borrow().clone());
    }

    /// Begins `next` without a time for what comes before it: it was not needed.
    pub(super) fn skip_to(&self, next: Reached) {
        self.reached.set(next);
        self.since.set(Instant::now());
    }

    /// The first byte of the answer has come, if it is the first.
    pub(super) fn first_byte(&self) {
        if self.reached.get() == Reached::Ttfb && !self.framed.get() {
            self.enter(Reached::Body);
        }
    }

    /// Ends the current phase and gives all of this hop.
    pub(super) fn close(&self) -> Phases {
        self.note(Instant::now());
        self.phases.get()
    }

    fn note(&self, now: Instant) {
        let took = micros(now - self.since.get());
        let mut phases = self.phases.get();
        let phase = match self.reached.get() {
            Reached::Dns => &mut phases.dns_us,
            Reached::Connect => &mut phases.connect_us,
            Reached::Tls => &mut phases.tls_us,
            Reached::Ttfb => &mut phases.ttfb_us,
            Reached::Body => &mut phases.body_us,
            Reached::End => return,
        };
        *phase = Some(took);
        self.phases.set(phases);
    }
}

/// Microseconds, as the fields of [`Phases`] have them.
pub(in crate::site) fn micros(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
