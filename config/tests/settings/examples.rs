//! Every shipped example loads.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Folder, certificate, folder};
use sitewatch_config::{Role, Sasl, Settings, SslMode};

/// A new example must be added here, to be loaded for the role it is for.
const EXAMPLES: [(&str, Role, usize); 4] = [
    ("aiven.example.yaml", Role::Consumer, 1),
    ("demo.yaml", Role::Standalone, 10),
    ("sitewatch.example.yaml", Role::Consumer, 3),
    ("url_config.yaml", Role::Standalone, 2),
];

fn example(name: &str, role: Role) -> Settings {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (cert, key) = certificate();
    [
        ("ca.pem", &cert),
        ("service.cert", &cert),
        ("service.key", &key),
    ]
    .into_iter()
    .fold(folder(), |folder, (downloaded, text)| {
        folder.file(downloaded, text)
    })
    .file(name, &text)
    .config(name)
    .load_for(role)
    .unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_example_loads() {
    let mut shipped: Vec<String> = fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    shipped.sort();
    assert_eq!(shipped, EXAMPLES.map(|(name, _, _)| name));

    for (name, role, sites) in EXAMPLES {
        let settings = example(name, role);
        assert_eq!(settings.sites.len(), sites, "{name}");
        if name != "url_config.yaml" {
            assert_eq!(
                settings.node.listen,
                Some("127.0.0.1:9464".parse().unwrap()),
                "{name}"
            );
        }
    }
}

#[test]
fn the_aiven_example_verifies_both_servers() {
    let settings = example("aiven.example.yaml", Role::Consumer);
    let tls = settings.kafka.tls.unwrap();
    assert!(tls.ca.is_some() && tls.identity.is_some());
    let url = settings.postgres.url.unwrap();
    assert_eq!(url.ssl_mode(), SslMode::VerifyCa);
    assert!(url.root_cert().is_some() && !url.connection_url().contains("ssl"));
}

/// The variants that are commented out must load too.
#[test]
fn the_sasl_variant_of_the_aiven_example_loads() {
    let text = include_str!("../../aiven.example.yaml");
    let mut variant = String::new();
    for line in text.lines() {
        match line.strip_prefix("  # ") {
            _ if line.starts_with("  cert:")
                || line.starts_with("  key:")
                || line.starts_with("  ca:") => {}
            Some(setting)
                if setting
                    .trim_start()
                    .split(' ')
                    .next()
                    .is_some_and(|word| word.ends_with(':')) =>
            {
                variant += &format!("  {setting}\n");
            }
            _ => variant += &format!("{line}\n"),
        }
    }
    let settings = folder()
        .file("ca.pem", &certificate().0)
        .file("sitewatch.yaml", &variant)
        .load();
    assert!(
        matches!(settings.kafka.sasl, Some(Sasl::Password { username, .. }) if username == "avnadmin")
    );
    assert!(settings.kafka.tls.unwrap().identity.is_none());
}

/// What the full example calls a default is one.
#[test]
fn the_full_example_tells_the_defaults() {
    let example = example("sitewatch.example.yaml", Role::Consumer);
    let default = folder().load();
    assert_eq!(example.node.log, default.node.log);
    assert_eq!(example.node.restart, default.node.restart);
    assert_eq!(example.node.drain_timeout, default.node.drain_timeout);
    assert_eq!(
        (example.kafka.topic, example.kafka.group),
        (default.kafka.topic, default.kafka.group)
    );
    assert_eq!(example.kafka.queue, default.kafka.queue);
    assert_eq!(example.postgres.migrate, default.postgres.migrate);
    assert_eq!(example.postgres.batch, default.postgres.batch);
    assert_eq!(
        example.postgres.partition_width,
        default.postgres.partition_width
    );
    assert_eq!(example.postgres.retention, default.postgres.retention);
    assert_eq!(example.postgres.max_slot_age, default.postgres.max_slot_age);
    assert_eq!(
        example.postgres.max_slot_ahead,
        default.postgres.max_slot_ahead
    );

    let (site, plain) = (
        &example.sites[2],
        folder().site("https://www.rust-lang.org/").load().sites[0].clone(),
    );
    let mut options = site.options.as_ref().clone();
    options.request.headers.clear();
    assert_eq!(options, *plain.options);
}

/// `.env.example` as `.env` beside the site file that it names, with the files that Aiven's console offers.
fn with_env(env: &str) -> Folder {
    let (cert, key) = certificate();
    folder()
        .file(".env", env)
        .file(
            "config/url_config.yaml",
            include_str!("../../url_config.yaml"),
        )
        .file("ca.pem", &cert)
        .file("service.cert", &cert)
        .file("service.key", &key)
}

#[test]
fn the_example_of_an_env_file_serves_both_roles_and_names_the_services_of_development() {
    let env = include_str!("../../../.env.example");
    let services = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/services"))
        .arg("env")
        .env_remove("SITEWATCH_KAFKA_PORT")
        .env_remove("SITEWATCH_POSTGRES_PORT")
        .output()
        .unwrap();
    let services = String::from_utf8(services.stdout).unwrap();
    for name in ["KAFKA_SERVER=", "POSTGRES_URL="] {
        let line = env.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(services.contains(&format!("export {line}\n")), "{services}");
    }
    let folder = with_env(env);
    assert_eq!(folder.load_for(Role::Producer).unwrap().sites.len(), 2);
    assert!(
        folder
            .load_for(Role::Consumer)
            .unwrap()
            .postgres
            .url
            .is_some()
    );
}

/// What is commented out must load too.
#[test]
fn every_line_of_the_example_of_an_env_file_is_a_setting() {
    let env = include_str!("../../../.env.example");
    let all = env.replace("\n# SITEWATCH__", "\nSITEWATCH__");
    let settings = with_env(&all).load_for(Role::Consumer).unwrap();
    assert_eq!(settings.node.location, "fra1");
    assert!(settings.kafka.tls.unwrap().identity.is_some());
}
