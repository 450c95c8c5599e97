//! Asks every view, every function and every command. What there is comes from the catalogue and from `--help`: a new one that nobody has
//! given arguments fails the test.

use std::collections::BTreeSet;

use crate::support::World;

pub(super) async fn everything(world: &World) {
    let mut failed = Vec::new();
    for _ in 0..2 {
        failed.extend(views(world).await);
        failed.extend(functions(world).await);
        // What is asked for is other when rollups are made.
        failed.extend(commands(world).await);
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn views(world: &World) -> Vec<String> {
    let views = "SELECT relname::text FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace ORDER BY 1";
    let views: Vec<String> = world
        .query(views)
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(views.len() >= 5, "{views:?}");
    let mut failed = Vec::new();
    for view in views {
        failed.extend(refusal(world, &format!("SELECT * FROM {view}")).await);
    }
    failed
}

async fn refusal(world: &World, sql: &str) -> Option<String> {
    // As text: whatever the types are.
    let refused = world.db.simple_query(sql).await.err()?;
    let why = refused
        .as_db_error()
        .map_or_else(|| refused.to_string(), ToString::to_string);
    Some(format!("{sql}: {why}"))
}

/// Where arguments come from, and by which name each is known: what is stored, and instants near and far.
const RANGES: &str = "(VALUES (now() - interval '1 day', now() + interval '1 day'), ('1970-01-01', now()), ('2000-01-01', '2999-12-31'),
    (now(), now()), (now(), '2020-01-01'), ('4000-01-01 BC', '1970-01-01'), ('-infinity', now())) AS range (from_time, to_time)";
const SHORT: &str = "(VALUES (now() - interval '10 minutes', now() + interval '10 minutes'), ('1970-01-01', '1970-01-01 00:10'),
    ('2999-12-31', '2999-12-31 00:10'), ('4000-01-01 BC', '4000-01-01 00:10 BC')) AS range (from_time, to_time)";
const HISTS: &str = "(SELECT sum(hist_of(hist_bucket(total_us))) AS hist, sum(hist_of(ttfb_bucket)) AS other, 0.5::float8 AS p FROM check_result)
    AS h (hist, other, p)";

async fn functions(world: &World) -> Vec<String> {
    let functions = "
        SELECT proname::text, coalesce(proargnames[1:pronargs], '{}') FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype ORDER BY 1, 2";
    let mut failed = Vec::new();
    let functions = world.query(functions).await;
    assert!(functions.len() >= 15);
    for row in functions {
        let (name, arguments): (String, Vec<String>) = (row.get(0), row.get(1));
        let stored = "due_span AS d CROSS JOIN (VALUES (now())) AS t";
        let calls: &[String] = &match name.as_str() {
            // It changes the database, at the word of the program only.
            "make_partition" => continue,
            "hist_bucket" => vec![format!("SELECT hist_bucket(x) FROM (SELECT total_us FROM check_result UNION VALUES (0), (2147483647)) AS t (x)")],
            "hist_value" => vec!["SELECT hist_value(ttfb_bucket) FROM check_result".to_owned()],
            "hist_of" => vec!["SELECT hist_of(ttfb_bucket) FROM check_result".to_owned()],
            "hist_count" | "hist_lowest" | "hist_highest" => vec![format!("SELECT {name}(hist), {name}(other) FROM {HISTS}")],
            "hist_percentile" => vec![format!("SELECT hist_percentile(hist, p), hist_percentile(other, p), hist_percentile(other, 1) FROM {HISTS}")],
            "hist_percentile_of" => vec![format!("SELECT hist_percentile_of(ARRAY[hist, other], p) FROM {HISTS}")],
            "bounds_of" => vec![format!("SELECT bounds_of('slot', tstzmultirange(tstzrange(least(from_time, to_time), greatest(from_time, to_time)))) FROM {RANGES}")],
            "site_stats_in" => vec![format!(
                "SELECT count(s) FROM {RANGES}, LATERAL site_stats_in(CASE WHEN from_time < to_time THEN tstzmultirange(tstzrange(from_time, to_time))
                 ELSE '{{}}' END) AS s"
            )],
            "site_stats" | "site_windows" | "site_maintenance" | "uptimes" => vec![
                format!("SELECT count(s) FROM {RANGES}, LATERAL {name}(from_time, to_time) AS s"),
                format!("SELECT count(s) FROM {RANGES}, LATERAL {name}(from_time, to_time, ARRAY(SELECT site_id FROM site LIMIT 2)) AS s"),
            ],
            "uptime" => vec![format!(
                "SELECT count(s) FROM (SELECT name FROM site ORDER BY site_id LIMIT 9) AS site, {RANGES}, LATERAL uptime(name, from_time, to_time) AS s"
            )],
            "expected_slots" => vec![format!("SELECT count(s) FROM {SHORT}, LATERAL expected_slots(from_time, to_time) AS s")],
            "slots_between" => vec![
                format!("SELECT slots_between(since, interval_us, from_time, to_time) FROM {stored}, {RANGES} WHERE isfinite(from_time) AND interval_us > 0"),
                "SELECT slots_between('4713-01-02 BC', 9223372036854775807, '4713-01-02 BC', '290000-01-01')".to_owned(),
            ],
            "calendar_slots" => vec![format!("SELECT calendar_slots(cron, from_time, to_time) FROM {stored}, {RANGES} WHERE isfinite(from_time) AND cron IS NOT NULL")],
            "sla_status" => vec!["SELECT * FROM sla_status()".to_owned(), "SELECT * FROM sla_status('1970-01-01'), sla_status('2999-12-31') AS t".to_owned()],
            _ => panic!("{name}({arguments:?}) is new: say how this test calls it"),
        };
        for call in calls {
            failed.extend(refusal(world, call).await);
        }
    }
    failed
}

