//! What the consumer hands to the writer, and what it hears back.

use std::{hash::Hasher as _, sync::Arc};

use siphasher::sip::SipHasher13;

use tokio::{sync::oneshot, time::Instant};

use super::{Detail, ErrorKind, Outcome, Revision, Slot};

/// Who was checked from where. Shared by all rows that say the same.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The site's name.
    pub site: String,
    /// The site's URL.
    pub url: String,
    /// Where it was checked from.
    pub location: String,
}

impl Origin {
    /// What remembering it takes, in bytes: its texts, and about as much as maps need for each.
    pub(crate) fn weight(&self) -> usize {
        2 * self.site.len() + self.url.len() + self.location.len() + 200
    }
}

/// One check as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who was checked from where.
    pub origin: Arc<Origin>,
    /// When the check was due.
    pub slot: Slot,
    /// How it ended.
    pub outcome: Outcome,
    /// What was wrong.
    pub error: Option<ErrorKind>,
    /// HTTP status, 0 to 999.
    pub status: Option<i16>,
    /// Total time in microseconds.
    pub total_us: Option<i32>,
    /// Time to the first byte of the answer, as the number of its [`bucket`](super::bucket()).
    pub ttfb_bucket: Option<i16>,
    /// Actual start minus slot, in milliseconds.
    pub lateness_ms: i32,
    /// What is stored beside the row, if there is more to say than it has columns.
    pub detail: Option<Box<Detail>>,
    /// The message it came from: partition and offset.
    pub source: (i32, i64),
    /// The message itself, kept so that a row which the database refuses can become a dead letter as it came.
    pub payload: Box<[u8]>,
}

/// What a message holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A check.
    Row(Row),
    /// Which slots of a site are due.
    Revision(Revision),
}

impl Content {
    /// What it takes in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Row(row) => row.payload.len() + row.detail.as_ref().map_or(0, |it| it.weight()),
            Self::Revision(revision) => 2 * revision.payload.len(),
        }
    }
}

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    /// Not a JSON object, or a field is missing or of the wrong type.
    Malformed,
    /// A version or a kind that this program does not know.
    UnknownVersion,
    /// A slot too far in the past or in the future.
    AbsurdSlot,
    /// A text or number that does not fit its column.
    DoesNotFit,
    /// The database refused it.
    Refused,
}

impl DeadReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Malformed,
        Self::UnknownVersion,
        Self::AbsurdSlot,
        Self::DoesNotFit,
        Self::Refused,
    ];

    /// The word in the column `dead_letter.reason` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownVersion => "unknown_version",
            Self::AbsurdSlot => "absurd_slot",
            Self::DoesNotFit => "does_not_fit",
            Self::Refused => "refused",
        }
    }
}

/// A message that can't be stored, with the reason.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Partition and offset.
    pub source: (i32, i64),
    /// The class of reason.
    pub reason: DeadReason,
    /// The reason in words.
    pub detail: String,
    /// The message's key, as it came.
    pub key: Option<Vec<u8>>,
    /// The message, as it came.
    pub payload: Vec<u8>,
}

/// A topic, as the reader knows it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// The id of the cluster that has it, once a broker has said it.
    pub cluster: Option<Arc<str>>,
}

impl DeadLetter {
    /// What it takes in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let key = self.key.as_ref().map_or(0, Vec::len);
        self.payload.len() + self.detail.len() + key
    }
}

/// A run of offsets of one partition that a batch covers: `from` inclusive, `next` exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// Which partition.
    pub partition: i32,
    /// The offset that the database must hold as `next` for the batch to count.
    pub from: i64,
    /// The offset that follows the batch.
    pub next: i64,
    /// Offsets inside the run that Kafka did not hold, each as first inclusive and end exclusive.
    pub absent: Vec<(i64, i64)>,
    /// The [`fingerprint`] of its last message.
    pub last: Option<i64>,
}

