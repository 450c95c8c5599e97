//! What goes to Kafka next, and how much may be on its way. Pure.
//!
//! Results are sent in two lanes. A fresh one goes straight to Kafka as soon as it is durable, if there is room. If there is
//! none, as in an outage, it is left in the spool and belongs to the backlog, which is read from the disk and sent, oldest
//! first, beside the fresh ones. The backlog may use only a part of the room: fresh results do not stand in a queue behind it.
//! Nor may it be sent faster than it is stored, so that they do not stand in a queue in Kafka either: see `throttle`.

use std::collections::VecDeque;

use super::spool::{Id, Most};

/// How much may be on its way to Kafka at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The most messages.
    pub(super) messages: usize,
    /// The most bytes of payload.
    pub(super) bytes: usize,
}

impl Window {
    fn part(self, of: usize) -> Self {
        Self {
            messages: (self.messages / of).max(1),
            bytes: (self.bytes / of).max(1),
        }
    }
}

/// The backlog may use one part in so many of the window.
pub(super) const BACKLOG_PART: usize = 4;

/// Once the window has been full, the fresh lane opens again when so much of it is free: one part in so many.
const OPEN_PART: usize = 2;

/// What is read of the backlog at once, in bytes: few enough that fresh results do not wait for it.
const READ: usize = 1 << 20;

/// The lane in which a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Fresh,
    Backlog,
}

/// What is on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    messages: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn take(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn fits(self, window: Window) -> bool {
        self.messages < window.messages && self.bytes < window.bytes
    }
}

/// Results of the spool from `from` on, `until` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Id,
    pub(super) until: Id,
}

/// What waits in the spool to be sent, and what is on its way.
#[derive(Debug)]
pub(super) struct Outbox {
    window: Window,
    all: Load,
    of_backlog: Load,
    /// Not sent yet, oldest first.
    backlog: VecDeque<Span>,
    /// Whether fresh results go straight to Kafka.
    open: bool,
    /// How many messages of the backlog may still be sent; as many as there is room for, if that is not said.
    allowed: Option<u64>,
}

