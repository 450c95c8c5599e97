//! What `scripts/demo` shows without the internet: the demo's own site in each state, and an incident that opens and closes.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::support::{World, free_port, signals};

/// A free port whose next one is free too.
fn two_free_ports() -> u16 {
    loop {
        let port = free_port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// The sites of `config/demo.yaml` that are on this machine, with the demo's own site at `port`.
fn settings(port: u16) -> String {
    let text = include_str!("../../config/demo.yaml");
    let (own, internet) = text.split_once("  # ---- on the internet").unwrap();
    assert!(!internet.contains("127.0.0.1"), "{internet}");
    own.replace("127.0.0.1:9465", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:9466", &format!("127.0.0.1:{}", port + 1))
        .replace("listen: 127.0.0.1:9464", "max_checks: 100")
}

#[actix_rt::test]
async fn the_demo_shows_each_state_without_the_internet_and_an_incident_that_opens_and_closes() {
    let world = World::new("demo").await;
    let folder = world.folder.path();
    let port = two_free_ports();
    fs::write(folder.join("sitewatch.yaml"), settings(port)).unwrap();
    let mut demo = tokio::process::Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .args(["--role", "standalone", "--demo-site", &port.to_string()])
        .current_dir(folder)
        .env("POSTGRES_URL", &world.database_url)
        .env_remove("KAFKA_SERVER")
        .env_remove("KAFKA_TOPIC")
        .env_remove("URL_CONFIG_FILE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("demo.log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for (site, outcome, error) in [
        ("demo works", "up", ""),
        ("demo is slow", "degraded", "too_slow"),
        ("demo is broken", "down", "status_mismatch"),
        ("demo says something else", "down", "body_mismatch"),
        ("demo refuses", "down", "connect_refused"),
        ("demo by turns", "up", ""),
        ("demo by turns", "degraded", "too_slow"),
        ("demo by turns", "down", "status_mismatch"),
        ("demo by turns", "down", "connect_refused"),
    ] {
        let rows = format!(
            "SELECT count(*) FROM checks
              WHERE site = '{site}' AND outcome = '{outcome}' AND coalesce(error, '') = '{error}'"
        );
        world
            .wait_for(&format!("{site}: {outcome} {error}"), &rows, 1)
            .await;
    }
    let closed =
        "SELECT count(*) FROM incidents WHERE site = 'demo by turns' AND closed IS NOT NULL";
    world.wait_for("a closed incident", closed, 1).await;
    signals::send(demo.id().unwrap(), "INT").unwrap();
    assert_eq!(
        demo.wait().await.unwrap().code(),
        Some(0),
        "{}",
        world.logs()
    );
}

#[test]
fn a_port_that_is_taken_is_named_and_no_other_role_has_the_site() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = |role: &str| {
        Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
            .args(["--role", role, "--site", "http://127.0.0.1:1/"])
            .args(["--demo-site", &port])
            .current_dir(folder.path())
            .env("KAFKA_SERVER", "127.0.0.1:1")
            .output()
            .unwrap()
    };
    let standalone = run("standalone");
    let told = String::from_utf8_lossy(&standalone.stderr).into_owned();
    assert_eq!(standalone.status.code(), Some(69), "{told}");
    assert!(
        told.contains(&format!("--demo-site: can't serve on 127.0.0.1:{port}")),
        "{told}"
    );
    let producer = run("producer");
    let told = String::from_utf8_lossy(&producer.stderr).into_owned();
    assert_eq!(producer.status.code(), Some(64), "{told}");
    assert!(
        told.contains("--demo-site is for --role standalone"),
        "{told}"
    );
}
