//! Which source wins: defaults < file < legacy variables < `SITEWATCH__…`; `.env` below the environment.

use std::time::Duration;

use crate::support::{certificate, folder};
use sitewatch_config::{LogFormat, LogLevel, Retention, Role, Sasl, SaslMechanism, Secret};

#[test]
fn without_any_source_there_are_defaults() {
    let folder = folder().env("HOSTNAME", "ams1");
    let settings = folder.load();

    assert_eq!(settings.node.location, "ams1");
    assert_eq!(settings.node.listen, None);
    assert_eq!(settings.node.data_dir, folder.path().join("sitewatch-data"));
    assert_eq!(settings.node.drain_timeout, Duration::from_secs(10));
    assert_eq!(settings.node.workers, None);
    assert_eq!(settings.node.log.format, LogFormat::Terminal);
    assert_eq!(settings.node.log.level, LogLevel::Info);
    assert_eq!(settings.node.restart.max, 5);
    assert_eq!(settings.kafka.brokers, None);
    assert_eq!(settings.kafka.topic, "url_metrics");
    assert_eq!(settings.kafka.group, "sitewatch");
    assert_eq!(settings.kafka.queue.max_messages, 100_000);
    assert_eq!(settings.postgres.url, None);
    assert_eq!(settings.postgres.batch.max_rows, 5000);
    assert_eq!(settings.postgres.partition_width, None);
    assert_eq!(settings.postgres.retention, Retention::default());
    assert_eq!(
        settings.postgres.max_slot_age,
        Duration::from_secs(90 * 86_400)
    );
    assert!(settings.sites.is_empty() && settings.files.is_empty());
}

#[test]
fn the_location_has_a_name_even_without_a_host_name() {
    assert!(!folder().load().node.location.is_empty());
}

#[test]
fn a_higher_layer_wins_value_by_value() {
    let file = "kafka: { brokers: 'file:1', topic: file, group: file }\npostgres: { url: 'postgres://file/db' }";
    let settings = folder()
        .file("sitewatch.yaml", file)
        .env("KAFKA_SERVER", "legacy:2")
        .env("KAFKA_TOPIC", "legacy")
        .env("SITEWATCH__KAFKA__BROKERS", "own:3")
        .load();

    assert_eq!(settings.kafka.brokers.as_deref(), Some("own:3"));
    assert_eq!(settings.kafka.topic, "legacy");
    assert_eq!(settings.kafka.group, "file");
    assert_eq!(
        settings.postgres.url.unwrap().connection_url(),
        "postgres://file/db"
    );
}

#[test]
fn dotenv_is_read_and_the_environment_wins_over_it() {
    let folder = folder()
        .file(".env", "# comment\nKAFKA_TOPIC=dotenv\nSITEWATCH__KAFKA__GROUP='dot env'\nexport KAFKA_SERVER=\"d:1\"\n")
        .env("KAFKA_TOPIC", "real");
    let settings = folder.load();

    assert_eq!(settings.kafka.topic, "real");
    assert_eq!(settings.kafka.group, "dot env");
    assert_eq!(settings.kafka.brokers.as_deref(), Some("d:1"));
    assert_eq!(settings.files, [folder.path().join(".env")]);
}

#[test]
fn a_mistake_in_dotenv_names_the_variable_or_the_line() {
    let folder = folder().file(
        ".env",
        "SITEWATCH__NODE__WORKERS=many\nPOSTGRES_URL='CANARY\n",
    );
    assert_eq!(
        folder.problems(),
        [
            ".env: found line 2 that cannot be read; expected NAME=value or NAME='value'",
            ".env: SITEWATCH__NODE__WORKERS: found \"many\"; expected a whole number from 1 to 1024",
        ]
    );
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let settings = folder()
        .file("sitewatch.yaml", "kafka: { topic: file }")
        .env("KAFKA_TOPIC", "")
        .env("SITEWATCH__KAFKA__TOPIC", " ")
        .load();
    assert_eq!(settings.kafka.topic, "file");
}

