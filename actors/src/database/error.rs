//! Why there is no session with PostgreSQL, and how its errors are told.

use std::{error::Error as _, time::Duration};

use thiserror::Error;

use super::{
    expected::Difference,
    server::Unfit,
    sqlstate::{Remedy, remedy_of},
};
use crate::{model::printable, tls::TlsError};

/// An error of the database, with what it calls for.
#[derive(Clone, Debug, Error)]
#[error("{told}")]
pub struct StoreError {
    /// What to do about it.
    pub remedy: Remedy,
    /// What a person is told.
    pub told: String,
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self {
            remedy: remedy_of(&error),
            told: plain(&error),
        }
    }
}

/// Why there is no session, or why it has ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The database or the connection to it.
    #[error("{}", plain(.0))]
    Database(#[from] tokio_postgres::Error),
    /// What the database said to a batch or a question.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates for it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A server that lets connect and then says nothing.
    #[error("takes connections, but has not answered within {0:?}")]
    Silent(Duration),
    /// A server that answers and can't be used.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A server for reading only.
    #[error("does not allow writes: {0}; one that takes writes is looked for")]
    ReadOnly(&'static str),
    /// A pooler that serves a connection by several sessions.
    #[error(
        "a pooler gives each transaction another session of the server (as PgBouncer with pool_mode = transaction or statement), \
         and this program needs one of its own: set pool_mode = session for this user or database, or name PostgreSQL itself in \
         postgres.url"
    )]
    Pooled,
    /// A parameter that the role or database sets and that this user may not change.
    #[error(
        "the parameter {name} is {}, {right} is needed, and this user may not change it: ALTER ROLE … RESET {name} as a \
         superuser, or the same of the database",
        printable(.found), name = printable(.name), right = printable(.right)
    )]
    Parameter {
        /// Its name.
        name: String,
        /// What the session begins with.
        found: String,
        /// What this program relies on.
        right: String,
    },
    /// No schema in which the tables could be.
    #[error(
        "search_path is {0:?}, in which there is no schema that this user may use: create it or grant USAGE on it, or name another \
         one by ALTER ROLE … SET search_path or ?options=-csearch_path%3DNAME in postgres.url"
    )]
    NoSchema(String),
    /// None of the servers could be used.
    #[error("{}", joined(.0, |(name, reason)| format!("{name}: {reason}")))]
    NoServer(Vec<(String, SessionError)>),
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
    /// The schema has to be applied, but the user of `postgres.url` has no right to.
    #[error(
        "the database's schema {}, and this user may not change it ({reason}): run `sitewatch-node migrate` as the owner of \
         the tables, then scripts/roles.sql", outdated(.found, .known, .drift)
    )]
    MayNotMigrate {
        /// What the database says.
        found: Option<i32>,
        /// What this program knows.
        known: i32,
        /// What differs though the version is right.
        drift: Vec<Difference>,
        /// What the database answered.
        reason: String,
    },
    /// The schema has to be applied, and only the command `migrate` may.
    #[error(
        "the database's schema {}, and postgres.migrate is never: run `sitewatch-node migrate` as the owner of the tables, then \
         scripts/roles.sql", outdated(.found, .known, .drift)
    )]
    Outdated {
        /// What the database says.
        found: Option<i32>,
        /// What this program knows.
        known: i32,
        /// What differs though the version is right.
        drift: Vec<Difference>,
    },
    /// Somebody has changed the tables so that this program can't store in them.
    #[error("the database is not as schema.sql says: {}", joined(.0, Difference::to_string))]
    Drift(Vec<Difference>),
    /// There is no URL to connect to.
    #[error("no PostgreSQL: set postgres.url or POSTGRES_URL")]
    NoUrl,
}

impl SessionError {
    /// Whether nothing but a person can help, who changes the settings, the database or what is between.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::NoServer(refusals) => {
                refusals.iter().all(|(_, refusal)| refusal.needs_a_person())
            }
            Self::Unfit(_)
            | Self::Pooled
            | Self::Parameter { .. }
            | Self::NoSchema(_)
            | Self::MayNotMigrate { .. }
            | Self::Outdated { .. } => true,
            _ => self.is_final(),
        }
    }

    /// Whether trying again can't help.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::NewerSchema { .. } | Self::Drift(_) | Self::NoUrl
        )
    }
}

fn joined<T>(all: &[T], told: impl Fn(&T) -> String) -> String {
    all.iter().map(told).collect::<Vec<_>>().join("; ")
}

fn outdated(found: &Option<i32>, known: &i32, drift: &[Difference]) -> String {
    match found {
        None => "is not there".to_owned(),
        Some(found) if found < known => {
            format!("has version {found}, this program needs {known}")
        }
        Some(_) => format!("has been changed: {}", joined(drift, Difference::to_string)),
    }
}

