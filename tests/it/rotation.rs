//! Certificates and passwords are replaced while a node runs: a SIGHUP takes over what is whole, and refuses what is not.

use std::fs;

use crate::support::{Node, Web, World, required, scram_password};

const ROWS: &str = "SELECT count(*) FROM checks WHERE outcome = 'up'";
const TAKEN_OVER: &str = "settings reloaded";
const REFUSED: &str = "settings not reloaded, nothing has changed";

fn settings(web: &Web, kafka: &str) -> String {
    format!(
        "kafka: {{ {kafka} }}\ndefaults: {{ interval: 1s }}\nsites: [{{ name: up, url: '{}' }}]\n",
        web.url("/up")
    )
}

fn both(world: &World, web: &Web, kafka: &str, listener: &str) -> [Node; 2] {
    let broker = required(listener);
    let environment = [("KAFKA_SERVER", broker.as_str())];
    ["producer", "consumer"].map(|role| world.node_with(role, &settings(web, kafka), &environment))
}

async fn reload(nodes: &[Node; 2], says: &str) {
    for node in nodes {
        let times = node.log().matches(says).count();
        node.signal("HUP");
        node.wait_for_log_times(says, times + 1).await;
    }
}

/// Waits until rows have come that were not there yet.
async fn more_rows(world: &World) {
    let rows = world.number_so_far(ROWS).await;
    world.wait_for("more rows", ROWS, rows + 3).await;
}

const MTLS: &str = "ca: ca.pem, cert: service.cert, key: service.key";

#[actix_rt::test]
async fn a_new_certificate_is_taken_over_whole_and_nothing_is_lost() {
    let (world, web) = (World::new("rotate").await, Web::start());
    world.bring(&["ca.pem", "service.cert", "service.key"]);
    let mut nodes = both(&world, &web, MTLS, "SITEWATCH_TEST_KAFKA_MTLS");
    more_rows(&world).await;

    // As it is while somebody copies: a half of a file, then a certificate whose key is still on its way.
    let path = world.folder.path().join("service.cert");
    let old = fs::read(&path).unwrap();
    fs::write(&path, &old[..old.len() / 2]).unwrap();
    reload(&nodes, REFUSED).await;
    world.put("next.cert", "service.cert");
    reload(&nodes, REFUSED).await;
    for node in &nodes {
        let log = node.log();
        assert!(
            log.contains("kafka.cert: found \"service.cert\" (a file that is not valid PEM)"),
            "{log}"
        );
        assert!(
            log.contains("kafka.key: found \"service.key\" (the key of another certificate)"),
            "{log}"
        );
    }
    more_rows(&world).await;

    world.put("next.key", "service.key");
    reload(&nodes, TAKEN_OVER).await;
    for (node, does) in nodes.iter().zip(["connecting anew", "reading anew"]) {
        node.wait_for_log(does).await;
    }
    more_rows(&world).await;

    // The same files again are no change.
    reload(&nodes, TAKEN_OVER).await;
    for (node, does) in nodes.iter_mut().zip(["connecting anew", "reading anew"]) {
        assert_eq!(node.log().matches(does).count(), 1, "{}", node.log());
        assert_eq!(node.stop(), Some(0));
    }
    world.assert_complete(1.0).await;
}

/// That the files on the disk are the ones in use shows when one of them is not let in.
#[actix_rt::test]
async fn what_is_on_the_disk_is_what_the_broker_sees_after_a_reload() {
    let (world, web) = (World::new("in_use").await, Web::start());
    world.bring(&["ca.pem", "service.cert", "service.key"]);
    let nodes = both(&world, &web, MTLS, "SITEWATCH_TEST_KAFKA_MTLS");
    more_rows(&world).await;
    let replace = |name: &str| {
        world.put(&format!("{name}.cert"), "service.cert");
        world.put(&format!("{name}.key"), "service.key");
    };
    replace("foreign");
    reload(&nodes, TAKEN_OVER).await;
    for node in &nodes {
        node.wait_for_log("Kafka can't be reached, trying on").await;
    }
    replace("next");
    reload(&nodes, TAKEN_OVER).await;
    more_rows(&world).await;
}

#[actix_rt::test]
async fn a_password_in_a_file_is_rotated_and_nothing_is_lost() {
    let (world, web) = (World::new("password").await, Web::start());
    world.bring(&["ca.pem"]);
    let (mechanism, user) = ("SCRAM-SHA-256", &world.topic);
    let password = |text: &str| {
        scram_password(mechanism, user, text);
        fs::write(world.folder.path().join("password"), format!("{text}\n")).unwrap();
    };
    password("first-canary");
    let kafka = format!(
        "ca: ca.pem, sasl: {{ mechanism: {mechanism}, username: {user}, password: 'file:password' }}"
    );
    let mut nodes = both(&world, &web, &kafka, "SITEWATCH_TEST_KAFKA_SASL");
    more_rows(&world).await;
    password("second-canary");
    reload(&nodes, TAKEN_OVER).await;
    for (node, does) in nodes.iter().zip(["connecting anew", "reading anew"]) {
        node.wait_for_log(does).await;
    }
    // Whoever connects from here on needs the second password: the broker has forgotten the first one.
    more_rows(&world).await;
    for node in &mut nodes {
        assert_eq!(node.stop(), Some(0));
        let log = node.log();
        assert!(
            !log.contains("canary") && !log.contains("can't be reached"),
            "{log}"
        );
    }
    world.assert_complete(1.0).await;
}

#[actix_rt::test]
async fn what_only_librdkafka_can_refuse_is_refused_before_it_ends_a_client_that_works() {
    let (world, web) = (World::new("trial").await, Web::start());
    let mut nodes = both(&world, &web, "", "KAFKA_SERVER");
    more_rows(&world).await;
    for (options, says) in [
        (
            "no.such.pasword: canary",
            "librdkafka has no property no.such.pasword",
        ),
        (
            "compression.codec: canary",
            "librdkafka does not take the value of compression.codec",
        ),
        ("ssl.key.pem: canary", ""),
    ] {
        for node in &nodes {
            fs::write(
                &node.file,
                settings(&web, &format!("tls: true, options: {{ {options} }}")),
            )
            .unwrap();
        }
        reload(&nodes, REFUSED).await;
        for node in &mut nodes {
            node.wait_for_log(says).await;
            let log = node.log();
            assert!(node.runs() && !log.contains("canary"), "{log}");
        }
        more_rows(&world).await;
    }
    for node in &mut nodes {
        assert_eq!(node.stop(), Some(0));
    }
    world.assert_complete(1.0).await;
}
