//! Each file of `tests/import/FORMAT/` is another monitor's configuration. Beside it, `.expected.yaml` is the
//! settings file that an import makes of it, and `.left_out` the list of what it could not carry over.
//!
//! With `UPDATE_EXPECTED=1` these are written instead of compared. Whatever is secret in an input has CANARY in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use config::{FileFormat, Format, Map, Value, ValueKind};
use proptest::prelude::*;
use sitewatch_config::{ImportFormat, Imported, Sources, import, load_any};

fn inputs() -> Vec<(ImportFormat, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let mut inputs = Vec::new();
    for (name, format) in ImportFormat::ALL {
        let files: BTreeSet<PathBuf> = fs::read_dir(folder.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.to_string_lossy().into_owned();
                !name.ends_with(".left_out") && !name.ends_with(".expected.yaml")
            })
            .collect();
        inputs.extend(files.into_iter().map(|file| (format, file)));
    }
    inputs
}

/// How many sites there are in the settings file of an import, which the loader takes but for files and variables of
/// another machine.
fn loads(yaml: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sitewatch.yaml"), yaml).unwrap();
    let sources = Sources {
        working_dir: folder.path().to_owned(),
        ..Sources::default()
    };
    if let Err(problems) = load_any(&sources) {
        for problem in &problems.0 {
            let elsewhere = ["(no such file)", "which is not set"];
            assert!(
                elsewhere.iter().any(|words| problem.found.ends_with(words)),
                "{problem}\n{yaml}"
            );
        }
    }
    sites(&settings(yaml)).len()
}

/// As [`loads`], for values that may be damaged: those the loader refuses in its own words.
fn parses(yaml: &str) -> usize {
    sites(&settings(yaml)).len()
}

fn settings(yaml: &str) -> Map<String, Value> {
    FileFormat::Yaml
        .parse(None, yaml)
        .unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn sites(settings: &Map<String, Value>) -> Vec<Value> {
    match settings.get("sites").map(|sites| &sites.kind) {
        Some(ValueKind::Array(sites)) => sites.clone(),
        Some(ValueKind::Nil) => Vec::new(),
        other => panic!("no list of sites but {other:?}"),
    }
}

/// The settings with the sites that are comments made sites.
fn completed(yaml: &str) -> String {
    let uncommented = |line: &str| match line.strip_prefix("#  ") {
        Some(rest) => format!("  {rest}\n"),
        None => format!("{line}\n"),
    };
    yaml.lines().map(uncommented).collect()
}

fn assert_expected(file: &Path, actual: &str, failures: &mut Vec<String>) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(file, actual).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    if actual != expected {
        failures.push(format!(
            "{}\n  expected:\n{expected}\n  actual:\n{actual}",
            file.display()
        ));
    }
}

#[test]
fn each_configuration_becomes_its_settings() {
    let mut failures = Vec::new();
    for (format, file) in inputs() {
        let text = fs::read_to_string(&file).unwrap();
        let Imported {
            yaml,
            left_out,
            sites,
        } = import(format, &text).unwrap();
        assert_expected(&file.with_extension("expected.yaml"), &yaml, &mut failures);
        let lines: String = left_out.iter().map(|line| format!("{line}\n")).collect();
        assert_expected(&file.with_extension("left_out"), &lines, &mut failures);
        assert_eq!(loads(&yaml), sites, "{}", file.display());
        assert!(loads(&completed(&yaml)) >= sites, "{}", file.display());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_line_holds_a_secret() {
    for (format, file) in inputs() {
        let imported = import(format, &fs::read_to_string(&file).unwrap()).unwrap();
        for line in &imported.left_out {
            assert!(!line.contains("CANARY"), "{}: {line}", file.display());
            assert!(!line.contains('\n'), "{}: {line}", file.display());
        }
        assert!(!format!("{imported:?}").contains("CANARY"));
    }
}

#[test]
fn names_are_unique() {
    for (format, file) in inputs() {
        let imported = import(format, &fs::read_to_string(&file).unwrap()).unwrap();
        let sites = sites(&settings(&completed(&imported.yaml)));
        let names: BTreeSet<String> = sites
            .iter()
            .map(|site| {
                let table = site.clone().into_table().unwrap();
                table["name"].clone().into_string().unwrap()
            })
            .collect();
        assert_eq!(names.len(), sites.len(), "{}", file.display());
    }
}

#[test]
fn a_text_of_another_format_is_told_without_its_secrets() {
    let cases = [
        (
            ImportFormat::Gatus,
            "sites: []",
            "found no endpoints; expected Gatus' configuration, with a list `endpoints:`",
        ),
        (
            ImportFormat::Blackbox,
            "endpoints: []",
            "found neither `modules` nor `scrape_configs`; expected blackbox.yml, a Prometheus configuration that probes through a blackbox_exporter, or both",
        ),
        (
            ImportFormat::UptimeKuma,
            "{}",
            "found no `monitorList`; expected a JSON backup of Uptime Kuma, from Settings, Backup, Export",
        ),
        (
            ImportFormat::UrlConfig,
            "a: 1",
            "found no `schedule`; expected the original project's file, with a list `schedule:`",
        ),
        (
            ImportFormat::UrlConfig,
            "- CANARY",
            "found no mapping at the top; expected sections such as `kafka:` and `sites:`",
        ),
    ];
    for (format, text, expected) in cases {
        assert_eq!(import(format, text).unwrap_err().to_string(), expected);
    }
    for (_, format) in ImportFormat::ALL {
        for text in [
            "a: 'CANARY",
            "{\"password\": \"CANARY",
            "a: [CANARY",
            "CANARY",
            "",
        ] {
            let error = import(format, text).unwrap_err().to_string();
            assert!(!error.contains("CANARY"), "{error}");
        }
    }
}

#[test]
fn formats_are_known_by_the_names_of_the_command_line() {
    for (name, format) in ImportFormat::ALL {
        assert_eq!(name.parse::<ImportFormat>(), Ok(format));
        assert_eq!(format.to_string(), name);
    }
    assert_eq!(
        "nagios".parse::<ImportFormat>().unwrap_err().to_string(),
        "found an unknown format; expected gatus, blackbox, uptime-kuma, url_config"
    );
}

proptest! {
    /// A part of a file that is missing, or has something else in its place, never makes an import panic,
    /// and what it makes is always YAML.
    #[test]
    fn damaged_input_gives_an_error_or_yaml(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        len in 0usize..60,
        instead in "|'|: |\\[|- x|null|[0-9]{1,20}|\\$\\{A\\}|é\u{7f}",
    ) {
        let inputs = inputs();
        let (format, file) = which.get(&inputs);
        let mut text: Vec<char> = fs::read_to_string(file).unwrap().chars().collect();
        let start = at.index(text.len());
        let end = (start + len).min(text.len());
        text.splice(start..end, instead.chars());
        if let Ok(imported) = import(*format, &text.into_iter().collect::<String>()) {
            prop_assert_eq!(parses(&imported.yaml), imported.sites);
            parses(&completed(&imported.yaml));
        }
    }
}
