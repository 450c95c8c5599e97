//! What a site hands to the publisher.

use std::{io, sync::Arc};

use super::{CheckResult, SiteRevision, Slot};

/// What a site hands to the publisher: one message to Kafka.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are checks; a box would cost each of them an allocation"
)]
pub enum Report {
    /// What a check found.
    Check(CheckResult),
    /// Which slots are due.
    Site(SiteRevision),
}

impl Report {
    /// The site's name: the message's key.
    pub fn site(&self) -> &Arc<str> {
        match self {
            Self::Check(result) => &result.site,
            Self::Site(revision) => &revision.site,
        }
    }

    /// The slot of a check, or the first one that is due.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Check(result) => result.slot,
            Self::Site(revision) => revision.since,
        }
    }

    /// What it takes in memory on its way, in bytes: the report itself and its payload, of which JSON may make six times as much.
    pub fn weight(&self) -> usize {
        let mut counted = Counted(0);
        // What can't be written has no payload.
        self.write(&mut counted).map_or(0, |()| 2 * counted.0)
    }

    /// The message's payload.
    ///
    /// # Errors
    /// None that is known: all fields can be written as JSON.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        // Enough for an ordinary message.
        let mut payload = Vec::with_capacity(512);
        self.write(&mut payload).map(|()| payload)
    }

    fn write(&self, to: impl io::Write) -> serde_json::Result<()> {
        match self {
            Self::Check(result) => serde_json::to_writer(to, result),
            Self::Site(revision) => serde_json::to_writer(to, revision),
        }
    }
}

/// Counts what is written.
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<CheckResult> for Report {
    fn from(result: CheckResult) -> Self {
        Self::Check(result)
    }
}

impl From<SiteRevision> for Report {
    fn from(revision: SiteRevision) -> Self {
        Self::Site(revision)
    }
}
