//! The head of an answer, in either version of HTTP.

use super::{super::attempt::Failure, body::BodyReader, http1, http2, trace::Trace};

/// An answer whose body has not been read.
pub(super) enum Answer {
    One(http1::Answer),
    Two(http2::Answer),
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::One(answer) => answer.status(),
            Self::Two(answer) => answer.status(),
        }
    }

    pub(super) fn version(&self, trace: &Trace) -> &'static str {
        match self {
            Self::One(_) => trace.version.get().unwrap_or("1.1"),
            Self::Two(_) => "2",
        }
    }

    /// The first value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        match self {
            Self::One(answer) => answer.header(name),
            Self::Two(answer) => answer.header(name),
        }
    }

    /// All headers, their names in small letters.
    pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::One(answer) => answer.headers(),
            Self::Two(answer) => answer.headers(),
        }
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// If it does not end well, or the reader refuses it.
    pub(super) async fn read(self, reader: &mut BodyReader, trace: &Trace) -> Result<(), Failure> {
        match self {
            Self::One(answer) => answer.read(reader, trace).await,
            Self::Two(answer) => answer.read(reader).await,
        }
    }
}