/// Returns a short name of a message, by which it is known again: an offset alone may be that of another topic of the same name.
pub fn fingerprint(payload: &[u8]) -> i64 {
    let mut hasher = SipHasher13::new();
    hasher.write(payload);
    hasher.finish().cast_signed()
}

/// What the consumer read, to be stored in one transaction.
pub struct Batch {
    /// The topic of all ranges.
    pub topic: Arc<str>,
    /// The cluster that has it, as far as that is known.
    pub cluster: Option<Arc<str>>,
    /// One range a partition.
    pub ranges: Vec<OffsetRange>,
    /// Checks.
    pub rows: Vec<Row>,
    /// Which slots of sites are due.
    pub revisions: Vec<Revision>,
    /// What can't be stored.
    pub dead: Vec<DeadLetter>,
    /// Dead letters that this batch replays, by number: they go in its transaction. None in a batch of a consumer.
    pub letters: Vec<i64>,
    /// Where the consumer hears of the batch's end.
    pub receipt: Receipt,
}

impl Batch {
    /// Whether it replays dead letters, beside what is read from Kafka meanwhile.
    pub fn is_replay(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Who was checked from where: of each row and each revision, with the partition that is read, if one is.
    pub fn origins(&self) -> impl Iterator<Item = (&Arc<Origin>, Option<i32>)> {
        let of_rows = self.rows.iter().map(|row| (&row.origin, row.source));
        let of_revisions = self.revisions.iter().map(|it| (&it.origin, it.source));
        let is_read = !self.is_replay();
        of_rows
            .chain(of_revisions)
            .map(move |(origin, (partition, _))| (origin, is_read.then_some(partition)))
    }
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEnd {
    /// Committed: every row is in the database.
    Stored,
    /// Not stored: another consumer owns a partition by now, so the buffers of this one are stale.
    Fenced,
    /// Not stored, or not known to be: the writer failed with the batch in its hands.
    Lost,
}

/// The promise to tell the consumer how its batch ended. Dropped without a word, as in a panic, it tells `Lost`.
pub struct Receipt(Option<oneshot::Sender<BatchEnd>>);

impl Receipt {
    /// A receipt and where its word is heard.
    pub fn new() -> (Self, oneshot::Receiver<BatchEnd>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Tells the consumer.
    pub fn settle(mut self, end: BatchEnd) {
        if let Some(sender) = self.0.take() {
            // A consumer that is gone has no buffers to forget.
            let _ = sender.send(end);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(BatchEnd::Lost);
        }
    }
}

/// Asks the writer where to read on, told what the broker holds.
pub struct Locate {
    /// The topic.
    pub topic: Arc<str>,
    /// The cluster that was asked, as far as that is known.
    pub cluster: Option<Arc<str>>,
    /// What the broker holds of each partition.
    pub held: Vec<Watermarks>,
    /// Partitions that are another topic's than the stored ones: each with an offset at which the broker holds another message.
    pub others: Vec<(i32, i64)>,
    /// When the broker was asked: the answer may wait long for PostgreSQL, and others go on storing meanwhile.
    pub asked: Instant,
    /// Where the answer goes: for each partition where to read on, unless that is in doubt.
    pub answer: oneshot::Sender<Vec<Position>>,
}

/// Where to read on in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which partition.
    pub partition: i32,
    /// The offset to read next.
    pub next: i64,
    /// The [`fingerprint`] of the message before it, which was stored last, if that is known.
    pub last: Option<i64>,
    /// Whether what was stored came from another cluster than the one that was asked.
    pub is_moved: bool,
}

/// What the broker holds of a partition: `low` inclusive, `high` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Which partition.
    pub partition: i32,
    /// The oldest offset held.
    pub low: i64,
    /// The offset that the next message will get.
    pub high: i64,
}

/// What the consumer asks of the writer.
pub enum WriterOrder {
    /// Store this.
    Store(Batch),
    /// Say where to read on.
    Locate(Locate),
}
