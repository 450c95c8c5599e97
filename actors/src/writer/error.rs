//! Why there is no session with PostgreSQL, and how its errors are told.

use std::error::Error as _;

use thiserror::Error;

use crate::tls::TlsError;

/// Why there is no session, or why it has ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The database or the connection to it.
    #[error("{}", plain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The certificates for it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The schema is of a later version of this program.
    #[error(
        "the database's schema has version {found}, this program knows {known}: use a newer sitewatch-node"
    )]
    NewerSchema {
        /// What the database says.
        found: i32,
        /// What this program knows.
        known: i32,
    },
    /// There is no URL to connect to.
    #[error("no PostgreSQL: set postgres.url or POSTGRES_URL")]
    NoUrl,
}

impl SessionError {
    /// Whether trying again can't help.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::NewerSchema { .. } | Self::NoUrl)
    }
}

/// The library's message with its cause, which alone says what the server said.
pub(super) fn plain(error: &tokio_postgres::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
