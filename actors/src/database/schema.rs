//! Brings the database to this program's schema, and sees whether it still has it.

use std::collections::BTreeMap;

use sitewatch_config::Migrate;
use slog::{Logger, info, warn};
use tokio_postgres::{Client, GenericClient, Transaction, error::SqlState};

use super::{
    ROLLUP_LOCK,
    error::{SessionError, plain},
    expected::{Difference, FoundColumn, FoundTable, differences, tables},
    sqlstate::{Remedy, remedy_of},
};

/// The schema that this program writes.
pub(super) const VERSION: i32 = 10;

/// The advisory lock under which the schema is applied.
const LOCK: i64 = 0x7369_7465_0001;

/// Applies `schema.sql` if the database is older than it or lacks something of it, in one transaction, one program at a
/// time. It may be applied any number of times. A newer schema is refused and left as it is, and so is one that somebody
/// changed in a way that `schema.sql` does not mend. With `migrate: never` it is only looked at.
pub(super) async fn apply(
    client: &mut Client,
    schema: &str,
    migrate: Migrate,
    log: &Logger,
) -> Result<(), SessionError> {
    let transaction = client.transaction().await?;
    // A later version may rewrite a large table.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0")
        .await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let found = usable(&transaction).await?;
    let drift = compare(&transaction).await?;
    if let Some(found) = found.filter(|found| *found > VERSION) {
        if !drift.is_empty() {
            return Err(SessionError::Drift(drift));
        }
        info!(log, "the database's schema is newer than this program, which can work with it"; "known" => VERSION, "version" => found);
        transaction.commit().await?;
        return Ok(());
    }
    if found == Some(VERSION) && drift.is_empty() {
        transaction.commit().await?;
        return Ok(());
    }
    if migrate == Migrate::Never {
        return Err(SessionError::Outdated {
            found,
            known: VERSION,
            drift: found.map_or_else(Vec::new, |_| drift),
        });
    }
    if found == Some(VERSION) {
        for difference in &drift {
            warn!(log, "the database is not as its schema says, applying it anew"; "difference" => %difference);
        }
    }
    write(&transaction, schema, found, drift).await?;
    transaction.commit().await?;
    info!(log, "schema applied"; "version" => VERSION);
    Ok(())
}

/// Writes the schema over the one that is `found`, with what it differs by.
async fn write(
    transaction: &Transaction<'_>,
    schema: &str,
    found: Option<i32>,
    drift: Vec<Difference>,
) -> Result<(), SessionError> {
    // Not among writers, whose locks and these could wait for each other.
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&ROLLUP_LOCK])
        .await?;
    match transaction.batch_execute(schema).await {
        Ok(()) => {}
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Err(SessionError::MayNotMigrate {
                found,
                known: VERSION,
                drift: found.map_or_else(Vec::new, |_| drift),
                reason: plain(&error),
            });
        }
        Err(error) if remedy_of(&error) == Remedy::Drift && found.is_some() => {
            return Err(SessionError::Drift(drift));
        }
        Err(error) => return Err(error.into()),
    }
    let left = compare(transaction).await?;
    if !left.is_empty() {
        return Err(SessionError::Drift(left));
    }
    Ok(())
}

/// The version of the schema, if there is one.
///
/// # Errors
/// If a later program made it, and it does not say that this one can work with it.
pub(super) async fn usable(client: &impl GenericClient) -> Result<Option<i32>, SessionError> {
    let (found, usable_from) = version(client).await?;
    let newer = found.filter(|found| *found > VERSION);
    match newer.filter(|_| usable_from.is_none_or(|from| from > VERSION)) {
        Some(found) => Err(SessionError::NewerSchema {
            found,
            known: VERSION,
        }),
        None => Ok(found),
    }
}

/// The version that the database says it has, and the oldest whose programs can work with it.
async fn version(
    client: &impl GenericClient,
) -> Result<(Option<i32>, Option<i32>), tokio_postgres::Error> {
    let known: bool = client
        .query_one("SELECT to_regclass('schema_version') IS NOT NULL", &[])
        .await?
        .get(0);
    if !known {
        return Ok((None, None));
    }
    // As JSON: versions before 5 have no such column.
    let newest = "SELECT version, (to_jsonb(s) ->> 'usable_from')::int4 FROM schema_version s ORDER BY version DESC LIMIT 1";
    let row = client.query_opt(newest, &[]).await?;
    // Another program's table of this name may hold other types.
    row.map_or(Ok((None, None)), |row| {
        Ok((row.try_get(0)?, row.try_get(1)?))
    })
}