impl Outbox {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            all: Load::default(),
            of_backlog: Load::default(),
            backlog: VecDeque::new(),
            open: true,
            allowed: None,
        }
    }

    /// So many messages of the backlog may be sent now, those included that are on their way; `None`: all.
    pub(super) fn allow(&mut self, messages: Option<u64>) {
        let flying = self.of_backlog.messages as u64;
        self.allowed = messages.map(|messages| messages.saturating_sub(flying));
    }

    pub(super) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Whether a fresh result may be sent.
    pub(super) fn takes_fresh(&mut self) -> bool {
        if self.open {
            self.open = self.all.fits(self.window);
        } else {
            self.open = self.all.fits(self.window.part(OPEN_PART));
        }
        self.open
    }

    /// A fresh result was not sent: it waits in the spool.
    pub(super) fn leave(&mut self, id: Id) {
        self.open = false;
        let until = id.next();
        match self.backlog.back_mut() {
            // The one before it waits too: no other lies between them.
            Some(last) if last.until == id || is_next_segment(last.until, id) => last.until = until,
            _ => self.backlog.push_back(Span { from: id, until }),
        }
    }

    /// A message could not be delivered and is to be sent again. When a client goes that may be all of a window, in any
    /// order: spans grow over what lies between, of which the delivered ones are not read again and the others are absorbed.
    pub(super) fn again(&mut self, id: Id) {
        let after = self.backlog.partition_point(|span| span.from <= id);
        match (after.checked_sub(1), after) {
            (Some(before), _) => {
                let span = &mut self.backlog[before];
                span.until = span.until.max(id.next());
            }
            (None, first) if first < self.backlog.len() => self.backlog[first].from = id,
            (None, _) => self.backlog.push_back(Span {
                from: id,
                until: id.next(),
            }),
        }
    }

    /// All that is in the spool is to be sent: at a start, when nothing is known of what was on its way.
    pub(super) fn start_over(&mut self, all: Option<Span>) {
        self.backlog = all.into_iter().collect();
    }

    /// What is to be read next, and at most how much of it; nothing where there is no backlog or no room.
    pub(super) fn wants(&self) -> Option<(Span, Most)> {
        let part = self.window.part(BACKLOG_PART);
        let room =
            self.of_backlog.fits(part) && self.all.fits(self.window) && self.allowed != Some(0);
        let most = Most {
            records: usize::try_from(self.allowed.unwrap_or(u64::MAX)).unwrap_or(usize::MAX),
            bytes: READ
                .min(part.bytes.saturating_sub(self.of_backlog.bytes))
                .max(1),
        };
        self.backlog
            .front()
            .filter(|_| room)
            .map(|span| (*span, most))
    }

    /// `span` was read as far as `next`, to its end if there is none.
    pub(super) fn was_read(&mut self, span: Span, next: Option<Id>) {
        match self.backlog.front_mut() {
            Some(first) if first.from == span.from => match next {
                Some(next) if next < first.until => first.from = next,
                // What was left meanwhile goes on where the span ended when it was read.
                _ if first.until > span.until => first.from = span.until,
                _ => drop(self.backlog.pop_front()),
            },
            // Something before it was put there meanwhile: what is read twice is sent twice, and absorbed.
            _ => {}
        }
    }

    pub(super) fn sent(&mut self, lane: Lane, bytes: usize) {
        self.all.add(bytes);
        if lane == Lane::Backlog {
            self.of_backlog.add(bytes);
            self.allowed = self.allowed.map(|allowed| allowed.saturating_sub(1));
        }
    }

    /// Kafka has answered, or the client has given up.
    pub(super) fn ended(&mut self, lane: Lane, bytes: usize) {
        self.all.take(bytes);
        if lane == Lane::Backlog {
            self.of_backlog.take(bytes);
        }
    }

    /// Whether nothing waits and nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.backlog.is_empty() && self.all.messages == 0
    }
}

