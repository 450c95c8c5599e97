//! Other people's PostgreSQL: a role or a database on which every session parameter is set otherwise than usual. All that the program
//! stores and tells is the same as under an ordinary role.

use std::{fs, process::Command};

use crate::support::{World, message};
use serde_json::{Value, json};
use tokio_postgres::Row;

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

/// What is odd where neither the type nor the range says it.
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

/// What stands in the way of a program that looks names up along the path above.
const SHADOWS: &str = "
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
async fn odd_parameters(world: &World, contexts: &[&str]) -> Vec<(String, String)> {
    world.db.batch_execute("LOAD 'plpgsql'").await.unwrap();
    let known = "SELECT name, vartype, boot_val, enumvals, min_val, max_val FROM pg_settings WHERE context = ANY ($1)";
    let known = world.db.query(known, &[&contexts]).await.unwrap();
    let is_set = |row: &&Row| {
        LEFT_OUT
            .iter()
            .all(|(name, _)| *name != row.get::<_, &str>(0))
    };
    known.iter().filter(is_set).map(odd).collect()
}

fn odd(row: &Row) -> (String, String) {
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
            other => panic!("{name} is a {other}: say what is odd, or why it is left out"),
        },
    };
    (name, value)
}

async fn set(world: &World, whose: &str, parameters: &[(String, String)]) {
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

/// The messages of a day in the life of three sites: failures and an incident, some twice, a placeholder whose check comes later, an
/// announcement, and what can't be stored.
fn messages() -> Vec<Vec<u8>> {
    let mut messages = vec![json!({
        "v": 1, "kind": "site", "site": "a", "url": "http://a/", "location": "test", "since": message("a", 0)["slot"],
        "interval_us": 1_000_000, "phase_us": 0, "check_limit_us": 1_000_000, "config_hash": "0000000000000000",
        "run": message("a", -10)["slot"], "group": "web", "tags": ["x", "y"], "sla_target": 99.5, "sla_window_us": 86_400_000_000_i64,
        "failure_threshold": 2, "success_threshold": 2, "flap_window_us": 0,
    })];
    for n in 0..200 {
        let mut check = message(["a", "b", "c"][n as usize % 3], n);
        match n {
            60..80 => {
                check["outcome"] = "down".into();
                check["error"] = "status_mismatch".into();
                check["error_detail"] = "503, \"not\" today ä\\ €".into();
                check["status"] = 503.into();
            }
            100 => {
                check["outcome"] = "unknown".into();
                check["error"] = "missed".into();
                messages.push(check.clone());
                check = message("b", n);
            }
            _ => check["ttfb_us"] = (1000 + n).into(),
        }
        messages.push(check.clone());
        if n % 10 == 0 {
            messages.push(check);
        }
    }
    let mut unknown_version = message("a", 500);
    unknown_version["v"] = 2.into();
    let mut of_long_ago = message("a", 0);
    of_long_ago["slot"] = "2020-01-01T00:00:00.000000Z".into();
    messages.extend([unknown_version, of_long_ago]);
    let mut messages: Vec<_> = messages
        .iter()
        .map(|it| it.to_string().into_bytes())
        .collect();
    messages.push(b"{not json, \xff".to_vec());
    messages
}

/// All that is stored, without what the moment or the order of arrival decides.
const STORED: &str = "
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT row_to_json(c)::text AS line FROM (SELECT site, url, location, slot, outcome, error, status, total_ms, lateness_ms, detail, attempts FROM checks) AS c
        UNION ALL SELECT row_to_json(s)::text FROM (SELECT name, url, group_name, tags, sla_target, sla_window, told_since FROM site) AS s
        UNION ALL SELECT row_to_json(r)::text FROM (SELECT s.name, since, until, interval_us, phase_us, check_limit_us FROM site_revision JOIN site s USING (site_id)) AS r
        UNION ALL SELECT row_to_json(i)::text FROM (SELECT site, location, began, ended, error, detail, flaps, opened, closed FROM incidents) AS i
        UNION ALL SELECT row_to_json(h)::text FROM (SELECT s.name, h.* FROM rollup_hour h JOIN site s USING (site_id)) AS h
        UNION ALL SELECT row_to_json(d)::text FROM (SELECT s.name, d.* FROM rollup_day d JOIN site s USING (site_id)) AS d
        UNION ALL SELECT row_to_json(k)::text FROM (SELECT partition, next, judged FROM kafka_offset) AS k
        UNION ALL SELECT row_to_json(l)::text FROM (SELECT partition, kafka_offset, reason, detail, payload FROM dead_letter) AS l
    ) AS stored";

