//! One file a mistake in `tests/fixtures`, with the exact text that a person gets beside it in `.expected`.
//!
//! Comments at the top of a fixture say with what else it is loaded: `# role: producer`, `# env: NAME=value`,
//! `# site: URL`. With `UPDATE_EXPECTED=1` the texts are written instead of compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sitewatch_config::{Role, Sources, load, load_any};

#[test]
fn each_mistake_gets_its_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files: BTreeSet<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.extension().unwrap() != "expected")
        .collect();
    assert!(files.len() > 40, "only {} fixtures found", files.len());

    let mut failures = Vec::new();
    for file in &files {
        let actual = format!("{}\n", message_of(&folder, file));
        assert!(!actual.contains("CANARY"), "a secret is told: {actual}");
        let expected_file = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected_file, &actual).unwrap();
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if actual != expected {
            failures.push(format!(
                "{}\n  expected:\n{expected}\n  actual:\n{actual}",
                file.display()
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn message_of(folder: &Path, file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let mut role = None;
    let mut sources = Sources {
        config: Some(PathBuf::from(file.file_name().unwrap())),
        working_dir: folder.to_owned(),
        ..Sources::default()
    };
    for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
        match line.split_once(": ") {
            Some(("role", "producer")) => role = Some(Role::Producer),
            Some(("role", "consumer")) => role = Some(Role::Consumer),
            Some(("role", "standalone")) => role = Some(Role::Standalone),
            Some(("env", variable)) => {
                let (name, value) = variable.split_once('=').unwrap();
                sources.env.insert(name.to_owned(), value.to_owned());
            }
            Some(("site", url)) => sources.sites.push(url.to_owned()),
            _ => {}
        }
    }
    let result = match role {
        Some(role) => load(role, &sources),
        None => load_any(&sources),
    };
    match result {
        Ok(_) => "no problem was found".to_owned(),
        Err(problems) => problems.to_string(),
    }
}