/// Returns the library's message with its cause, which alone holds what the server said, and what would mend it. The server's
/// text is made [`printable`]: whoever answers at that address may write anything.
pub(super) fn plain(error: &tokio_postgres::Error) -> String {
    let told = match error.as_db_error() {
        Some(told) => {
            let detail = told.detail().map(|detail| format!("; {detail}"));
            format!(
                "{}{} (SQLSTATE {})",
                told.message(),
                detail.unwrap_or_default(),
                told.code().code()
            )
        }
        None => error
            .source()
            .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
    };
    let told = printable(&told);
    let advice = match error.code() {
        Some(state) => advice(state.code()),
        None => FOREIGN.iter().any(|sign| told.contains(sign)).then_some(
            "what answers there does not speak PostgreSQL's protocol: see host and port of postgres.url",
        ),
    };
    match advice {
        Some(advice) => format!("{told}: {advice}"),
        None => told,
    }
}

/// What tokio-postgres says of bytes that are no messages of PostgreSQL's protocol: it has no kind of error for them.
const FOREIGN: [&str; 4] = [
    "bytes remaining on stream",
    "unexpected message from server",
    "error parsing response from server",
    "invalid message length",
];

/// What a person can do about an error that does not say so itself.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" => "see user and password of postgres.url",
        "28000" => "see user, sslmode and sslcert of postgres.url, and the server's pg_hba.conf",
        "3D000" => "create it, or name another one in postgres.url",
        "42501" => {
            "the owner of the tables can grant it (scripts/roles.sql), or postgres.url names the wrong user"
        }
        "53300" => "raise max_connections of the server",
        "53100" => "make room on the server's disk",
        "55P03" => "another session holds the lock for longer than postgres.lock_timeout",
        "57014" => "it took longer than postgres.statement_timeout, or somebody cancelled it",
        "42P01" | "42703" | "42883" => {
            "the schema is of an earlier version, or somebody changed it: `sitewatch-node migrate` mends it"
        }
        "25P03" => "this process stood still for longer than postgres.idle_in_transaction_timeout",
        "25006" => "it is a standby, or was made read-only; one that takes writes is looked for",
        "XX001" | "XX002" => "the server's files are damaged, restore them",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio_postgres::{Config, NoTls};

    use super::*;

    /// The error of a server that refuses a connection with this message and this detail.
    async fn refusal(message: &str, detail: &str) -> tokio_postgres::Error {
        let fields = format!("SFATAL\0C28P01\0M{message}\0D{detail}\0\0");
        let length = u32::try_from(fields.len() + 4).unwrap();
        let answer = [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat();
        let (ours, mut servers) = tokio::io::duplex(4096);
        servers.write_all(&answer).await.unwrap();
        let connected = Config::new().user("u").connect_raw(ours, NoTls).await;
        connected.err().unwrap()
    }

    #[tokio::test]
    async fn a_server_cannot_steer_the_terminal_by_its_errors() {
        let error = refusal("\x1b[2Jgone\u{202e}", "line\nerror: forged").await;
        let told = plain(&error);
        assert_eq!(
            told,
            "\\u{1b}[2Jgone\\u{202e}; line\\u{a}error: forged (SQLSTATE 28P01): see user and password of postgres.url"
        );
        assert_eq!(StoreError::from(error).to_string(), told);
        let error = refusal("\x1b[2J", "").await;
        assert!(!SessionError::from(error).to_string().contains('\x1b'));
    }

    #[tokio::test]
    async fn what_is_not_postgresql_is_named() {
        for answer in [
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "\0\0\0\0\0\0\0\0",
        ] {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            theirs.write_all(answer.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let error = Config::new().user("u").connect_raw(ours, NoTls).await;
            let told = plain(&error.err().unwrap());
            assert!(
                told.contains("does not speak PostgreSQL's protocol"),
                "{answer:?}: {told}"
            );
        }
    }

    #[test]
    fn neither_can_it_by_names_and_values() {
        let hostile = "\x1b]0;title\x07\u{202e}".to_owned();
        let difference = Difference {
            place: format!("checks.{hostile}"),
            found: hostile.clone(),
            right: hostile.clone(),
        };
        let parameter = SessionError::Parameter {
            name: hostile.clone(),
            found: hostile.clone(),
            right: hostile.clone(),
        };
        for told in [
            SessionError::Drift(vec![difference]).to_string(),
            parameter.to_string(),
            SessionError::NoSchema(hostile.clone()).to_string(),
            SessionError::from(Unfit::Version {
                found: hostile.clone(),
            })
            .to_string(),
            SessionError::from(Unfit::Encoding { found: hostile }).to_string(),
        ] {
            assert_eq!(told, printable(&told));
            assert!(told.contains("title"), "{told}");
        }
    }
}
