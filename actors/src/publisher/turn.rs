//! One turn at the disk: what is new is made durable, what Kafka has is let go, and some of the backlog is read. Blocks, and
//! so runs on a thread for such work.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sitewatch_config::WhenFull;

use super::{
    outbox::Span,
    set_aside::{self, REFUSED, SetAside},
    spool::{
        CommitError, Damage, Disk, Dropped, Entry, Id, Limits, Most, OpenError, Opened, Spool,
    },
};
use crate::health::Pulse;

/// Where the spool is between turns. It is absent before the first one, and after one that panicked: the next opens it anew.
pub(super) type Kept<D> = Arc<Mutex<Option<Spool<D>>>>;

/// A record to be made durable.
pub(super) struct Record {
    pub(super) key: Arc<str>,
    pub(super) payload: Arc<[u8]>,
}

/// What is to be done.
pub(super) struct Turn<O> {
    /// Opens the disk, if it must be.
    pub(super) open: O,
    pub(super) folder: PathBuf,
    pub(super) limits: Limits,
    pub(super) when_full: WhenFull,
    /// Whether to say what is in the spool to be sent.
    pub(super) start_over: bool,
    /// To be made durable, all or none.
    pub(super) records: Vec<Record>,
    /// Kafka has these.
    pub(super) delivered: Vec<Id>,
    /// Kafka will never take these: they are set aside.
    pub(super) refused: Vec<(Id, String)>,
    /// To be read, at most so much of it.
    pub(super) read: Option<(Span, Most)>,
    /// The time of day, in microseconds since 1970.
    pub(super) now: i64,
    /// Rests while the spool is opened: one of many gigabytes is read for minutes.
    pub(super) pulse: Pulse,
}

/// What has come of it.
pub(super) struct Done {
    /// What was found, if the spool was opened.
    pub(super) opened: Option<Opened>,
    /// All that is in the spool to be sent, if it was opened or that was asked.
    pub(super) all: Option<Option<Span>>,
    /// The numbers of the records that are durable now, in their order.
    pub(super) durable: Result<Vec<Id>, NotDurable>,
    /// What was dropped to make room.
    pub(super) dropped: Option<Dropped>,
    /// What was read, and where to go on.
    pub(super) read: Option<(Span, Vec<Entry>, Option<Id>)>,
    /// Why nothing could be read now.
    pub(super) unread: Option<String>,
    /// Damage that was met.
    pub(super) damage: Vec<Damage>,
    /// Changes that somebody else made to the folder.
    pub(super) notes: Vec<String>,
    /// The reason why results that Kafka has were not removed. The next turn tries again.
    pub(super) untidy: Option<String>,
    /// Those of the refused that could not be set aside yet.
    pub(super) refused: Vec<(Id, String)>,
    /// Results that wait for Kafka, and what the spool takes on the disk in bytes; absent if it could not be opened.
    pub(super) holds: Option<(u64, u64)>,
}

/// The reasons why records are not durable, or may not be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotDurable {
    /// The spool holds as much as it may.
    Full,
    /// The spool can't be used, and a fresh start would change nothing.
    Unusable(String),
    /// The disk does not do what it should.
    Disk(String),
    /// The folder is not this process's any more, for this reason. The next turn opens it anew, or meets who has it.
    Lost(String),
}

impl<D, O> Turn<O>
where
    D: Disk,
    O: FnOnce() -> Result<D, OpenError>,
{
    /// Does it.
    pub(super) fn perform(self, kept: &Kept<D>) -> Done {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut opened = None;
        // Taken out: what a panic leaves behind is not used again.
        let mut spool = match kept.take() {
            Some(mut spool) => {
                spool.set_limits(self.limits);
                spool
            }
            None => {
                self.pulse.rest();
                let (spool, found) = match open(self.open, self.limits) {
                    Ok(done) => done,
                    Err(problem) => return Done::without(problem),
                };
                self.pulse.beat();
                opened = Some(found);
                spool
            }
        };
        fail::fail_point!("publisher::turn");
        let mut refused = self.refused;
        let mut delivered = self.delivered;
        if opened.is_some() {
            // These are ids of the opening before: in this folder they may be those of other results.
            (refused, delivered) = (Vec::new(), Vec::new());
        }
        for id in delivered {
            spool.acknowledge(id);
        }
        let mut untidy = None;
        let set_aside = |(id, reason): &(Id, String)| {
            let end = set_aside(&mut spool, &self.folder, *id, reason);
            end.map_err(|problem| untidy = Some(problem)).ok()
        };
        let done = refused.iter().map_while(set_aside).count();
        refused.drain(..done);
        if let Err(problem) = spool.tidy() {
            untidy = Some(problem.to_string());
        }
        let all = (self.start_over || opened.is_some()).then(|| {
            spool.first().map(|from| Span {
                from,
                until: spool.end(),
            })
        });
        let (durable, dropped) = commit(&mut spool, &self.records, self.when_full, self.now);
        let read = self.read.map(|(span, most)| {
            let (entries, next) = spool.read(span.from, Some(span.until), most)?;
            Ok((span, entries, next))
        });
        let (read, unread) = match read.transpose() {
            Ok(read) => (read, None),
            Err(problem) => (None, Some(io::Error::to_string(&problem))),
        };
        let mut done = Done {
            opened,
            all,
            durable,
            dropped,
            read,
            unread,
            damage: spool.take_damage(),
            notes: spool.take_notes(),
            untidy,
            refused,
            holds: Some((spool.waiting(), spool.bytes())),
        };
        match spool.held() {
            Ok(()) => *kept = Some(spool),
            Err(problem) => done.durable = Err(NotDurable::Lost(problem.to_string())),
        }
        done
    }
}