/// Whether nothing can lie between the end of a span and `id`: the first of a later segment follows the end of an earlier.
fn is_next_segment(until: Id, id: Id) -> bool {
    id.segment == until.segment + 1 && id.index == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> Id {
        Id {
            segment: u64::from(n / 10),
            index: n % 10,
        }
    }

    const WINDOW: Window = Window {
        messages: 8,
        bytes: 800,
    };

    #[test]
    fn fresh_results_go_straight_to_kafka_until_there_is_no_room() {
        let mut outbox = Outbox::new(WINDOW);
        for _ in 0..8 {
            assert!(outbox.takes_fresh());
            outbox.sent(Lane::Fresh, 10);
        }
        assert!(!outbox.takes_fresh());
        for n in 8..25 {
            outbox.leave(id(n));
        }
        assert_eq!(outbox.wants(), None, "no room for the backlog either");
        assert_eq!(
            outbox.backlog.len(),
            1,
            "one span, over the ends of segments"
        );
        for _ in 0..5 {
            outbox.ended(Lane::Fresh, 10);
        }
        assert!(outbox.takes_fresh(), "half of the window is free again");
        let (span, _) = outbox.wants().unwrap();
        assert_eq!((span.from, span.until), (id(8), id(24).next()));
    }

    #[test]
    fn no_more_of_the_backlog_is_sent_than_is_allowed() {
        let mut outbox = Outbox::new(WINDOW);
        let all = Span {
            from: id(0),
            until: id(100),
        };
        outbox.start_over(Some(all));
        outbox.allow(Some(2));
        assert_eq!(outbox.wants().unwrap().1.records, 2);
        outbox.sent(Lane::Backlog, 10);
        outbox.sent(Lane::Fresh, 10);
        assert_eq!(outbox.wants().unwrap().1.records, 1);
        outbox.sent(Lane::Backlog, 10);
        assert_eq!(outbox.wants(), None);
        outbox.allow(Some(2));
        assert_eq!(outbox.wants(), None, "two are on their way");
        outbox.ended(Lane::Backlog, 10);
        outbox.ended(Lane::Backlog, 10);
        outbox.allow(Some(2));
        assert_eq!(outbox.wants().unwrap().1.records, 2);
        outbox.allow(None);
        assert_eq!(outbox.wants().unwrap().1.records, usize::MAX);
    }

    #[test]
    fn the_backlog_leaves_room_for_fresh_results() {
        let mut outbox = Outbox::new(WINDOW);
        outbox.start_over(Some(Span {
            from: id(0),
            until: id(100),
        }));
        let mut sent = 0;
        while outbox.wants().is_some() {
            outbox.sent(Lane::Backlog, 10);
            sent += 1;
        }
        assert_eq!(sent, WINDOW.messages / BACKLOG_PART);
        assert!(outbox.takes_fresh());
    }

    #[test]
    fn what_a_client_leaves_behind_is_one_span() {
        let mut outbox = Outbox::new(WINDOW);
        for n in [5, 3, 9, 4, 8, 7, 30, 20] {
            outbox.again(id(n));
        }
        assert_eq!(
            outbox.backlog,
            [Span {
                from: id(3),
                until: id(30).next()
            }]
        );
    }

    #[test]
    fn what_is_left_while_a_span_is_read_is_read_next() {
        let mut outbox = Outbox::new(WINDOW);
        outbox.leave(id(0));
        let (span, _) = outbox.wants().unwrap();
        outbox.leave(id(1));
        outbox.was_read(span, None);
        assert_eq!(outbox.wants().unwrap().0.from, id(1));
        outbox.was_read(outbox.wants().unwrap().0, None);
        assert!(outbox.is_empty());
    }

    proptest! {
        /// Whatever happens in whatever order, each result is sent or still waits.
        #[test]
        fn no_result_is_forgotten(steps in prop::collection::vec((0u8..5, 1usize..4), 1..200)) {
            let mut outbox = Outbox::new(WINDOW);
            let (mut next, mut sent) = (0u32, std::collections::BTreeSet::new());
            let mut flying: Vec<(u32, Lane)> = Vec::new();
            let number = |id: Id| u32::try_from(id.segment).unwrap() * 10 + id.index;
            let normal = |id: Id| if id.index == 10 { Id { segment: id.segment + 1, index: 0 } } else { id };
            for (what, many) in steps {
                match what {
                    0 | 1 => for _ in 0..many {
                        if outbox.takes_fresh() {
                            outbox.sent(Lane::Fresh, 10);
                            sent.insert(next);
                            flying.push((next, Lane::Fresh));
                        } else {
                            outbox.leave(id(next));
                        }
                        next += 1;
                    },
                    2 => if let Some((span, _)) = outbox.wants() {
                        let (from, until) = (number(normal(span.from)), number(normal(span.until)));
                        let read = (from..until).take(many);
                        for n in read.clone() {
                            outbox.sent(Lane::Backlog, 10);
                            sent.insert(n);
                            flying.push((n, Lane::Backlog));
                        }
                        let end = from + u32::try_from(read.len()).unwrap();
                        outbox.was_read(span, (end < until).then(|| id(end)));
                    },
                    3 => for (_, lane) in flying.drain(..many.min(flying.len())) {
                        outbox.ended(lane, 10);
                    },
                    _ => if let Some((n, lane)) = flying.pop() {
                        outbox.ended(lane, 10);
                        outbox.again(id(n));
                        sent.remove(&n);
                    },
                }
                prop_assert!(outbox.all.messages <= WINDOW.messages + 3);
            }
            let mut waiting = std::collections::BTreeSet::new();
            for span in &outbox.backlog {
                waiting.extend(number(normal(span.from))..number(normal(span.until)));
            }
            for n in 0..next {
                prop_assert!(sent.contains(&n) || waiting.contains(&n), "{n} is forgotten");
            }
        }
    }
}
