//! Certificates, passwords and rights that let a consumer in or keep it out.

use std::{path::Path, process::Command, time::Duration};

use super::{QUICK, ROWS, make_roles, migrated, payloads};
use crate::{
    cluster::{Cluster, run},
    support::{World, required},
};

#[actix_rt::test]
async fn certificates_and_passwords_let_in_who_has_them() {
    let world = World::new("let_in").await;
    let cluster = Cluster::new("tls").await;
    let tls = required("SITEWATCH_TEST_TLS");
    let file = |name: &str| Path::new(&tls).join(name);
    for name in ["ca.pem", "postgres.cert", "postgres.key"] {
        cluster.give(&file(name), name);
    }
    let db = cluster.connect().await;
    for statement in [
        "CREATE ROLE scram SUPERUSER LOGIN PASSWORD 'right-canary'",
        "ALTER SYSTEM SET ssl_ca_file = 'ca.pem'",
        "ALTER SYSTEM SET ssl_cert_file = 'postgres.cert'",
        "ALTER SYSTEM SET ssl_key_file = 'postgres.key'",
        "ALTER SYSTEM SET ssl = on",
    ] {
        db.batch_execute(statement).await.unwrap();
    }
    cluster
        .let_in(
            "hostssl sitewatch scram 127.0.0.1/32 scram-sha-256\n\
             hostssl sitewatch sitewatch 127.0.0.1/32 cert clientcert=verify-full\n",
        )
        .await;
    let keys = world.folder.path();
    let copy = |name: &str, mode: &str| {
        run(Command::new("install")
            .args(["-m", mode])
            .arg(file(name))
            .arg(keys.join(name)));
    };
    copy("service.cert", "644");
    copy("service.key", "600");
    let url = |user: &str, more: &str| {
        format!(
            "postgres://{user}@localhost:{}/sitewatch?sslmode=verify-full&sslrootcert={}&hostaddr=127.0.0.1{more}",
            cluster.port,
            file("ca.pem").display()
        )
    };
    let node = |url: String| world.node_with("consumer", "node: {}\n", &[("POSTGRES_URL", &url)]);

    let refused = node(url("sitewatch", ""));
    refused.wait_for_log("PostgreSQL can't be used").await;
    for told in ["28000", "sslcert of postgres.url"] {
        assert!(refused.log().contains(told), "{told}\n{}", refused.log());
    }
    drop(refused);
    let both = "&sslcert=service.cert&sslkey=service.key";
    let known = node(url("sitewatch", both));
    known.wait_for_log("connected to PostgreSQL").await;
    assert!(!known.log().contains("others can read"), "{}", known.log());
    // A renewed certificate under the same name is a change; the same once more is none.
    known.signal("HUP");
    known.wait_for_log("settings reloaded").await;
    assert!(!known.log().contains("connecting anew"), "{}", known.log());
    let cert = std::fs::read_to_string(file("service.cert")).unwrap();
    std::fs::write(keys.join("service.cert"), format!("{cert}\n")).unwrap();
    known.signal("HUP");
    known.wait_for_log("connecting anew").await;
    drop(known);
    copy("service.key", "644");
    let exposed = node(url("sitewatch", both));
    exposed
        .wait_for_log("others can read the private key")
        .await;
    drop(exposed);
    run(Command::new("cp")
        .arg(file("kafka.key"))
        .arg(keys.join("service.key")));
    let other = node(url("sitewatch", both));
    other
        .wait_for_log("can't be used with the certificate")
        .await;
    assert!(other.log().contains("service.key"), "{}", other.log());
    drop(other);
    std::fs::write(
        keys.join("service.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let locked = node(url("sitewatch", both));
    locked.wait_for_log("the key is encrypted").await;
    drop(locked);

    let wrong = node(url("scram:guessed-canary", "&channel_binding=require"));
    wrong.wait_for_log("28P01").await;
    assert!(
        wrong.log().contains("see user and password"),
        "{}",
        wrong.log()
    );
    let right = node(url("scram:right-canary", "&channel_binding=require"));
    right.wait_for_log("connected to PostgreSQL").await;
    for log in [wrong.log(), right.log()] {
        assert!(!log.contains("-canary"), "{log}");
    }
}

#[actix_rt::test]
async fn a_right_that_was_taken_away_is_told_once_and_tried_for_with_growing_delays() {
    let world = migrated("revoked").await;
    let (role, web) = (format!("{}_c", world.topic), format!("{}_w", world.topic));
    make_roles(&world, &role, &web);
    let url = world
        .database_url
        .replacen("sitewatch:sitewatch@", &format!("{role}@"), 1);
    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    world.produce(payloads("a", 0..10));
    world.wait_for("rows", ROWS, 10).await;
    let revoke = format!("REVOKE INSERT ON check_result FROM {role}");
    world.db.batch_execute(&revoke).await.unwrap();
    world.produce(payloads("b", 0..10));
    consumer
        .wait_for_log("the owner of the tables can grant it (scripts/roles.sql)")
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log = consumer.log();
    let (told, connected) = (
        log.matches("PostgreSQL can't be used").count(),
        log.matches("connected to PostgreSQL").count(),
    );
    assert_eq!(told, 1, "{log}");
    // Undelayed it would be fifty.
    assert!((2..=12).contains(&connected), "{connected}\n{log}");
    let grant = format!("GRANT INSERT ON check_result TO {role}");
    world.db.batch_execute(&grant).await.unwrap();
    world.wait_for("rows", ROWS, 20).await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let clean = format!("DROP OWNED BY {role}, {web}; DROP ROLE {role}, {web}");
    world.db.batch_execute(&clean).await.unwrap();
}