impl Done {
    fn without(problem: NotDurable) -> Self {
        Self {
            opened: None,
            all: None,
            durable: Err(problem),
            dropped: None,
            read: None,
            unread: None,
            damage: Vec::new(),
            notes: Vec::new(),
            untidy: None,
            refused: Vec::new(),
            holds: None,
        }
    }
}

fn open<D: Disk>(
    disk: impl FnOnce() -> Result<D, OpenError>,
    limits: Limits,
) -> Result<(Spool<D>, Opened), NotDurable> {
    fail::fail_point!("publisher::open", |_| Err(NotDurable::Disk(
        "injected fault".to_owned()
    )));
    let disk = disk().map_err(|problem| {
        if problem.is_final() {
            NotDurable::Unusable(problem.to_string())
        } else {
            NotDurable::Disk(problem.to_string())
        }
    })?;
    Spool::open(disk, limits).map_err(|problem| match problem.kind() {
        // Another version of the program wrote it.
        io::ErrorKind::Unsupported => NotDurable::Unusable(problem.to_string()),
        _ => NotDurable::Disk(problem.to_string()),
    })
}

/// Makes all records durable, if need be after dropping the oldest ones.
fn commit<D: Disk>(
    spool: &mut Spool<D>,
    records: &[Record],
    when_full: WhenFull,
    now: i64,
) -> (Result<Vec<Id>, NotDurable>, Option<Dropped>) {
    if records.is_empty() {
        return (Ok(Vec::new()), None);
    }
    fail::fail_point!("publisher::commit", |what| {
        let end = match what.as_deref() {
            Some("full") => NotDurable::Full,
            _ => NotDurable::Disk("injected fault".to_owned()),
        };
        (Err(end), None)
    });
    let pairs: Vec<(&[u8], &[u8])> = records
        .iter()
        .map(|record| (record.key.as_bytes(), &*record.payload))
        .collect();
    let told = |end: Result<Vec<Id>, CommitError>| {
        end.map_err(|error| match error {
            CommitError::Full { .. } => NotDurable::Full,
            error @ CommitError::Io { .. } => NotDurable::Disk(error.to_string()),
        })
    };
    match spool.commit(&pairs, now) {
        Err(CommitError::Full { needed, room }) if when_full == WhenFull::DropOldest => {
            let dropped = spool.drop_oldest(needed.saturating_sub(room));
            (told(spool.commit(&pairs, now)), Some(dropped))
        }
        end => (told(end), None),
    }
}

/// Puts what Kafka will never take into a file beside the spool, as a line of JSON, and lets go of it.
fn set_aside<D: Disk>(
    spool: &mut Spool<D>,
    folder: &Path,
    id: Id,
    reason: &str,
) -> Result<(), String> {
    let (entries, _) = spool
        .read(id, Some(id.next()), Most::ALL)
        .map_err(|problem| problem.to_string())?;
    for entry in entries {
        let message = SetAside {
            reason: reason.to_owned(),
            site: String::from_utf8_lossy(&entry.key).into_owned(),
            message: String::from_utf8_lossy(&entry.payload).into_owned(),
        };
        set_aside::add(folder, &message)
            .map_err(|error| format!("{}: {error}", folder.join(REFUSED).display()))?;
    }
    spool.acknowledge(id);
    Ok(())
}
