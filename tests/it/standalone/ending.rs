//! A signal that comes while PostgreSQL starts: the process ends after it, and in order.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{Standalone, folder, postmaster, program};
use crate::support::{PATIENCE, Web, signals};

/// Makes the next start of this server take without end: a standby that nobody may ask, without a primary.
fn make_start_endless(cluster: &Path) {
    fs::write(cluster.join("standby.signal"), "").unwrap();
    let file = cluster.join("postgresql.auto.conf");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{settings}hot_standby = off\n")).unwrap();
}

/// Waits until another server than `before` has begun to start.
async fn begins(cluster: &Path, before: Option<u32>) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The state of a server that others may know of is in the file's last line.
        let text = fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
        if text.contains("starting") || text.contains("standby") {
            let process = postmaster(cluster);
            if Some(process) != before {
                return process;
            }
        }
        assert!(Instant::now() < deadline, "no server starts\n{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn assert_ended(cluster: &Path, server: u32) {
    let runs = Path::new("/proc").join(server.to_string()).exists();
    let file = cluster.join("postmaster.pid").exists();
    assert!(!runs, "the server runs on");
    assert!(!file, "the server was killed");
}

#[actix_rt::test]
async fn it_waits_for_the_end_of_a_server_that_starts() {
    let (folder, web) = (folder(), Web::start());
    let quick = [("SITEWATCH__NODE__DRAIN_TIMEOUT", "2s")];
    let mut node = Standalone::start(folder.path(), &web, false, &quick);
    node.rows(1).await;
    let cluster = node.cluster().await;
    let first = postmaster(&cluster);
    make_start_endless(&cluster);
    signals::send(first, "KILL").unwrap();
    // The start again.
    let again = begins(&cluster, Some(first)).await;
    signals::send(node.child.id(), "TERM").unwrap();
    // Without a database it can't store the messages that it may hold.
    let code = node.ends().await;
    assert!(matches!(code, Some(0 | 75)), "{code:?}\n{}", node.log());
    assert_ended(&cluster, again);

    // The first start.
    let mut node = Standalone::start(folder.path(), &web, false, &quick);
    let server = begins(&cluster, None).await;
    node.stop();
    assert_ended(&cluster, server);

    // A start for a command.
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut report = program(folder.path()).arg("report").spawn().unwrap();
        let server = begins(&cluster, None).await;
        signals::send(report.id(), name).unwrap();
        assert_eq!(report.wait().unwrap().code(), Some(code));
        assert_ended(&cluster, server);
    }
}

/// Ends the node by signals, though its server stands still; shows that the server was asked to end, too.
async fn ends_at_once(mut node: Standalone, cluster: &Path, server: u32) {
    signals::send(server, "STOP").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    // Two that come before the first is taken are one.
    while node.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it runs on\n{}", node.log());
        signals::send(node.child.id(), "TERM").unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.ends().await, Some(143), "{}", node.log());
    signals::send(server, "CONT").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while cluster.join("postmaster.pid").exists() {
        assert!(Instant::now() < deadline, "the server runs on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn a_second_signal_waits_for_no_server() {
    let (folder, web) = (folder(), Web::start());
    let mut node = Standalone::start(folder.path(), &web, false, &[]);
    node.rows(1).await;
    let cluster = node.cluster().await;
    let server = postmaster(&cluster);
    ends_at_once(node, &cluster, server).await;

    // While it starts.
    make_start_endless(&cluster);
    let node = Standalone::start(folder.path(), &web, false, &[]);
    let server = begins(&cluster, None).await;
    ends_at_once(node, &cluster, server).await;
}

#[actix_rt::test]
async fn a_signal_ends_a_start_that_waits_for_a_database_of_others() {
    let (folder, web) = (folder(), Web::start());
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://a@{}/a", silent.local_addr().unwrap());
    let mut node = Standalone::start(folder.path(), &web, false, &[("POSTGRES_URL", &url)]);
    let _held = silent.accept().unwrap();
    node.stop();
}
