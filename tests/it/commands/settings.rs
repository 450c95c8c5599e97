//! `validate`, `import` and `migrate`.

use std::{fs, path::Path};

use super::run::{program, run, run_with};
use crate::scripted::Authority;
use crate::support::World;

#[test]
fn validate_names_every_mistake_and_starts_nothing() {
    let valid = [("sitewatch.yaml", "sites: [{ url: 'http://a.example/' }]\n")];
    run_with(&["validate"], &valid, &[])
        .ended(0)
        .says(&["settings are valid: 1 site from "]);
    let invalid = [(
        "sitewatch.yaml",
        "sites:\n  - { url: 'http://a.example/', intervall: 1s }\n  - { url: 'http://b.example/', timeout: banana }\n",
    )];
    run_with(&["validate"], &invalid, &[])
        .ended(78)
        .complains(&["intervall", "interval", "sites[1].timeout", "banana"]);
    run_with(&["validate", "--config", "none.yaml"], &[], &[])
        .ended(78)
        .complains(&["none.yaml"]);
}

#[test]
fn validate_tells_where_each_value_of_a_site_was_written() {
    let files = [
        (
            "sitewatch.yaml",
            "include: [more.yaml]\ndefaults:\n  timeout: 3s\nsites:\n  - name: one\n    url: http://one.example/\n",
        ),
        (
            "more.yaml",
            "sites:\n  - name: two\n    url: http://me:secret@two.example/\n    retries: 2\n",
        ),
    ];
    let ran = run_with(&["validate", "--site", "two"], &files, &[]).ended(0);
    let line = |key: &str| {
        let found = ran
            .out
            .lines()
            .find(|line| line.trim_start().starts_with(key));
        found
            .unwrap_or_else(|| panic!("no {key} in\n{}", ran.out))
            .to_owned()
    };
    for (key, value, origin) in [
        ("retries", "2", "more.yaml: sites[0] (two).retries"),
        ("basic_auth", "***", "more.yaml: sites[0] (two).url"),
        ("timeout", "3s", "sitewatch.yaml: defaults.timeout"),
        ("interval", "1m", "built-in default"),
    ] {
        let line = line(key);
        assert!(line.contains(value) && line.contains(origin), "{line}");
    }
    run_with(&["validate", "--site", "three"], &files, &[])
        .ended(78)
        .complains(&["three"]);
}

#[test]
fn validate_tells_what_a_reload_would_do() {
    let site = |name: &str, more: &str| {
        format!("  - {{ name: {name}, url: 'http://{name}.example/'{more} }}\n")
    };
    let old = format!(
        "sites:\n{}{}{}",
        site("a", ""),
        site("b", ""),
        site("c", "")
    );
    let new = format!(
        "kafka: {{ topic: other }}\nsites:\n{}{}{}",
        site("a", ""),
        site("b", ", retries: 1"),
        site("d", "")
    );
    let files = [("old.yaml", old.as_str()), ("sitewatch.yaml", &new)];
    let ran = run_with(&["validate", "--diff", "old.yaml"], &files, &[]).ended(0);
    assert_eq!(
        ran.out,
        "+ d\n- c\n~ b: retries\n~ section kafka\n1 site would start, 1 stop, 1 be replaced; 1 stay as they are\n"
    );
    run_with(&["validate", "--diff", "none.yaml"], &files, &[])
        .ended(78)
        .complains(&["none.yaml"]);
}

