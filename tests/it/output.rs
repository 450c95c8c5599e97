//! Output for people and programs that can't be written, or goes elsewhere than into a file.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use crate::support::{Web, World, forty_days, signals};

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[actix_rt::test]
async fn a_command_whose_output_can_not_be_written_fails() {
    let (world, web) = (forty_days("unwritten").await, Web::start());
    let url = web.url("/up");
    let site = format!("sites: [{{ name: a, url: '{url}', allow_private: true }}]\n");
    fs::write(world.folder.path().join("sitewatch.yaml"), site).unwrap();
    fs::create_dir_all(world.folder.path().join("sitewatch-data/spool")).unwrap();
    for command in [
        &[
            "report",
            "--from",
            "2026-03-02T00:00:00Z",
            "--to",
            "2026-03-03T00:00:00Z",
        ][..],
        &[
            "report",
            "--from",
            "2026-03-02T00:00:00Z",
            "--to",
            "2026-03-03T00:00:00Z",
            "--format",
            "html",
        ],
        &["audit", "--since", "-1h"],
        &["dead-letter", "list"],
        &["maintenance", "list"],
        &["validate"],
        &["validate", "--site", "a"],
        &["check", &url, "--json"],
        &["check", &url],
    ] {
        let output = world.program(command).stdout(full()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        // A check says with 2 that it could not tell.
        let code = if command[0] == "check" { 2 } else { 74 };
        assert_eq!(output.status.code(), Some(code), "{command:?}: {told}");
        let wanted = "standard output can't be written: No space left on device";
        assert!(told.contains(wanted), "{command:?}: {told}");
        // Whoever does not read on has what he wanted.
        let mut child = world
            .program(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_ne!(child.wait().unwrap().code(), Some(code), "{command:?}");
    }
}

#[actix_rt::test]
async fn an_export_goes_into_what_is_there_and_is_no_file() {
    let world = forty_days("special").await;
    let path = |name: &str| world.folder.path().join(name);
    let export = |out: &str| {
        world.program(&[
            "export",
            "--format",
            "csv",
            "--from",
            "2026-03-02T00:00:00Z",
            "--to",
            "2026-03-02T01:00:00Z",
            "--out",
            out,
        ])
    };
    let wanted = export("plain.csv").status().unwrap();
    assert!(wanted.success());
    let wanted = fs::read_to_string(path("plain.csv")).unwrap();

    assert!(
        Command::new("mkfifo")
            .arg(path("fifo"))
            .status()
            .unwrap()
            .success()
    );
    let mut child = export("fifo").spawn().unwrap();
    let mut read = String::new();
    File::open(path("fifo"))
        .unwrap()
        .read_to_string(&mut read)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(read, wanted);

    fs::write(path("target.csv"), "before").unwrap();
    symlink("target.csv", path("link.csv")).unwrap();
    assert!(export("link.csv").status().unwrap().success());
    assert_eq!(fs::read_to_string(path("target.csv")).unwrap(), wanted);
    assert!(path("link.csv").is_symlink());

    let output = export("-").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
    assert!(!path("-").exists());
}

#[actix_rt::test]
async fn a_log_that_can_not_be_written_ends_nothing() {
    let (world, web) = (World::new("log_full").await, Web::start());
    world.create_topic(1).await;
    let settings = format!(
        "defaults: {{ interval: 1s, allow_private: true }}\nsites: [{{ name: a, url: '{}' }}]\n",
        web.url("/up")
    );
    fs::write(world.folder.path().join("sitewatch.yaml"), settings).unwrap();
    let mut producer = world
        .program(&["--role", "producer"])
        .env("KAFKA_SERVER", &world.kafka)
        .env("KAFKA_TOPIC", &world.topic)
        .stdin(Stdio::null())
        .stderr(full())
        .spawn()
        .unwrap();
    web.wait_for_requests(4).await;
    signals::send(producer.id(), "TERM").unwrap();
    assert_eq!(producer.wait().unwrap().code(), Some(0));
    assert!(world.topic_ends() >= 4);
}
