//! The commands find the database of a standalone, running or not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use super::{Standalone, folder, program};
use crate::support::Web;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder).args(arguments).output().unwrap()
}

/// Runs a command, which must succeed. Gives what it wrote, and what it said beside.
fn said(folder: &Path, arguments: &[&str]) -> (String, String) {
    let output = run(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{errors}");
    (String::from_utf8(output.stdout).unwrap(), errors)
}

const ALL: [&[&str]; 8] = [
    &["report", "--from", "-1h"],
    &["audit", "--since", "-1h"],
    &["export", "--format", "csv", "--from", "-1h"],
    &["rejudge", "--rules", "rules.yaml", "--from", "-1h"],
    &["maintenance", "list"],
    &["dead-letter", "list"],
    &["migrate"],
    &["housekeep"],
];

async fn with_rows() -> (tempfile::TempDir, Standalone, PathBuf) {
    let folder = folder();
    fs::write(folder.path().join("rules.yaml"), "failure_threshold: 5\n").unwrap();
    let mut node = Standalone::start(folder.path(), &Web::start(), false, &[]);
    node.rows(2).await;
    let cluster = node.cluster().await;
    (folder, node, cluster)
}

#[actix_rt::test]
async fn all_find_the_one_that_runs() {
    let (folder, mut node, _) = with_rows().await;
    for command in ALL {
        let (_, errors) = said(folder.path(), command);
        let line = format!("sitewatch-data, which process {} runs\n", node.child.id());
        assert!(errors.contains(&line), "{command:?}: {errors}");
    }
    let (report, _) = said(folder.path(), &["report", "--from", "-1h"]);
    assert!(report.contains("up"), "{report}");
    let rows = node.rows(3).await;
    node.rows(rows + 2).await;
    node.stop();
}

#[actix_rt::test]
async fn all_start_the_one_that_does_not_run_and_stop_it_again() {
    let (folder, mut node, cluster) = with_rows().await;
    node.stop();
    for command in ALL {
        let (_, errors) = said(folder.path(), command);
        let line = "sitewatch-data, started for this command\n";
        assert!(errors.contains(line), "{command:?}: {errors}");
        assert!(!cluster.join("postmaster.pid").exists(), "{command:?}");
    }
    // As many as like: each waits for those before it.
    let start = || {
        let mut command = program(folder.path());
        command
            .args(["report", "--format", "csv"])
            .stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    for child in [start(), start(), start()] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("\nup,"));
    }
}

#[actix_rt::test]
async fn without_a_database_both_ways_are_named_and_nothing_is_made() {
    let folder = folder();
    for data in [false, true] {
        if data {
            fs::create_dir(folder.path().join("sitewatch-data")).unwrap();
        }
        for command in &ALL[..2] {
            let output = run(folder.path(), command);
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{errors}");
            for said in [
                "postgres.url or POSTGRES_URL",
                "--role standalone",
                "sitewatch-data (node.data_dir)",
            ] {
                assert!(errors.contains(said), "{errors}");
            }
        }
    }
    let made = fs::read_dir(folder.path().join("sitewatch-data")).unwrap();
    assert_eq!(made.count(), 0);
}
