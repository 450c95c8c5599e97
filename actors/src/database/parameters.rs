//! The session parameters that this program relies on. A role, a database or a URL may set any of them otherwise; what it sets of
//! others, such as memory, costs and places on disk, is the administrator's and stays.

use std::time::Duration;

use sitewatch_config::PostgresSettings;
use tokio_postgres::{Client, Error, SimpleQueryMessage, error::SqlState};

use super::{error::SessionError, server::values};

/// A peer that has vanished without a word is noticed within about this time.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// How often a statement of the beginning is tried again: until it is changed, the statement_timeout of a role counts, which may be
/// too short for any.
const TRIES: usize = 100;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A node's or a command's work, with the timeouts of the settings.
    Work,
    /// A question of a person, who waits for the answer and may stop waiting.
    Question,
}

/// What decides how texts and times are read and written, which rows are seen, and what a commit means.
const RELIED_ON: [(&str, &str); 23] = [
    ("array_nulls", "on"),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "warning"),
    ("datestyle", "ISO, MDY"),
    // The administrator's, unless it is the database's own, said in words: that is an error for a partitioned table.
    ("default_tablespace", ""),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    // Each row that comes twice is an error that must not end the session.
    ("exit_on_error", "off"),
    ("extra_float_digits", "1"),
    ("idle_session_timeout", "0"),
    ("intervalstyle", "postgres"),
    // Checks and warnings of a developer, which the functions of schema.sql are not written for.
    ("plpgsql.extra_errors", "none"),
    ("plpgsql.variable_conflict", "error"),
    ("quote_all_identifiers", "off"),
    // Other kinds can't be read with it, and ours has views.
    ("restrict_nonsystem_relation_kind", ""),
    // Without it neither triggers fire nor are references kept.
    ("session_replication_role", "origin"),
    ("standard_conforming_strings", "on"),
    // What is committed stays. How far standbys have to have it is the administrator's: see `DIFFERENT`.
    ("synchronous_commit", "on"),
    ("timezone", "UTC"),
    // A batch, an upgrade and a snapshot of `audit` take as long as they take; the timeouts below bound their parts.
    ("transaction_timeout", "0"),
    ("transform_null_equals", "off"),
];

/// Runs what comes before the parameters are set.
pub(super) async fn patiently(
    client: &Client,
    statement: &str,
) -> Result<Vec<SimpleQueryMessage>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match client.simple_query(statement).await {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) && tries < TRIES => {}
            end => return end,
        }
    }
}

/// Where a session looks for what has no schema in its name.
pub(super) struct Path {
    /// The search_path, as it was set.
    written: String,
    /// The schemas of it that there are.
    schemas: Vec<String>,
}

/// From here on statements may take their time, and names mean what PostgreSQL means by them. Gives the path that was in force.
pub(super) async fn leave_path(client: &Client) -> Result<Path, SessionError> {
    patiently(client, "SET statement_timeout = 0").await?;
    let written = values(&client.simple_query("SHOW search_path").await?).concat();
    let schemas = "SELECT pg_catalog.unnest(pg_catalog.current_schemas(false))";
    let schemas = values(&client.simple_query(schemas).await?);
    client
        .batch_execute("SET search_path = pg_catalog, pg_temp")
        .await?;
    Ok(Path { written, schemas })
}

/// Sets what differs, and nothing else: a server that is made read-only later makes this session read-only, too.
pub(super) async fn set(
    client: &Client,
    purpose: Purpose,
    settings: &PostgresSettings,
) -> Result<(), SessionError> {
    let wanted = wanted(purpose, settings);
    match client
        .batch_execute(&format!("{SET}{wanted}{DIFFERENT}"))
        .await
    {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(refused(client, &wanted).await?)
        }
        end => Ok(end?),
    }
}

const SET: &str = "SELECT set_config(name, value, false) FROM (VALUES ";
const DIFFERENT: &str = ") AS wanted (name, value)
    WHERE current_setting(name, true) <> value AND CASE name
          WHEN 'synchronous_commit' THEN current_setting(name) = 'off'
          WHEN 'default_tablespace' THEN current_setting(name) = (
               SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE datname = current_database())
          ELSE true END";
const REFUSED: &str = "SELECT wanted.name, current_setting(wanted.name), value FROM (VALUES ";
const MAY_NOT: &str =
    ") AS wanted (name, value) JOIN pg_settings AS p ON lower(p.name) = wanted.name
    WHERE current_setting(wanted.name, true) <> value AND p.context <> 'user' LIMIT 1";

/// The rows of names and values, as SQL.
fn wanted(purpose: Purpose, settings: &PostgresSettings) -> String {
    let millis = |duration: Duration| duration.as_millis().clamp(1, i32::MAX as u128);
    // Who works must see all rows: an error is better than a part. Who asks may be shown a part, may wait for long, and may take an
    // export slowly, as a pager does, without having vanished.
    let (statement_timeout, row_security, user_timeout) = match purpose {
        Purpose::Work => (millis(settings.statement_timeout), "off", millis(SILENCE)),
        Purpose::Question => (0, "on", 0),
    };
    // The server itself watches over the time that locks are held: the client that should do so may be what hangs. It also notices
    // by itself when the client's machine has vanished.
    let ours = [
        ("statement_timeout", statement_timeout.to_string()),
        ("lock_timeout", millis(settings.lock_timeout).to_string()),
        (
            "idle_in_transaction_session_timeout",
            millis(settings.idle_in_transaction_timeout).to_string(),
        ),
        ("row_security", row_security.to_owned()),
        ("tcp_keepalives_idle", SILENCE.as_secs().to_string()),
        ("tcp_keepalives_interval", "10".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", user_timeout.to_string()),
    ];
    let relied_on = RELIED_ON.map(|(name, value)| (name, value.to_owned()));
    let rows = relied_on.iter().chain(&ours);
    // Names and values are this file's: nothing in them is to be quoted.
    let rows: Vec<_> = rows
        .map(|(name, value)| format!("('{name}','{value}')"))
        .collect();
    rows.join(",")
}

/// What could not be set: a parameter that only a superuser may change, and did, for this role or database.
async fn refused(client: &Client, wanted: &str) -> Result<SessionError, Error> {
    let found = client
        .query_one(&format!("{REFUSED}{wanted}{MAY_NOT}"), &[])
        .await?;
    Ok(SessionError::Parameter {
        name: found.get(0),
        found: found.get(1),
        right: found.get(2),
    })
}

/// Makes the schema of our tables the only one that unqualified names are looked for in.
pub(super) async fn settle(client: &Client, path: Path) -> Result<(), SessionError> {
    let Some(home) = client.query_opt(HOME, &[&path.schemas]).await? else {
        return Err(SessionError::NoSchema(path.written));
    };
    let home: String = home.get(0);
    // The temporary schema last: a table there can't stand in for one of ours.
    let settle = "SELECT set_config('search_path', format('%I, pg_temp', $1::text), false)";
    client.query_one(settle, &[&home]).await?;
    Ok(())
}

/// The first schema of the session's search_path that has our tables; without any the first one in which this user may make them. A
/// name that others use too, such as `schema_version`, is no proof by itself.
const HOME: &str = "
    SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS on_path (name, place)
     WHERE NOT starts_with(name, 'pg_') AND name <> 'information_schema'
     ORDER BY to_regclass(format('%I.schema_version', name)) IS NULL OR to_regclass(format('%I.check_result', name)) IS NULL,
              NOT has_schema_privilege(name, 'CREATE'), place LIMIT 1";
