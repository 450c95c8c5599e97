//! The private PostgreSQL is started again when it ends by itself.

use std::fs;

use super::{Standalone, folder, postmaster};
use crate::support::{self, Web, signals};

#[actix_rt::test]
async fn a_killed_database_is_started_again_with_its_data() {
    let (folder, web) = (folder(), Web::start());
    let mut node = Standalone::start(folder.path(), &web, false, &[]);
    let mut rows = node.rows(2).await;
    let cluster = node.cluster().await;
    for times in 1..=2 {
        signals::send(postmaster(&cluster), "KILL").unwrap();
        rows = node.rows(rows + 3).await;
        let again = node
            .log()
            .matches("the private PostgreSQL runs again")
            .count();
        assert_eq!(again, times, "{}", node.log());
    }
    let said = "the private PostgreSQL failed, starting it again, delay_ms: ";
    assert!(node.log().contains(said), "{}", node.log());
    assert!(
        node.log().contains("it ended by itself (signal 9)"),
        "{}",
        node.log()
    );
    node.stop();
    assert!(!cluster.join("postmaster.pid").exists(), "it runs on");
}

#[actix_rt::test]
async fn a_killed_session_of_it_does_no_harm() {
    let (folder, web) = (folder(), Web::start());
    let mut node = Standalone::start(folder.path(), &web, false, &[]);
    let rows = node.rows(2).await;
    let client = support::connect(&node.url().await).await;
    let writers = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sitewatch-node'";
    let session: i32 = client.query(writers, &[]).await.unwrap()[0].get(0);
    signals::send(session.cast_unsigned(), "KILL").unwrap();
    node.rows(rows + 3).await;
    node.stop();
}

#[actix_rt::test]
async fn one_that_can_not_be_started_again_ends_the_process() {
    let (folder, web) = (folder(), Web::start());
    let few = [
        ("SITEWATCH__NODE__RESTART__MAX", "2"),
        ("SITEWATCH__NODE__DRAIN_TIMEOUT", "3s"),
    ];
    let mut node = Standalone::start(folder.path(), &web, false, &few);
    node.rows(1).await;
    let cluster = node.cluster().await;
    fs::rename(cluster.join("PG_VERSION"), cluster.join("gone")).unwrap();
    signals::send(postmaster(&cluster), "KILL").unwrap();
    assert_eq!(node.ends().await, Some(70), "{}", node.log());
    let said =
        "the private PostgreSQL failed more than 2 times within 1m (node.restart), at last: ";
    assert!(node.log().contains(said), "{}", node.log());
    assert!(
        node.log().contains("is not a valid data directory"),
        "{}",
        node.log()
    );
    // The checks that are on their way are finished and sent.
    let drained = "stopping: draining in order, reason: the private PostgreSQL failed more than 2";
    assert!(node.log().contains(drained), "{}", node.log());
}

#[actix_rt::test]
async fn a_start_that_fails_later_does_not_leave_it_running() {
    let (folder, web) = (folder(), Web::start());
    let taken = format!("127.0.0.1:{}", web.port);
    let listen = [("SITEWATCH__NODE__LISTEN", taken.as_str())];
    let mut node = Standalone::start(folder.path(), &web, false, &listen);
    assert_ne!(node.ends().await, Some(0));
    assert!(
        node.log().contains("Address already in use"),
        "{}",
        node.log()
    );
    let cluster = folder.path().join("sitewatch-data/postgres");
    assert!(cluster.join("PG_VERSION").exists(), "{}", node.log());
    assert!(!cluster.join("postmaster.pid").exists(), "it runs on");
}
