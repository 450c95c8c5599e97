//! Values of every session parameter that are not the usual ones.

use tokio_postgres::Row;

use crate::support::World;

/// What makes any program impossible, is not of a session's own, or says which rights and which server it has, and why it is left out.
const LEFT_OUT: [(&str, &str); 18] = [
    (
        "application_name",
        "the program's own name, which the driver sends",
    ),
    (
        "dynamic_library_path",
        "without PL/pgSQL there are no functions",
    ),
    ("extension_destdir", "Debian's, for building packages"),
    ("jit_dump_bitcode", "fills the server's folder"),
    ("local_preload_libraries", "nobody can connect"),
    ("log_min_messages", "fills the server's log"),
    ("max_stack_depth", "it is the least already"),
    ("role", "another role"),
    ("seed", "not a setting but an action"),
    ("session_authorization", "another user"),
    ("session_preload_libraries", "nobody can connect"),
    ("temp_file_limit", "no room for a sort"),
    ("track_activities", "hides what the test waits for"),
    ("transaction_deferrable", "of a transaction"),
    ("transaction_isolation", "of a transaction"),
    ("transaction_read_only", "of a transaction"),
    ("wal_consistency_checking", "fills the disk"),
    ("zero_damaged_pages", "destroys data"),
];

/// Odd values where neither the type nor the range gives one.
const ODD: [(&str, &str); 31] = [
    ("DateStyle", "German, DMY"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Asia/Kathmandu"),
    ("backtrace_functions", "nothing"),
    ("client_encoding", "LATIN1"),
    ("createrole_self_grant", "inherit"),
    ("default_table_access_method", "heap"),
    ("default_tablespace", "pg_default"),
    ("default_text_search_config", "pg_catalog.simple"),
    ("default_transaction_isolation", "serializable"),
    ("event_triggers", "off"),
    ("extension_control_path", "$system"),
    // Of the time in which a session does nothing: with less nobody could say anything.
    ("idle_session_timeout", "1000"),
    ("idle_in_transaction_session_timeout", "1"),
    ("lc_messages", "C.UTF-8"),
    ("lc_monetary", "C.UTF-8"),
    ("lc_numeric", "C.UTF-8"),
    ("lc_time", "C.UTF-8"),
    ("lock_timeout", "1"),
    ("log_connections", "all"),
    ("plpgsql.extra_errors", "all"),
    ("plpgsql.extra_warnings", "all"),
    ("plpgsql.variable_conflict", "use_variable"),
    ("restrict_nonsystem_relation_kind", "view"),
    ("search_path", "shadows, pg_catalog, public"),
    ("statement_timeout", "1"),
    ("temp_tablespaces", "pg_default"),
    ("timezone_abbreviations", "India"),
    ("transaction_timeout", "1000"),
    ("wal_sender_timeout", "1"),
    ("xmloption", "document"),
];

/// Objects in the way of a program that looks names up along the path above.
pub(super) const SHADOWS: &str = "
    CREATE SCHEMA shadows;
    GRANT USAGE ON SCHEMA shadows TO PUBLIC;
    CREATE TABLE shadows.checks (what text);
    CREATE TABLE shadows.site (what text);
    CREATE TABLE shadows.schema_version (version text);
    CREATE FUNCTION shadows.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2001-01-01 00:00+00'::timestamptz $$;
    CREATE FUNCTION shadows.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION shadows.set_config(text, text, bool) RETURNS text LANGUAGE sql AS $$ SELECT 'nothing' $$;
    CREATE FUNCTION shadows.to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT NULL::regclass';
    CREATE FUNCTION shadows.same(timestamptz, timestamptz) RETURNS bool LANGUAGE sql AS 'SELECT true';
    CREATE OPERATOR shadows.= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = shadows.same)";

/// Everything of these contexts, each with a value that is not the usual one.
pub(super) async fn odd_parameters(world: &World, contexts: &[&str]) -> Vec<(String, String)> {
    world.db.batch_execute("LOAD 'plpgsql'").await.unwrap();
    let known = "SELECT name, vartype, boot_val, enumvals, min_val, max_val FROM pg_settings WHERE context = ANY ($1)";
    let known = world.db.query(known, &[&contexts]).await.unwrap();
    let is_set = |row: &&Row| {
        LEFT_OUT
            .iter()
            .all(|(name, _)| *name != row.get::<_, &str>(0))
    };
    known.iter().filter(is_set).filter_map(odd).collect()
}

/// `None` of a text that is not in the list above: it is of a later PostgreSQL.
fn odd(row: &Row) -> Option<(String, String)> {
    let name: String = row.get("name");
    let usual: Option<&str> = row.get("boot_val");
    let least: Option<&str> = row.get("min_val");
    let most: Option<&str> = row.get("max_val");
    let value = match ODD.iter().find(|(odd, _)| *odd == name) {
        Some((_, value)) => (*value).to_owned(),
        None => match row.get("vartype") {
            "bool" => if usual == Some("on") { "off" } else { "on" }.to_owned(),
            "enum" => {
                let words: Vec<String> = row.get("enumvals");
                words
                    .into_iter()
                    .rfind(|word| Some(word.as_str()) != usual)
                    // There may be no other.
                    .or_else(|| usual.map(str::to_owned))
                    .unwrap()
            }
            "integer" | "real" if least != usual => least.unwrap().to_owned(),
            "integer" | "real" => most.unwrap().to_owned(),
            _ => {
                println!(
                    "{name} is not tried: add to the lists what is odd, or why it is left out"
                );
                return None;
            }
        },
    };
    Some((name, value))
}

pub(super) async fn set(world: &World, whose: &str, parameters: &[(String, String)]) {
    for (name, value) in parameters {
        // A list of words is not one word.
        let value = match name.as_str() {
            "search_path" => value.clone(),
            _ => format!("'{value}'"),
        };
        let set = format!("ALTER {whose} SET {name} TO {value}");
        if let Err(error) = world.db.batch_execute(&set).await {
            panic!("{set}: {error:?}");
        }
    }
    // Else all of this would prove nothing.
    let in_force = "SELECT cardinality(setconfig)::int8 FROM pg_db_role_setting ORDER BY setdatabase DESC, setrole DESC LIMIT 1";
    let in_force: i64 = world.db.query_one(in_force, &[]).await.unwrap().get(0);
    assert!(in_force > 100 || parameters.len() < 100, "{in_force}");
}