/// Who does it, and what came of it.
struct Life<'a> {
    world: &'a World,
    url: String,
    told: Vec<(String, String)>,
}

impl<'a> Life<'a> {
    fn of(world: &'a World, url: String) -> Self {
        Self {
            world,
            url,
            told: Vec::new(),
        }
    }

    /// Runs a command that succeeds, or ends with `code`.
    fn run_to(&mut self, code: i32, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
            .args(arguments)
            .env("POSTGRES_URL", &self.url)
            .current_dir(self.world.folder.path())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&mut self, arguments: &[&str]) -> String {
        self.run_to(0, arguments)
    }

    fn tell(&mut self, arguments: &[&str]) {
        let told = self.run(arguments);
        self.told.push((arguments.join(" "), told));
    }

    async fn stores(&mut self, messages: &[Vec<u8>]) {
        let world = self.world;
        world.create_topic(1).await;
        world.produce_keyed(messages.iter().map(|it| ("k".to_owned(), it.clone())));
        let settings = "postgres: { writers: 1, batch: { max_rows: 50, max_age: 50ms } }\n";
        let mut consumer = world.node_with("consumer", settings, &[("POSTGRES_URL", &self.url)]);
        let all = messages.len() as i64;
        world
            .wait_for(
                "all messages",
                "SELECT coalesce(max(next), 0) FROM kafka_offset",
                all,
            )
            .await;
        // Its sessions do nothing for longer than some would allow, and are still there.
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sitewatch-node'
            AND state = 'idle' AND clock_timestamp() - state_change > interval '1.5 s'";
        world.wait_for("sessions that wait", idle, 1).await;
        assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
        let log = consumer.log();
        assert!(
            !log.contains("can't be used")
                && !log.contains("does not work")
                && !log.contains("connection to PostgreSQL is lost"),
            "{log}"
        );
    }

    async fn is_asked(&mut self, from: &str, to: &str) {
        let range = ["--from", from, "--to", to];
        for format in ["table", "csv", "json", "html", "markdown"] {
            self.tell(&[&["report", "--format", format], &range[..]].concat());
        }
        self.tell(&[&["export", "--format", "csv"], &range[..]].concat());
        self.run(
            &[
                &["export", "--format", "parquet", "--out", "checks.parquet"],
                &range[..],
            ]
            .concat(),
        );
        let file = fs::read(self.world.folder.path().join("checks.parquet")).unwrap();
        self.told.push(("parquet".to_owned(), format!("{file:?}")));
        let audit = self.run_to(1, &["audit", "--json", "--since", from, "--until", to]);
        let audit: Value = serde_json::from_str(&audit).unwrap();
        self.told.push(("audit".to_owned(), audit.to_string()));
        fs::write(
            self.world.folder.path().join("rules.yaml"),
            "failure_threshold: 3\nflap_window: 1h\n",
        )
        .unwrap();
        self.tell(&[&["rejudge", "--rules", "rules.yaml", "--json"], &range[..]].concat());
    }

