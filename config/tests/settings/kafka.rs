//! Certificates, logins and options of the Kafka connection.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use crate::support::{Folder, certificate, folder};
use sitewatch_config::{Role, Sasl, Secret, TokenSource};

const MTLS: &str = "kafka: { ca: ca.pem, cert: a.cert, key: a.key }";

fn mtls() -> Folder {
    let (cert, key) = certificate();
    folder()
        .file("ca.pem", &cert)
        .file("a.cert", &cert)
        .file("a.key", &key)
        .file("sitewatch.yaml", MTLS)
}

#[test]
fn new_content_under_an_old_name_is_a_change() {
    let folder = mtls();
    let before = folder.load();
    assert!(before.kafka == folder.load().kafka);
    let (cert, key) = certificate();
    for (name, text) in [("ca.pem", &cert), ("a.cert", &cert), ("a.key", &key)] {
        let before = folder.try_load();
        fs::write(folder.path().join(name), text).unwrap();
        let after = folder.try_load();
        // Between the certificate and its key nothing loads at all.
        assert!(
            before.map(|s| s.kafka).ok() != after.map(|s| s.kafka).ok(),
            "{name}"
        );
    }
    assert!(before.kafka != folder.load().kafka);
}

#[test]
fn the_files_of_options_count_too() {
    let folder = mtls();
    let path = folder.path().join("a.key");
    let text = format!(
        "kafka: {{ options: {{ ssl.key.location: '{}' }} }}",
        path.display()
    );
    fs::write(folder.path().join("sitewatch.yaml"), text).unwrap();
    let before = folder.load();
    fs::write(&path, certificate().1).unwrap();
    assert!(before.kafka != folder.load().kafka);
    fs::remove_file(&path).unwrap();
    let problem = folder.problems().remove(0);
    assert!(problem.contains("a.key (no such file)"), "{problem}");
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let folder = mtls();
    let whole = fs::read_to_string(folder.path().join("a.cert")).unwrap();
    let refused = |name: &str, text: &str, says: &str| {
        let path = folder.path().join(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let problems = folder.problems();
        assert!(problems[0].contains(says), "{problems:?}");
        fs::write(&path, before).unwrap();
    };
    for (name, key) in [("ca.pem", "ca"), ("a.cert", "cert")] {
        let says = format!("kafka.{key}: found \"{name}\" (a file that is not valid PEM)");
        refused(name, &whole[..whole.len() / 2], &says);
        let says = format!("kafka.{key}: found \"{name}\" (a file without a certificate)");
        refused(name, "", &says);
    }
    let other = "kafka.key: found \"a.key\" (the key of another certificate)";
    refused("a.key", &certificate().1, other);
    refused("a.cert", &certificate().0, other);
    let none = "kafka.key: found \"a.key\" (a file without a private key)";
    refused("a.key", "", none);
}

#[test]
fn a_certificate_that_has_expired_is_told_but_not_refused() {
    let (folder, now) = (mtls(), SystemTime::now());
    assert_eq!(folder.load().warnings(now), [""; 0]);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let cert = parameters.self_signed(&key).unwrap().pem();
    fs::write(folder.path().join("a.cert"), cert).unwrap();
    fs::write(folder.path().join("a.key"), key.serialize_pem()).unwrap();
    let warnings = folder.load().warnings(now);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("kafka.cert: the certificate in ")
            && warnings[0].ends_with("a.cert has expired at 2020-01-01T00:00:00Z"),
        "{warnings:?}"
    );
}

#[test]
fn what_is_turned_off_is_told() {
    let off = "kafka: { tls: true, options: { ssl.endpoint.identification.algorithm: none, enable.ssl.certificate.verification: false } }";
    let warnings = folder().file("sitewatch.yaml", off).load();
    let warnings = warnings.warnings(SystemTime::now());
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let plain = "kafka: { sasl: { mechanism: PLAIN, username: a, password: b } }";
    let warnings = folder().file("sitewatch.yaml", plain).load();
    let warnings = warnings.warnings(SystemTime::now());
    assert!(warnings[0].contains("in the clear"), "{warnings:?}");
}

#[test]
fn passwords_are_read_from_where_they_are_kept() {
    let folder = folder()
        .file("password", "from a file\n")
        .env("WORD", "from a variable")
        .file(
            "sitewatch.yaml",
            "kafka: { sasl: { mechanism: PLAIN, username: '${WORD}', password: 'file:password' },
              options: { sasl.oauthbearer.client.secret: '${WORD}', client.rack: '${WORD}' } }",
        );
    let kafka = folder.load().kafka;
    let Some(Sasl::Password {
        username, password, ..
    }) = &kafka.sasl
    else {
        panic!("{:?}", kafka.sasl)
    };
    assert_eq!(
        (username.as_str(), password.reveal()),
        ("from a variable", "from a file")
    );
    let option = |name| kafka.options.get(name).map(Secret::reveal);
    assert_eq!(
        option("sasl.oauthbearer.client.secret"),
        Some("from a variable")
    );
    assert_eq!(
        option("client.rack"),
        Some("${WORD}"),
        "no secret, so taken as it is"
    );
    fs::write(folder.path().join("password"), "another").unwrap();
    assert!(kafka != folder.load().kafka);
}

