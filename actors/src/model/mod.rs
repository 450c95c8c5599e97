//! The types that the components share: what a check is, what it found, and how it travels.

mod about;
mod batch;
mod bucket;
mod detail;
mod envelope;
mod error_kind;
mod incident;
mod message;
mod outcome;
mod printable;
mod report;
mod result;
mod revision;
mod shape;
mod slot;
mod whole;
mod whose;

pub use about::About;
pub use batch::{
    Batch, BatchEnd, Content, DeadLetter, DeadReason, Locate, OffsetRange, Origin, Position,
    Receipt, Row, Topic, Watermarks, WriterOrder, fingerprint,
};
pub use bucket::bucket;
pub use detail::Detail;
pub use error_kind::ErrorKind;
pub use incident::{Incident, Judge, RuleBook, Rules, Verdict};
pub use message::{Decoder, MESSAGE_VERSION};
pub use outcome::Outcome;
pub use printable::{printable, printable_json};
pub use report::Report;
pub use result::{Capture, CheckResult, FailedAttempt, Fault, Hop, Phases, Reached};
pub use revision::{Due, Revision, SiteRevision};
pub use slot::Slot;
pub use whose::Whose;
