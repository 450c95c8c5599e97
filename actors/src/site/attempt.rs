//! What one HTTP exchange brought, before anybody judges it.

use std::net::IpAddr;

use crate::model::{ErrorKind, Phases};

/// What went wrong with an exchange, in a word and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: ErrorKind,
    /// The words.
    pub detail: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

/// What one exchange (redirects included) brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempt {
    /// Why there is no complete answer, if there is none.
    pub failure: Option<Failure>,
    /// The status, if an answer came.
    pub status: Option<u16>,
    /// The HTTP version of the answer.
    pub http_version: Option<&'static str>,
    /// The address connected to last.
    pub remote_ip: Option<IpAddr>,
    /// How long each part took; those of the last hop, but the total is that of all.
    pub phases: Phases,
    /// Bytes of body read.
    pub body_bytes: Option<u64>,
    /// Whether the pattern was found, if there is one and the body was read.
    pub body_match: Option<bool>,
    /// Redirects followed.
    pub redirects: u8,
}
