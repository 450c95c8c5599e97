//! Several servers: which one is used, and what a failover costs.

use super::{QUICK, ROWS, number, payloads, wait_for};
use crate::{
    cluster::Cluster,
    support::{World, required},
};

fn pair(one: &Cluster, two: &Cluster) -> String {
    format!(
        "postgres://sitewatch:canary-password@127.0.0.1:{},127.0.0.1:{}/sitewatch?target_session_attrs=read-write&connect_timeout=2",
        one.port, two.port
    )
}

#[actix_rt::test]
async fn a_failover_to_a_synchronous_standby_loses_and_doubles_nothing() {
    let world = World::new("failover").await;
    world.create_topic(1).await;
    let primary = Cluster::new("primary").await;
    let standby = primary.standby("standby");
    let db = primary.connect().await;
    for statement in [
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ] {
        db.batch_execute(statement).await.unwrap();
    }
    // The standby comes first: it is passed over.
    let url = pair(&standby, &primary);
    let settings = format!("node: {{ log: {{ level: debug }} }}\n{QUICK}");
    let mut consumer = world.node_with("consumer", &settings, &[("POSTGRES_URL", &url)]);
    world.produce(payloads("a", 0..1000));
    wait_for(&db, &consumer, ROWS, 500).await;
    primary.kill();
    world.produce(payloads("b", 0..1000));
    consumer.wait_for_log("PostgreSQL can't be used").await;
    // The first reason may be the connection that broke; each server's own is told at the tries after it.
    for told in ["does not allow writes", "Connection refused"] {
        consumer.wait_for_log(told).await;
    }
    standby.promote();
    world.produce(payloads("c", 0..1000));
    let db = standby.connect().await;
    wait_for(&db, &consumer, ROWS, 3000).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(number(&db, ROWS).await, 3000);
    assert_eq!(number(&db, "SELECT next FROM kafka_offset").await, 3000);
    assert_eq!(number(&db, "SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(number(&db, "SELECT count(*) FROM kafka_gap").await, 0);
    assert!(
        !consumer.log().contains("canary-password"),
        "{}",
        consumer.log()
    );
}

#[actix_rt::test]
async fn servers_that_hang_or_have_another_name_are_passed_over() {
    let world = World::new("passed_over").await;
    // Connections to it come up, and nobody ever answers.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = hangs.local_addr().unwrap().port();
    let (shared, tls) = (required("POSTGRES_URL"), required("SITEWATCH_TEST_TLS"));
    let (_, port) = shared.rsplit_once(':').unwrap();
    let (port, _) = port.split_once('/').unwrap();
    let url = format!(
        "postgres://sitewatch@localhost:{hangs},127.0.0.1:{port},localhost:{port}/{}?sslmode=verify-full&sslrootcert={tls}/ca.pem&connect_timeout=1",
        world.topic
    );
    let consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    consumer.wait_for_log("PostgreSQL server in use").await;
    for told in [
        "takes connections, but has not answered within 2s".to_owned(),
        format!("server: localhost:{hangs}"),
        "not valid for".to_owned(),
        format!("server: 127.0.0.1:{port}"),
        format!("server: localhost:{port}"),
    ] {
        assert!(consumer.log().contains(&told), "{told}\n{}", consumer.log());
    }
}

#[actix_rt::test]
async fn what_an_asynchronous_standby_had_not_got_is_read_from_kafka_again() {
    let world = World::new("async_failover").await;
    world.create_topic(1).await;
    let primary = Cluster::new("async-primary").await;
    let standby = primary.standby("async-standby");
    let db = primary.connect().await;
    let url = pair(&primary, &standby);
    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    world.produce(payloads("a", 0..1000));
    wait_for(&db, &consumer, ROWS, 1000).await;
    let replica = standby.connect().await;
    wait_for(&replica, &consumer, ROWS, 1000).await;
    // From here on the standby hears nothing more.
    standby.stop();
    world.produce(payloads("b", 0..1000));
    wait_for(&db, &consumer, ROWS, 2000).await;
    primary.kill();
    standby.start();
    standby.promote();
    let db = standby.connect().await;
    assert_eq!(number(&db, ROWS).await, 1000, "rows are lost");
    assert_eq!(
        number(&db, "SELECT next FROM kafka_offset").await,
        1000,
        "and the offset with them"
    );
    // The next message makes the consumer notice: what it follows on is not stored.
    world.produce(payloads("c", 0..1));
    wait_for(&db, &consumer, ROWS, 2001).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(number(&db, ROWS).await, 2001);
    assert_eq!(number(&db, "SELECT next FROM kafka_offset").await, 2001);
    assert_eq!(number(&db, "SELECT count(*) FROM kafka_gap").await, 0);
}
