//! `check`: its picture, its message, its flags, and how it ends.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use super::run::{check, program, run, run_with};
use crate::scripted::{
    Authority, MS, Script, Scripts, Tls, closed_port, dns, encoded, h2, http, proxy,
};

/// Answers after 60 ms.
fn slow() -> Script {
    http::phases(http::Phases {
        before_head: 60 * MS,
        ..http::Phases::default()
    })
}

fn message(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[actix_rt::test]
async fn the_exit_code_tells_the_outcome() {
    let server = Scripts::new()
        .path("/up", http::ok("all is well"))
        .path("/slow", slow())
        .path("/broken", http::status(500))
        .start();
    check(&server.url("/up"), &[]).ended(0).says(&[
        "/up is UP\n",
        "status 200, HTTP/1.1, 11 bytes of body, from 127.0.0.1",
    ]);
    check(&server.url("/up"), &["--limits", "total=0s"])
        .ended(2)
        .complains(&["--limits"]);
    check(&server.url("/slow"), &["--limits", "total=50ms"])
        .ended(1)
        .says(&["/slow is DEGRADED: too_slow: total took "]);
    check(&server.url("/broken"), &[])
        .ended(1)
        .says(&["/broken is DOWN: status_mismatch: "]);
    check(&format!("http://{}/", closed_port()), &[])
        .ended(1)
        .says(&["connect_refused: 127.0.0.1:"]);
    // An own fault: nothing is said of the site.
    check(&server.url("/up"), &["--source-address", "203.0.113.9"])
        .ended(2)
        .says(&["is UNKNOWN: internal_error: "]);
    run(&["check", "not a URL"])
        .ended(2)
        .complains(&["not a URL"]);
    run(&["check", &server.url("/up"), "--expect-status", "200"])
        .ended(64)
        .complains(&["--expected-status"]);
    for (flag, value, words) in [
        (
            "--retries",
            "-1",
            "--retries: found \"-1\"; expected a whole number from 0 to 10",
        ),
        ("--header", "nocolon", "--header: found a text without `:`"),
        ("--watch", "0s", "at least 100ms"),
        ("--config", "none", "none: found no such file"),
    ] {
        let ran = check(&server.url("/up"), &[flag, value]).complains(&[words]);
        assert_eq!(
            ran.code,
            Some(if flag == "--watch" { 64 } else { 2 }),
            "{flag}"
        );
    }
    run(&["check"]).ended(64);
    run(&["chekc"]).ended(64).complains(&["check"]);
}

#[actix_rt::test]
async fn the_picture_shows_hops_phases_certificates_and_what_was_expected() {
    let authority = Authority::new();
    let last = Scripts::new()
        .otherwise(slow())
        .tls(Tls::with(&authority.expires_in(20)))
        .start();
    let first = http::redirect(&last.url("/there")).serve();
    let ca = authority.ca_file();
    let ran = check(
        &first.url("/here"),
        &[
            "--ca",
            ca.to_str().unwrap(),
            "--body-matches",
            "nowhere",
            "--min-cert-days",
            "14",
            "--max-redirects",
            "1",
            "--capture-bytes",
            "10",
        ],
    )
    .ended(1);
    let picture = ran.out;
    let places: Vec<usize> = [
        &format!("/here is DOWN at {}: body_mismatch: ", last.url("/there")),
        "  status 200, HTTP/1.1, TLS 1.3, ",
        &format!("  302 {}\n    connect", first.url("/here")),
        &format!("  200 {}\n    connect", last.url("/there")),
        "\n    tls ",
        "\n    total ",
        "  certificates\n",
        "(20 days), issued by ",
        "  expectations\n",
        "    ✓ min_cert_days 14\n    ✓ expected_status 200-299\n",
        "    ✗ body_matches nowhere\n      nothing in 11 bytes of body matches nowhere; the body begins with ",
        "  captured",
    ]
    .iter()
    .map(|part| {
        picture
            .find(part)
            .unwrap_or_else(|| panic!("no {part:?} in\n{picture}"))
    })
    .collect();
    assert!(places.is_sorted(), "{places:?}\n{picture}");
    // The server's wait is by far the longest bar.
    let longest = picture
        .lines()
        .max_by_key(|line| line.matches('█').count())
        .unwrap();
    assert!(longest.trim_start().starts_with("ttfb"), "{picture}");
    assert!(!picture.contains('\x1b'), "colours are for terminals");
}

#[actix_rt::test]
async fn the_message_is_the_one_that_goes_to_kafka() {
    let server = http::status(500).serve();
    let ran = check(
        &server.url("/"),
        &["--json", "--retries", "1", "--retry-delay", "0s"],
    );
    let message = message(&ran.ended(1).out);
    for (key, value) in [
        ("v", Value::from(1)),
        ("outcome", "down".into()),
        ("error", "status_mismatch".into()),
        ("status", 500.into()),
        ("attempts", 2.into()),
    ] {
        assert_eq!(message[key], value, "{key} in {message}");
    }
    assert_eq!(server.requests().len(), 2);
}

/// Each flag of a request changes what the server gets.
#[actix_rt::test]
async fn flags_of_the_request() {
    let server = http::ok("hi").serve();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, "from a file").unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "T\n").unwrap();
    let from_token = format!("file:{}", token.display());
    for (flags, header, value, body) in [
        (&["--method", "OPTIONS"][..], "content-length", "0", ""),
        (
            &["--header", "X-One: a", "--header", "x-two:b"],
            "x-two",
            "b",
            "",
        ),
        (
            &["--header", "x-both: a", "--header", "x-both: b"],
            "x-both",
            "a",
            "",
        ),
        (
            &["--method", "POST", "--body", "a b"],
            "content-length",
            "3",
            "a b",
        ),
        (
            &["--method", "PUT", "--body-file", file.to_str().unwrap()],
            "content-length",
            "11",
            "from a file",
        ),
        (
            &["--method", "POST", "--json-body", r#"{"a": [1]}"#],
            "content-type",
            "application/json",
            r#"{"a":[1]}"#,
        ),
        (
            &["--method", "POST", "--form", "a=b c,d=e"],
            "content-type",
            "application/x-www-form-urlencoded",
            "a=b+c&d=e",
        ),
        (
            &["--basic-auth", "me:p:w"],
            "authorization",
            "Basic bWU6cDp3",
            "",
        ),
        (
            &["--bearer-token", &from_token],
            "authorization",
            "Bearer T",
            "",
        ),
    ] {
        check(&server.url("/"), flags).ended(0);
        let request = server.requests().pop().unwrap();
        assert_eq!(
            request.header(header).unwrap_or_default(),
            value,
            "{flags:?}"
        );
        assert_eq!(String::from_utf8_lossy(&request.body), body, "{flags:?}");
        if let ["--method", method, ..] = flags {
            assert_eq!(request.method(), *method);
        }
    }
    let tokens = http::json(r#"{"access_token": "T"}"#).serve();
    let oauth2 = format!("token_url={},client_id=me,client_secret=s", tokens.url("/"));
    check(&server.url("/"), &["--oauth2", &oauth2]).ended(0);
    let request = server.requests().pop().unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer T"));
    let both = server.requests();
    assert!(
        both.iter()
            .any(|request| request.headers("x-both") == ["a", "b"])
    );
}

/// Each flag of a connection leads by another way.
#[actix_rt::test]
async fn flags_of_the_way() {
    let authority = Authority::new();
    let node = authority.client("node");
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (
        path(&authority.ca_file()),
        path(&node.cert_file),
        path(&node.key_file),
    );
    let strict = http::ok("hi").serve_tls(Tls::with(&authority.good()).clients_of(&authority));
    check(
        &strict.url("/"),
        &["--ca", &ca, "--cert", &cert, "--key", &key],
    )
    .ended(0);
    check(&strict.url("/"), &["--ca", &ca])
        .ended(1)
        .says(&["the server asks for a client certificate"]);
    let named = authority.certificate(&["named.example"], -1, 10);
    let named = http::ok("hi").serve_tls(Tls::with(&named));
    check(
        &named.url("/"),
        &["--ca", &ca, "--server-name", "named.example"],
    )
    .ended(0);
    check(&named.url("/"), &["--insecure-skip-verify"]).ended(0);
    check(&named.url("/"), &["--ca", &ca]).ended(1).says(&[
        "is DOWN: cert_invalid: the certificate is not for 127.0.0.1, but for named.example\n",
        "  certificates\n    CN=named.example\n",
    ]);
    let old = http::ok("hi").serve_tls(Tls::with(&authority.good()).only_1_2());
    check(&old.url("/"), &["--ca", &ca, "--min-tls-version", "1.3"])
        .ended(1)
        .says(&["✗ min_tls_version 1.3"]);
    check(
        &old.url("/"),
        &["--ca", &ca, "--cert-issuer-matches", "Nobody"],
    )
    .ended(1)
    .says(&["✗ cert_issuer_matches Nobody"]);

    let modern = Script::new().accept().h2(h2::ok("by 2"));
    let modern = modern.serve_tls(Tls::with(&authority.good()).alpn(&["h2", "http/1.1"]));
    check(&modern.url("/"), &["--ca", &ca, "--http-version", "2"])
        .ended(0)
        .says(&["HTTP/2"]);

    let server = http::ok("hi").serve();
    let closed = proxy::Behaviour::new().refuse(403).start();
    let open = proxy::Behaviour::new().start();
    check(&server.url("/"), &["--proxy", &open.url()]).ended(0);
    assert_eq!(open.targets(), [server.address().to_string()]);
    check(&server.url("/"), &["--proxy", &closed.url()]).ended(1);
    check(
        &server.url("/"),
        &["--proxy", &format!("http://{}", closed_port())],
    )
    .ended(1)
    .says(&["connect_refused: the proxy 127.0.0.1:", "can't be reached"]);
    check(
        &server.url("/"),
        &["--proxy", &closed.url(), "--no-proxy", "10.0.0.1,127.0.0.1"],
    )
    .ended(0);
    check(&server.url("/"), &["--source-address", "127.0.0.9"]).ended(0);

    let names = dns::Zone::new()
        .name("both.example", dns::addresses(&["::1", "127.0.0.1"]))
        .start();
    let (dns, url) = (
        names.address().to_string(),
        server.url_for("both.example", "/"),
    );
    check(&url, &["--dns-servers", &dns])
        .ended(0)
        .says(&["tried before: [::1]"]);
    check(&url, &["--dns-servers", &dns, "--ip-version", "6"])
        .ended(1)
        .says(&["connect_refused"]);

    run(&["check", &server.url("/")])
        .ended(1)
        .says(&["blocked_address", "allow_private"]);
    run(&["check", &server.url("/"), "--allow-networks", "127.0.0.0/8"]).ended(0);
    check(&server.url("/"), &["--deny-networks", "127.0.0.1"]).ended(1);

    let away = http::redirect(&server.url("/")).serve();
    check(&away.url("/"), &["--follow-redirects=false"])
        .ended(1)
        .says(&["status_mismatch"]);
    check(&away.url("/"), &["--max-redirects", "0"])
        .ended(1)
        .says(&["redirect_error"]);
    check(&away.url("/"), &["--expect-final-url", &server.url("/")]).ended(0);
    // The hop that failed is named, and has no status of the one before.
    let broken = http::redirect(&named.url("/deep")).serve();
    let ran = check(&broken.url("/"), &["--ca", &ca]).ended(1).says(&[
        &format!("is DOWN at {}: cert_invalid", named.url("/deep")),
        "\n  ??? https://",
    ]);
    assert!(!ran.out.contains("  status 302"), "{}", ran.out);
    check(
        &away.url("/"),
        &["--expect-final-url", &server.url("/other")],
    )
    .ended(1)
    .says(&["✗ expect_final_url"]);
}

/// Each flag of an assertion, once kept and once not.
#[actix_rt::test]
async fn flags_of_what_is_expected() {
    let body = r#"{"status": "ok", "n": 3}"#;
    let server = http::answer(201, &[("x-version", "1.2")], body).serve();
    for (flag, right, wrong) in [
        ("--expected-status", "200,201", "200,3xx"),
        ("--body-matches", "\"n\": [0-9]", "\"n\": [a-z]"),
        ("--body-must-not-match", "error", "status"),
        (
            "--expect-json",
            "{$.status: {equals: ok}}",
            "{$.n: {greater_than: 3}}",
        ),
        (
            "--expect-headers",
            "{x-version: {matches: '^1'}}",
            "{x-version: absent}",
        ),
        ("--max-body-bytes", "1000", "10"),
    ] {
        check(&server.url("/"), &[flag, right]).ended(0);
        let ran = check(&server.url("/"), &[flag, wrong]).ended(1);
        assert!(
            ran.out.contains('✗') || flag == "--max-body-bytes",
            "{flag}\n{}",
            ran.out
        );
    }
    let slow = slow().serve();
    check(&slow.url("/"), &["--limits", "total=10s,ttfb=5s"]).ended(0);
    check(&slow.url("/"), &["--limits", "total=10s,ttfb=50ms"])
        .ended(1)
        .says(&["✓ limits total 10s", "✗ limits ttfb 50ms"]);
    let stuck = http::no_answer().serve();
    check(&stuck.url("/"), &["--timeout", "200ms"])
        .ended(1)
        .says(&["ttfb_timeout: no answer within 200ms"]);
    let packed = http::encoded("zstd", encoded::zstd("all is well")).serve();
    check(&packed.url("/"), &["--body-matches", "^all is well$"]).ended(0);
}

#[actix_rt::test]
async fn each_address_is_shown_by_itself_and_the_worst_decides() {
    let server = http::ok("hi").serve();
    let names = dns::Zone::new()
        .name("each.example", dns::addresses(&["127.0.0.1", "127.0.0.7"]))
        .start();
    let (url, dns) = (
        server.url_for("each.example", "/"),
        names.address().to_string(),
    );
    let flags = ["--resolve", "each", "--dns-servers", &dns];
    let ran = check(&url, &flags).ended(1);
    ran.says(&[
        &format!("{url} at 127.0.0.1 is UP\n"),
        &format!("\n\n{url} at 127.0.0.7 is DOWN: connect_refused: "),
    ]);
    let ran = check(&url, &[&flags[..], &["--json"]].concat()).ended(1);
    let sites: Vec<_> = ran
        .out
        .lines()
        .map(|line| message(line)["site"].as_str().unwrap().to_owned())
        .collect();
    let ends: Vec<_> = sites
        .iter()
        .map(|site| site.rsplit_once('@').unwrap().1)
        .collect();
    assert_eq!(ends, ["127.0.0.1", "127.0.0.7"]);
}

#[actix_rt::test]
async fn watching_goes_on_and_keeps_the_connection_where_it_should() {
    let server = Scripts::new()
        .otherwise(http::request().send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    for (flag, connections) in [("--keep-alive=false", 3), ("--keep-alive", 1)] {
        let server = server.clone().start();
        let folder = tempfile::tempdir().unwrap();
        let url = server.url("/");
        let mut command = program(
            folder.path(),
            &["check", &url, "--allow-private", "--watch", "100ms", flag],
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
        let lines = BufReader::new(command.stdout.take().unwrap()).lines();
        let lines: Vec<String> = lines.take(3).map(Result::unwrap).collect();
        // Its output is closed: it ends by itself.
        let ended = tokio::task::spawn_blocking(move || command.wait());
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        assert_eq!(ended.unwrap().unwrap().unwrap().code(), Some(0));
        for line in &lines {
            assert!(line.contains("Z  UP  127.0.0.1  200  "), "{line}");
        }
        assert!(
            (connections..connections + 3).contains(&server.connections())
                && (connections > 1) == (server.connections() > 1),
            "{flag}: {} connections",
            server.connections()
        );
    }
}

#[actix_rt::test]
async fn a_site_of_the_settings_is_checked_by_its_name() {
    let server = http::ok("hi").serve();
    let settings = format!(
        "defaults: {{ allow_private: true }}\nsites: [{{ name: mine, url: '{}', headers: {{ x-key: '${{KEY}}' }} }}]\n",
        server.url("/")
    );
    let files = [
        ("own.yaml", settings.as_str()),
        ("sitewatch.yaml", &settings),
    ];
    let with_key = [("KEY", "k")];
    for arguments in [
        &["check", "--site", "mine"][..],
        &["check", "--config", "own.yaml", "--site", "mine"],
        &["--config", "own.yaml", "check", "--site", "mine"],
    ] {
        run_with(arguments, &files, &with_key).ended(0);
        assert_eq!(server.requests().pop().unwrap().header("x-key"), Some("k"));
    }
    run_with(&["check", "--site", "mien"], &files, &with_key)
        .ended(2)
        .complains(&["no site is named \"mien\"; there are 1: mine"]);
    run_with(&["check", "--site", "mine"], &files, &[])
        .ended(2)
        .complains(&["KEY"]);
    run_with(
        &["check", "--site", "mine", "--timeout", "1s"],
        &files,
        &with_key,
    )
    .ended(2)
    .complains(&["--timeout goes with a URL"]);
    run_with(
        &["check", "--config", "none.yaml", "--site", "mine"],
        &files,
        &with_key,
    )
    .ended(2)
    .complains(&["none.yaml"]);
}