const COLUMNS: &str = "
    SELECT wanted.name, c.relkind::text, a.attname::text, format_type(a.atttypid, a.atttypmod),
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
      FROM unnest($1::text[]) AS wanted(name)
      JOIN pg_class c ON c.oid = to_regclass(quote_ident(wanted.name))
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped";

/// Only whole, valid keys that are checked at once keep rows single.
const KEYS: &str = "
    SELECT wanted.name, array_agg(a.attname::text)
      FROM unnest($1::text[]) AS wanted(name)
      JOIN pg_index i ON i.indrelid = to_regclass(quote_ident(wanted.name))
       AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
     GROUP BY wanted.name, i.indexrelid";

const DEFAULT_PARTITIONS: &str = "
    SELECT wanted.name, t.partdefid::regclass::text
      FROM unnest($1::text[]) AS wanted(name)
      JOIN pg_partitioned_table t ON t.partrelid = to_regclass(quote_ident(wanted.name)) AND t.partdefid <> 0";

/// The other objects of `schema.sql`: each column is true if one is right. The last one is about the right to call `make_partition`,
/// which runs with its owner's rights: `pg_restore --no-privileges` gives that right to everyone. It is checked only for a user who
/// can take the right back.
const OTHERS: &str = "
    SELECT to_regclass('checks') IS NOT NULL,
           to_regprocedure('make_partition(text, timestamptz, timestamptz)') IS NOT NULL,
           to_regprocedure('hist_of(int4)') IS NOT NULL AND to_regprocedure('hist_bucket(int8)') IS NOT NULL,
           (SELECT count(*) = 2 FROM pg_trigger WHERE tgrelid = to_regclass('rollup_day') AND tgenabled <> 'D'
               AND tgname IN ('rollup_day_added', 'rollup_day_changed')),
           NOT EXISTS (SELECT FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS may
                        WHERE p.oid = to_regprocedure('make_partition(text, timestamptz, timestamptz)') AND may.grantee = 0
                          AND pg_has_role(p.proowner, 'USAGE'))";

async fn compare(transaction: &Transaction<'_>) -> Result<Vec<Difference>, tokio_postgres::Error> {
    let wanted = tables();
    let mut found: BTreeMap<String, FoundTable> = BTreeMap::new();
    for row in transaction.query(COLUMNS, &[&wanted]).await? {
        let table = found.entry(row.get(0)).or_default();
        table.kind = row.get(1);
        // A table without columns is a table all the same.
        if let Some(column) = row.get::<_, Option<String>>(2) {
            let there = FoundColumn {
                type_name: row.get(3),
                must_be_given: row.get(4),
            };
            table.columns.insert(column, there);
        }
    }
    for row in transaction.query(KEYS, &[&wanted]).await? {
        let mut key: Vec<String> = row.get(1);
        key.sort();
        found.entry(row.get(0)).or_default().keys.push(key);
    }
    for row in transaction.query(DEFAULT_PARTITIONS, &[&wanted]).await? {
        found.entry(row.get(0)).or_default().default_partition = row.get(1);
    }
    let mut all = differences(&found);
    let others = transaction.query_one(OTHERS, &[]).await?;
    let absent = "nothing of this name";
    for (n, (place, found, right)) in [
        ("checks", absent, "a view"),
        ("make_partition", absent, "a function"),
        ("hist_of, hist_bucket", absent, "functions"),
        ("rollup_day_added, rollup_day_changed", absent, "triggers"),
        (
            "make_partition",
            "that everyone may call it",
            "that only its owner and the consumer's role may",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        if !others.get::<_, bool>(n) {
            all.push(Difference {
                place: place.to_owned(),
                found: found.to_owned(),
                right: right.to_owned(),
            });
        }
    }
    Ok(all)
}
