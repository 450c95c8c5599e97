//! Questions of people to the database: a connection that changes nothing, and why there may be no answer.

use sitewatch_config::PostgresSettings;
use slog::{Discard, Logger, o};
use thiserror::Error;
use tokio_postgres::Client;

use super::{
    error::SessionError,
    parameters::Purpose,
    schema,
    session::{connect, untold},
};
use crate::model::Slot;

/// Why a question to the database has no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// No session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The schema is not there, or of an earlier version.
    #[error(
        "the database has no table {0}: bring its schema up to date with `sitewatch-node migrate`"
    )]
    NoTable(&'static str),
    /// Nothing of that name.
    #[error("no {0} {1:?} has ever been announced or stored")]
    Unknown(&'static str, String),
    /// All of the range is dropped.
    #[error(
        "checks of before {0} were dropped (postgres.retention.raw): there are none in this time"
    )]
    Dropped(Slot),
}

impl From<tokio_postgres::Error> for AskError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Session(error.into())
    }
}

/// A connection to a database with these tables; its schema is left as it is.
///
/// # Errors
/// If PostgreSQL does not answer or refuses, or has not got one of the tables.
pub async fn ask(settings: &PostgresSettings, tables: &[&'static str]) -> Result<Client, AskError> {
    let (up, log) = (untold(), Logger::root(Discard, o!()));
    let (client, _) = connect(settings, Purpose::Question, &up, &log).await?;
    schema::usable(&client).await?;
    for table in tables {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        if !client.query_one(there, &[table]).await?.get::<_, bool>(0) {
            return Err(AskError::NoTable(table));
        }
    }
    Ok(client)
}