/// Commands that have nothing to do with what is stored.
const OTHERS: [&str; 6] = ["check", "validate", "import", "spool", "help", "migrate"];

async fn commands(world: &World) -> Vec<String> {
    let rules = world.folder.path().join("rules.yaml");
    std::fs::write(&rules, "failure_threshold: 1\nsuccess_threshold: 1\n").unwrap();
    let file = world.folder.path().join("out");
    let file = file.to_str().unwrap();
    let far = [
        "--from",
        "1970-01-01T00:00:00Z",
        "--to",
        "2999-12-31T00:00:00Z",
    ];
    let mut all: Vec<Vec<&str>> = vec![vec!["housekeep"]];
    for format in ["table", "csv", "json", "html", "markdown"] {
        all.push(vec!["report", "--format", format]);
        all.push([&["report", "--format", format], &far[..]].concat());
    }
    for format in ["csv", "parquet"] {
        all.push([&["export", "--format", format, "--out", file], &far[..]].concat());
    }
    all.push(vec!["audit", "--since", "-1h", "--json"]);
    all.push(vec![
        "audit",
        "--since",
        "1970-01-01T00:00:00Z",
        "--until",
        "1970-01-01T00:10:00Z",
    ]);
    all.push(
        [
            &["rejudge", "--rules", rules.to_str().unwrap(), "--json"],
            &far[..],
        ]
        .concat(),
    );
    all.push(vec!["maintenance", "list"]);
    all.push(vec!["dead-letter", "list"]);
    all.push(vec!["dead-letter", "replay", "--all", "--dry-run"]);
    all.push(vec!["dead-letter", "replay", "--all"]);
    let asked: BTreeSet<&str> = all.iter().map(|it| it[0]).chain(OTHERS).collect();
    let help = world.done(&["--help"]);
    let listed: BTreeSet<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(asked, listed, "a command is new: say how this test runs it");
    let mut failed = Vec::new();
    for arguments in all {
        let output = world.program(&arguments).output().unwrap();
        // The audit tells with 1 that rows are missing.
        let may = if arguments[0] == "audit" {
            0..=1
        } else {
            0..=0
        };
        if !output.status.code().is_some_and(|code| may.contains(&code)) {
            failed.push(format!(
                "{arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    failed
}
