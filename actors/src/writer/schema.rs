//! Brings the database to this program's schema.

use slog::{Logger, info};
use tokio_postgres::Client;

use super::error::SessionError;

/// The schema that this program writes.
pub(super) const VERSION: i32 = 3;

/// The advisory lock under which the schema is applied.
const LOCK: i64 = 0x7369_7465_0001;

/// Applies `schema.sql` if the database is older than it, in one transaction, one program at a time. A newer schema is
/// refused and left as it is.
pub(super) async fn apply(
    client: &mut Client,
    schema: &str,
    log: &Logger,
) -> Result<(), SessionError> {
    let transaction = client.transaction().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let known: bool = transaction
        .query_one("SELECT to_regclass('schema_version') IS NOT NULL", &[])
        .await?
        .get(0);
    let found: Option<i32> = if known {
        transaction
            .query_one("SELECT max(version) FROM schema_version", &[])
            .await?
            .get(0)
    } else {
        None
    };
    match found {
        Some(found) if found > VERSION => {
            return Err(SessionError::NewerSchema {
                found,
                known: VERSION,
            });
        }
        Some(VERSION) => {}
        _ => {
            transaction.batch_execute(schema).await?;
            info!(log, "schema applied"; "version" => VERSION);
        }
    }
    transaction.commit().await?;
    Ok(())
}
