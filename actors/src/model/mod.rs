//! The types that the components share: what a check is, what it found, and how it travels.

mod batch;
mod error_kind;
mod message;
mod outcome;
mod result;
mod slot;

pub use batch::{
    Batch, BatchEnd, DeadLetter, DeadReason, Locate, OffsetRange, Origin, Receipt, Row, Watermarks,
    WriterOrder,
};
pub use error_kind::ErrorKind;
pub use message::{Decoder, MESSAGE_VERSION};
pub use outcome::Outcome;
pub use result::{CheckResult, Phases};
pub use slot::Slot;
