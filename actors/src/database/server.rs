//! What a server must be to be used: recent enough, of UTF-8, and one that takes writes.

use thiserror::Error;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{error::SessionError, parameters::patiently};
use crate::model::printable;

/// The oldest version that has all that `schema.sql` needs (multiranges, `date_bin`, `CREATE OR REPLACE TRIGGER`), in the form of
/// `server_version_num`.
const OLDEST: i32 = 140_000;

/// Why a server or a database can't be used, whatever is tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// An earlier version than the oldest one that is supported.
    #[error(
        "the server is PostgreSQL {}, this program needs {} or later: upgrade the server",
        printable(.found),
        OLDEST / 10_000
    )]
    Version {
        /// What the server calls itself.
        found: String,
    },
    /// A database in which not every character can be stored.
    #[error(
        "the database has the encoding {}, this program needs UTF8: create one with `CREATE DATABASE … ENCODING 'UTF8' \
         TEMPLATE template0` and name it in postgres.url",
        printable(.found)
    )]
    Encoding {
        /// Its encoding.
        found: String,
    },
}

/// What a server says of itself.
struct Facts {
    version_number: i32,
    version: String,
    encoding: String,
}

impl Facts {
    fn unfit(self) -> Option<Unfit> {
        if self.version_number < OLDEST {
            let found = self.version;
            Some(Unfit::Version { found })
        } else if self.encoding != "UTF8" {
            let found = self.encoding;
            Some(Unfit::Encoding { found })
        } else {
            None
        }
    }
}

/// Refuses a server that can't be used at all.
pub(super) async fn refuse_unfit(client: &Client) -> Result<(), SessionError> {
    // SHOW looks no names up, so that no search_path misleads it.
    let shown = "SHOW server_version_num; SHOW server_version; SHOW server_encoding";
    let shown = values(&patiently(client, shown).await?);
    let [number, version, encoding] = <[String; 3]>::try_from(shown).unwrap_or_default();
    let facts = Facts {
        version_number: number.parse().unwrap_or_default(),
        version,
        encoding,
    };
    facts.unfit().map_or(Ok(()), |unfit| Err(unfit.into()))
}

/// Refuses a server that takes no writes. A role or database whose transactions are read-only by default does not make one: the
/// session's own setting takes its place. The server's own setting counts: it is how a full disk is protected.
pub(super) async fn refuse_read_only(client: &Client) -> Result<(), SessionError> {
    let row = client.query_one(READ_ONLY, &[]).await?;
    match (row.get(0), row.get(1)) {
        (true, _) => Err(SessionError::ReadOnly("it is a standby")),
        (_, true) => Err(SessionError::ReadOnly(
            "its configuration has default_transaction_read_only = on, as where its disk is full",
        )),
        _ => Ok(()),
    }
}

const READ_ONLY: &str = "
    SELECT pg_is_in_recovery(), setting = 'on' AND source NOT IN ('database', 'user', 'database user', 'client', 'session')
      FROM pg_settings WHERE name = 'default_transaction_read_only'";

/// The first column of each row of an answer.
pub(super) fn values(answer: &[SimpleQueryMessage]) -> Vec<String> {
    let first = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    answer.iter().filter_map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(version_number: i32, encoding: &str) -> Option<String> {
        let facts = Facts {
            version_number,
            version: "13.22 (Debian 13.22-1)".to_owned(),
            encoding: encoding.to_owned(),
        };
        facts.unfit().map(|unfit| unfit.to_string())
    }

    #[test]
    fn old_servers_and_other_encodings_are_named_with_what_would_be_right() {
        assert_eq!(unfit(140_000, "UTF8"), None);
        assert_eq!(unfit(180_001, "UTF8"), None);
        let old = "the server is PostgreSQL 13.22 (Debian 13.22-1), this program needs 14 or later: upgrade the server";
        assert_eq!(unfit(139_999, "UTF8").as_deref(), Some(old));
        assert_eq!(unfit(0, "UTF8").as_deref(), Some(old));
        for encoding in ["SQL_ASCII", "LATIN1"] {
            let told = unfit(150_000, encoding).unwrap();
            let found =
                format!("the database has the encoding {encoding}, this program needs UTF8");
            assert!(told.starts_with(&found), "{told}");
        }
    }
}