/// What `import` writes is valid as it stands, and says on the other stream what is missing.
#[test]
fn import_writes_settings_that_are_valid() {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tests/import");
    for (format, file) in [
        ("gatus", "documented.yaml"),
        ("blackbox", "with_prometheus.yml"),
        ("uptime-kuma", "backup.json"),
        ("url_config", "original.yaml"),
    ] {
        let input = inputs.join(format).join(file);
        let folder = tempfile::tempdir().unwrap();
        let imported = program(folder.path(), &["import", format, input.to_str().unwrap()])
            .output()
            .unwrap();
        let told = String::from_utf8(imported.stderr).unwrap();
        assert_eq!(imported.status.code(), Some(0), "{told}");
        let expected = input.with_extension("left_out");
        let left_out = fs::read_to_string(expected).unwrap();
        for line in left_out.lines() {
            assert!(told.contains(line), "{format}: no {line:?} in\n{told}");
        }
        let sites: usize = told.split(' ').next().unwrap().parse().unwrap();
        assert!(sites > 0, "{told}");
        // The examples name variables and files of another machine.
        let authority = Authority::new();
        let client = authority.client("me");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut settings = String::from_utf8(imported.stdout).unwrap();
        for (theirs, here) in [
            ("certs/user_cert.pem", path(&client.cert_file)),
            ("certs/user_key.pem", path(&client.key_file)),
            ("/certs/my_cert.crt", path(&authority.ca_file())),
            ("client.pem", path(&client.cert_file)),
            ("client.key", path(&client.key_file)),
        ] {
            settings = settings.replace(&format!(": {theirs}\n"), &format!(": {here}\n"));
        }
        fs::write(folder.path().join("sitewatch.yaml"), settings).unwrap();
        let valid = program(folder.path(), &["validate"])
            .envs([("API_TOKEN", "t"), ("AMOUNT", "3")])
            .output()
            .unwrap();
        let said =
            String::from_utf8(valid.stdout).unwrap() + &String::from_utf8(valid.stderr).unwrap();
        assert!(
            said.starts_with(&format!("settings are valid: {sites} site")),
            "{format}: {said}"
        );
    }
    run_with(&["import", "gatus", "a.yaml"], &[("a.yaml", "a: [")], &[])
        .ended(78)
        .complains(&["a.yaml: "]);
    run(&["import", "gatus", "none.yaml"])
        .ended(78)
        .complains(&["none.yaml"]);
    run(&["import", "nagios", "a"]).ended(64).complains(&[
        "gatus",
        "blackbox",
        "uptime-kuma",
        "url_config",
    ]);
}

#[actix_rt::test]
async fn migrate_brings_the_schema_up_to_date_and_may_be_repeated() {
    let world = World::new("migrate").await;
    for _ in 0..2 {
        run_with(&["migrate"], &[], &[("POSTGRES_URL", &world.database_url)]).ended(0);
    }
    assert!(world.number("SELECT count(*) FROM schema_version").await >= 1);
    // Port 1 of loopback is closed.
    let nowhere = "postgres://sitewatch@127.0.0.1:1/sitewatch";
    run_with(&["migrate"], &[], &[("POSTGRES_URL", nowhere)]).ended(69);
    run(&["migrate"]).ended(78);
}

#[test]
fn validate_says_what_is_valid_and_should_be_looked_at() {
    let settings =
        "kafka: { brokers: a, tls: true, options: { ssl.endpoint.identification.algorithm: none } }
postgres: { url: 'postgres://u:p@h/d' }\nsites: [{ url: 'https://example.org/' }]\n";
    let files = [("sitewatch.yaml", settings)];
    run_with(&["validate", "--role", "producer"], &files, &[])
        .ended(0)
        .says(&[
            "settings are valid: 1 site",
            "\nwarning: kafka.options: ssl.endpoint.identification.algorithm is none: ",
            "\nnote: postgres.url is not needed by a producer",
        ]);
    let consumer = run_with(&["--role", "consumer", "validate"], &files, &[]).ended(0);
    assert!(!consumer.out.contains("note: "), "{}", consumer.out);
    let unknown = "kafka: { options: { no.such.property: 1 } }";
    run_with(&["validate"], &[("sitewatch.yaml", unknown)], &[])
        .ended(78)
        .complains(&["librdkafka has no property no.such.property"]);
}

/// The numbers in the database mean what the code means by them.
#[actix_rt::test]
async fn the_tables_of_outcomes_and_error_kinds_agree_with_the_code() {
    use sitewatch_actors::model::{ErrorKind, Outcome};
    let world = World::new("words").await;
    run_with(&["migrate"], &[], &[("POSTGRES_URL", &world.database_url)]).ended(0);
    let words = async |sql| -> Vec<(i16, String)> {
        let rows = world.query(sql).await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let outcomes = Outcome::ALL.map(|outcome| (outcome.id(), outcome.as_str().to_owned()));
    assert_eq!(
        words("SELECT outcome_id, name FROM outcome ORDER BY 1").await,
        outcomes
    );
    let kinds = ErrorKind::ALL.map(|kind| (kind.id(), kind.as_str().to_owned()));
    assert_eq!(
        words("SELECT error_id, name FROM error_kind ORDER BY 1").await,
        kinds
    );
}