#[test]
fn every_kind_of_value_can_be_a_variable() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "sites: [{ url: 'https://example.org/' }]\nkafka: { sasl: { username: me } }",
        )
        .env("SITEWATCH__NODE__LISTEN", "localhost:1")
        .env("SITEWATCH__NODE__LOG__FORMAT", "json")
        .env("SITEWATCH__NODE__WORKERS", "3")
        .env("SITEWATCH__KAFKA__TLS", "yes")
        .env("SITEWATCH__KAFKA__SASL__MECHANISM", "scram-sha-512")
        .env("SITEWATCH__KAFKA__SASL__PASSWORD", "12 34 ")
        .env("SITEWATCH__KAFKA__OPTIONS__SOCKET_TIMEOUT_MS", "1000")
        .env("SITEWATCH__POSTGRES__BATCH__MAX_AGE", "20ms")
        .env("SITEWATCH__DEFAULTS__EXPECTED_STATUS", "200, 4xx")
        .env("SITEWATCH__DEFAULTS__HEADERS__X_API_KEY", "k")
        .load();

    assert_eq!(settings.node.listen, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(settings.node.log.format, LogFormat::Json);
    assert_eq!(settings.node.workers, Some(3));
    assert!(settings.kafka.tls.is_some());
    let by_password = Sasl::Password {
        mechanism: SaslMechanism::ScramSha512,
        username: "me".to_owned(),
        password: Secret::new("12 34 "),
    };
    assert_eq!(settings.kafka.sasl, Some(by_password));
    assert_eq!(SaslMechanism::ScramSha512.as_str(), "SCRAM-SHA-512");
    let timeout = settings.kafka.options.get("socket.timeout.ms");
    assert_eq!(timeout.map(Secret::reveal), Some("1000"));
    assert_eq!(settings.postgres.batch.max_age, Duration::from_millis(20));
    assert_eq!(
        settings.sites[0].options.expect.expected_status.to_string(),
        "200,400-499"
    );
    let [(name, value)] = &*settings.sites[0].options.request.headers else {
        panic!("one header is set");
    };
    assert_eq!((name.as_str(), value.reveal()), ("x-api-key", "k"));
    assert!(value.is_referenced(), "it is no part of the settings file");
}

#[test]
fn sites_of_the_command_line_come_last_and_get_the_defaults() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "defaults: { interval: 5s }\nsites: [{ url: 'https://example.org/' }]",
        )
        .site("https://example.com/")
        .load_for(Role::Standalone)
        .unwrap();
    assert_eq!(&*settings.sites[1].name, "https://example.com/");
    assert_eq!(
        settings.sites[1].options.schedule.interval,
        Duration::from_secs(5)
    );
}

#[test]
fn a_site_of_the_command_line_needs_no_file() {
    let settings = folder()
        .site("https://example.com")
        .load_for(Role::Standalone)
        .unwrap();
    assert_eq!(settings.sites.len(), 1);
}

#[test]
fn only_one_default_file_may_be_there() {
    let folder = folder()
        .file("sitewatch.yaml", "{}")
        .file("sitewatch.toml", "");
    let problems = folder.load_for(Role::Producer).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "1 problem in the settings:\n  settings: found sitewatch.yaml and sitewatch.toml; \
         expected only one of them, or --config FILE"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_problem() {
    // What a role needs may be in there: it is not asked for then.
    let missing = folder()
        .config("no.yaml")
        .load_for(Role::Producer)
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        "1 problem in the settings:\n  no.yaml: found no such file; expected a settings file"
    );

    let directory = folder()
        .file("a.yaml/b", "")
        .config("a.yaml")
        .load_for(Role::Consumer)
        .unwrap_err();
    assert_eq!(
        directory.to_string(),
        "1 problem in the settings:\n  a.yaml: found a directory; expected a settings file"
    );
}

#[test]
fn each_role_needs_its_own() {
    let site = "https://example.org/";
    assert_eq!(folder().load_for(Role::Producer).unwrap_err().0.len(), 2);
    assert_eq!(folder().load_for(Role::Consumer).unwrap_err().0.len(), 2);
    assert_eq!(folder().load_for(Role::Standalone).unwrap_err().0.len(), 1);
    assert!(folder().load().sites.is_empty());

    assert!(folder().site(site).load_for(Role::Standalone).is_ok());
    assert!(
        folder()
            .site(site)
            .env("KAFKA_SERVER", "k:1")
            .load_for(Role::Producer)
            .is_ok()
    );
    let consumer = folder()
        .env("KAFKA_SERVER", "k:1")
        .env("POSTGRES_URL", "postgres://h/d");
    assert!(consumer.load_for(Role::Consumer).is_ok());
    assert_eq!(Role::Producer.to_string(), "producer");
}

#[test]
fn paths_start_at_the_file_or_the_working_directory() {
    let (cert, key) = certificate();
    let folder = folder()
        .file("etc/ca.pem", &cert)
        .file("service.cert", &cert)
        .file("service.key", &key)
        .file(
            "etc/node.yaml",
            "node: { data_dir: data }\nkafka: { ca: ca.pem }",
        )
        .config("etc/node.yaml")
        .env("SITEWATCH__KAFKA__CERT", "service.cert")
        .env("SITEWATCH__KAFKA__KEY", "service.key")
        .env(
            "POSTGRES_URL",
            "postgres://h/d?sslmode=verify-full&sslrootcert=etc/ca.pem",
        );
    let settings = folder.load();

    let tls = settings.kafka.tls.unwrap();
    assert_eq!(tls.ca.unwrap().path, folder.path().join("etc/ca.pem"));
    let identity = tls.identity.unwrap();
    assert_eq!(identity.cert.path, folder.path().join("service.cert"));
    assert_eq!(identity.key.path, folder.path().join("service.key"));
    assert_eq!(
        settings.postgres.url.unwrap().root_cert(),
        Some(folder.path().join("etc/ca.pem").as_path())
    );
    assert_eq!(settings.node.data_dir, folder.path().join("etc/data"));
    assert_eq!(settings.files, [folder.path().join("etc/node.yaml")]);
}