    async fn maintains(&mut self) {
        self.run(&[
            "maintenance",
            "add",
            "each night",
            "--site",
            "a",
            "--cron",
            "30 2 * * * Asia/Kathmandu",
            "--for",
            "90m",
            "--from",
            "2026-01-01T00:00:00Z",
        ]);
        self.run(&[
            "maintenance",
            "add",
            "once",
            "--group",
            "web",
            "--from",
            "2031-01-01T00:00:00Z",
            "--for",
            "36h",
        ]);
        let listed = self.run(&["maintenance", "list", "--json"]);
        let windows = listed.lines().map(|line| {
            let mut window: Value = serde_json::from_str(line).unwrap();
            window["declared_by"].take();
            window.to_string()
        });
        self.told
            .push(("maintenance".to_owned(), windows.collect()));
        self.run(&["maintenance", "remove", "2"]);
        assert!(!self.run(&["maintenance", "list"]).contains("once"));
    }

    async fn handles_letters(&mut self) {
        let listed = self.run(&["dead-letter", "list", "--json"]);
        let letters = listed.lines().map(|line| {
            let mut letter: Value = serde_json::from_str(line).unwrap();
            letter["received_at"].take();
            letter["topic"].take();
            letter.to_string()
        });
        self.told.push(("letters".to_owned(), letters.collect()));
        let shown = self.run(&["dead-letter", "show", "2"]);
        let shown = shown
            .lines()
            .filter(|line| !line.contains("received") && !line.contains("topic"));
        self.told.push(("letter".to_owned(), shown.collect()));
        self.tell(&[
            "dead-letter",
            "replay",
            "--all",
            "--max-slot-age",
            "100000d",
        ]);
        self.tell(&["dead-letter", "discard", "--all", "--yes"]);
        self.run(&["housekeep"]);
    }
}

/// Everything that the program does with a database, by the session that `url` gives.
async fn live(world: &World, url: String, messages: &[Vec<u8>]) -> Vec<(String, String)> {
    let mut life = Life::of(world, url);
    life.run(&["migrate"]);
    life.stores(messages).await;
    life.run(&["housekeep"]);
    let first: Value = serde_json::from_slice(&messages[1]).unwrap();
    let last: Value = serde_json::from_slice(&messages[messages.len() - 4]).unwrap();
    life.is_asked(
        first["slot"].as_str().unwrap(),
        last["slot"].as_str().unwrap(),
    )
    .await;
    life.maintains().await;
    life.handles_letters().await;
    world
        .db
        .batch_execute("SET timezone = 'UTC'; SET search_path = public")
        .await
        .unwrap();
    let stored: String = world.db.query_one(STORED, &[]).await.unwrap().get(0);
    life.told.push(("stored".to_owned(), stored));
    life.told
}

/// A database that belongs to a role of its own, and the URL to come in as it.
async fn with_role(name: &str, attributes: &str) -> (World, String) {
    let world = World::new(name).await;
    let role = world.topic.clone();
    let make =
        format!("CREATE ROLE {role} LOGIN {attributes}; ALTER DATABASE {role} OWNER TO {role}");
    world.db.batch_execute(&make).await.unwrap();
    world.db.batch_execute(SHADOWS).await.unwrap();
    let url = world
        .database_url
        .replace("//sitewatch:sitewatch@", &format!("//{role}@"));
    assert_ne!(url, world.database_url);
    (world, url)
}

fn assert_same(found: &[(String, String)], wanted: &[(String, String)], who: &str) {
    for ((what, found), (_, wanted)) in found.iter().zip(wanted) {
        assert!(
            found == wanted,
            "{who}: {what}\nfound\n{found}\nas under an ordinary role\n{wanted}"
        );
    }
    assert_eq!(found.len(), wanted.len());
}