#[test]
fn a_token_comes_from_a_file_or_a_program() {
    let sasl = |text: &str| {
        let folder = folder()
            .env("WORD", "CANARY")
            .file(
                "etc/a.yaml",
                &format!("kafka: {{ sasl: {{ mechanism: oauthbearer, {text} }} }}"),
            )
            .config("etc/a.yaml");
        let sasl = folder.load().kafka.sasl;
        (folder.path().join("etc"), sasl)
    };
    let (etc, source) = sasl("token_file: token");
    assert_eq!(
        source,
        Some(Sasl::Token(TokenSource::File(etc.join("token"))))
    );
    for (words, program) in [
        ("./get", "etc/./get"),
        ("get", "get"),
        ("/bin/get", "/bin/get"),
    ] {
        let (etc, source) = sasl(&format!(
            "token_command: [{words}, '--for', 'a b', '${{WORD}}']"
        ));
        let Some(Sasl::Token(TokenSource::Command(command))) = source else {
            panic!("{source:?}")
        };
        assert!(
            command.program == etc.parent().unwrap().join(program)
                || command.program.as_os_str() == program
        );
        let arguments: Vec<_> = command.arguments.iter().map(Secret::reveal).collect();
        assert_eq!(arguments, ["--for", "a b", "CANARY"]);
        assert_eq!(command.timeout, Duration::from_secs(10));
        assert!(!format!("{command:?}").contains("CANARY"));
    }
}

#[test]
fn a_producer_does_not_look_at_the_database_s_url() {
    let folder = folder().env("POSTGRES_URL", "not even a URL").file(
        "sitewatch.yaml",
        "kafka: { brokers: a }\nsites: [{ url: 'http://a/' }]",
    );
    let settings = folder.load_for(Role::Producer).unwrap();
    assert_eq!((settings.postgres.url, settings.unused.len()), (None, 1));
    assert!(folder.load_for(Role::Consumer).is_err());
}

/// Reads one option; returns why it is refused, if it is.
fn refusal(option: &str, value: &str) -> Option<String> {
    let settings = format!("kafka: {{ options: {{ {option}: '{value}' }} }}");
    let problems = folder()
        .file("sitewatch.yaml", &settings)
        .try_load()
        .err()?;
    Some(problems.to_string())
}

#[test]
fn an_option_with_which_the_node_can_not_work_is_refused_under_each_of_its_names() {
    for (option, value, says) in [
        ("max.in.flight", "10", "1 to 5"),
        ("max.in.flight.requests.per.connection", "6", "1 to 5"),
        ("message.send.max.retries", "0", "1 or more"),
        ("retries", "0", "1 or more"),
        (
            "partition.assignment.strategy",
            "range",
            "cooperative-sticky",
        ),
        (
            "partition.assignment.strategy",
            "range,cooperative-sticky",
            "cooperative-sticky",
        ),
        ("group.protocol", "consumer", "needs that protocol"),
        ("transactional.id", "t", "nothing would be sent"),
        ("acks", "1", "all replicas"),
        ("topic.acks", "1", "all replicas"),
        ("topic.request.required.acks", "0", "all replicas"),
        (
            "topic.message.timeout.ms",
            "5000",
            "how long a message is retried",
        ),
        ("auto.commit.enable", "false", "an offset is committed"),
        ("delivery.report.only.error", "true", "each delivery"),
        (
            "queue.buffering.max.messages",
            "10",
            "kafka.queue.max_messages",
        ),
        ("queue.buffering.max.kbytes", "10", "kafka.queue.max_kbytes"),
        (
            "queue.buffering.backpressure.threshold",
            "5",
            "idempotently",
        ),
        ("queuing.strategy", "lifo", "fifo"),
        ("partitioner", "random", "by the key"),
        ("plugin.library.paths", "x.so", "loads no library"),
        ("statistics.interval.ms", "0", "whether Kafka answers"),
        ("enable.partition.eof", "true", "an error"),
        ("offset.store.path", "/tmp/o", "in the database"),
        ("topic.blacklist", ".*", "kafka.topic"),
        ("api.version.request", "false", "idempotently"),
    ] {
        let told = refusal(option, value).unwrap_or_else(|| panic!("{option}: {value}"));
        let start = format!("kafka.options.{option}: found ");
        assert!(
            told.contains(&start) && told.contains(says),
            "{option}: {told}"
        );
    }
    for (option, value) in [
        ("max.in.flight", "5"),
        ("retries", "1000"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("group.protocol", "classic"),
        ("enable.gapless.guarantee", "true"),
        ("partitioner", "murmur2_random"),
        ("topic.metadata.refresh.interval.ms", "20000"),
        ("queue.buffering.max.ms", "5"),
        ("isolation.level", "read_uncommitted"),
        ("client.rack", "a"),
    ] {
        assert_eq!(refusal(option, value), None, "{option}: {value}");
    }
    let twice = "kafka: { options: { linger.ms: 5, queue.buffering.max.ms: 6 } }";
    let problems = folder().file("sitewatch.yaml", twice).problems().join(" ");
    assert!(problems.contains("another name of linger.ms"), "{problems}");
}