#[actix_rt::test]
async fn whatever_a_role_or_database_sets_the_same_is_stored_and_told() {
    let messages = messages();
    let (ordinary, url) = with_role("ordinary", "").await;
    let wanted = live(&ordinary, url, &messages).await;
    for (name, attributes, whose, contexts) in [
        ("odd_role", "", "ROLE", &["user"][..]),
        ("odd_super", "SUPERUSER", "ROLE", &["user", "superuser"]),
        ("odd_database", "", "DATABASE", &["user"]),
    ] {
        let (world, url) = with_role(name, attributes).await;
        if attributes == "SUPERUSER" {
            // Who may make tables everywhere would make them in the first schema of the path.
            Life::of(&world, url.clone()).run(&["migrate"]);
        }
        // Either of these: a statement of 1 ms that ends the session leaves nobody the time to say anything.
        let not_both = match whose {
            "DATABASE" => "statement_timeout",
            _ => "exit_on_error",
        };
        let mut parameters = odd_parameters(&world, contexts).await;
        parameters.retain(|(name, _)| name != not_both);
        println!("{name}: {} parameters", parameters.len());
        set(&world, &format!("{whose} {}", world.topic), &parameters).await;
        let found = live(&world, url, &messages).await;
        assert_same(&found, &wanted, name);
    }
}

#[actix_rt::test]
async fn the_schema_that_a_user_has_chosen_is_kept() {
    let (world, url) = with_role("chosen_schema", "").await;
    let role = &world.topic;
    let chosen = format!(
        "CREATE SCHEMA mine AUTHORIZATION {role}; CREATE SCHEMA theirs AUTHORIZATION {role}"
    );
    world.db.batch_execute(&chosen).await.unwrap();
    let mut life = Life::of(&world, url.clone());
    life.url = format!("{url}?options=-csearch_path%3Dmine%2Cpublic");
    life.run(&["migrate"]);
    let place =
        "SELECT count(*) FROM pg_tables WHERE tablename = 'check_result' AND schemaname = 'mine'";
    assert_eq!(
        world
            .db
            .query_one(place, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    // Whatever comes before it on the path: the tables are where they are.
    life.url = format!("{url}?options=-csearch_path%3Dtheirs%2Cmine");
    life.run(&["migrate"]);
    assert!(
        life.run(&["dead-letter", "list"])
            .contains("no dead letters")
    );
    let everywhere = "SELECT count(*) FROM pg_tables WHERE tablename = 'check_result'";
    assert_eq!(
        world
            .db
            .query_one(everywhere, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    // By the role, too, and a path that leads nowhere is named.
    world
        .db
        .batch_execute(&format!("ALTER ROLE {role} SET search_path = mine"))
        .await
        .unwrap();
    life.url.clone_from(&url);
    life.run(&["housekeep"]);
    for (path, code) in [("nowhere", 78), ("", 78)] {
        life.url = format!("{url}?options=-csearch_path%3D{path}");
        let output = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
            .arg("migrate")
            .env("POSTGRES_URL", &life.url)
            .current_dir(world.folder.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(code) && told.contains("search_path is"),
            "{path:?}: {told}"
        );
    }
}

#[actix_rt::test]
async fn what_only_a_superuser_may_change_is_named() {
    let (world, url) = with_role("not_to_change", "").await;
    let off = format!(
        "ALTER ROLE {} SET session_replication_role = replica",
        world.topic
    );
    world.db.batch_execute(&off).await.unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .arg("migrate")
        .env("POSTGRES_URL", &url)
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(
        told.contains("session_replication_role is replica, origin is needed"),
        "{told}"
    );
}

#[actix_rt::test]
async fn a_commit_is_durable_unless_standbys_are_meant() {
    let (world, url) = with_role("durable", "").await;
    for (set, wanted) in [
        ("off", "on"),
        ("local", "local"),
        ("remote_apply", "remote_apply"),
    ] {
        let alter = format!("ALTER ROLE {} SET synchronous_commit = {set}", world.topic);
        world.db.batch_execute(&alter).await.unwrap();
        let settings = sitewatch_config::PostgresSettings {
            url: Some(url.parse().unwrap()),
            ..Default::default()
        };
        let client = sitewatch_actors::database::ask(&settings, &[])
            .await
            .unwrap();
        let found: String = client
            .query_one("SHOW synchronous_commit", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(found, wanted, "{set}");
    }
}
