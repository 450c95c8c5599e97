//! What arrives at the server, and by which way.

use std::time::Duration;

use sitewatch_actors::{
    model::{CheckResult, ErrorKind},
    site::Parts,
};

use super::row::{self, Row, check_all, site, surroundings};
use crate::scripted::{Authority, MS, Script, Scripts, Server, Tls, dns, h2, http, proxy};

async fn check(url: &str, settings: &str) -> CheckResult {
    row::check(&site(url, settings), &surroundings())
        .await
        .result
}

/// The head of the last request, after a check that was up.
async fn head(server: &Server, settings: &str) -> String {
    let result = check(&server.url("/path?q=1"), settings).await;
    assert_eq!(result.error, None, "{settings}: {:?}", result.error_detail);
    server.requests().last().unwrap().head.to_ascii_lowercase()
}

#[actix_rt::test]
async fn requests_say_what_the_settings_say() {
    let server = http::ok("hi").serve();
    let has =
        |head: &str, line: &str| assert!(head.contains(&format!("{line}\r\n")), "{line}\n{head}");
    let plain = head(&server, "").await;
    has(&plain, "get /path?q=1 http/1.1");
    has(&plain, &format!("host: {}", server.address()));
    has(
        &plain,
        concat!("user-agent: sitewatch-node/", env!("CARGO_PKG_VERSION")),
    );
    has(&plain, "accept-encoding: gzip, br, zstd");
    let own = head(
        &server,
        "headers: { x-two: [a, b], host: other.example, user-agent: mine, accept-encoding: '' }",
    )
    .await;
    for line in [
        "x-two: a",
        "x-two: b",
        "host: other.example",
        "user-agent: mine",
    ] {
        has(&own, line);
    }
    assert!(
        !own.contains("accept-encoding") && own.matches("host: ").count() == 1,
        "{own}"
    );
    for (settings, kind, body) in [
        ("method: POST, body: 'a: b'", None, "a: b"),
        (
            "method: PUT, json: { b: 1, a: [x] }",
            Some("application/json"),
            r#"{"b":1,"a":[x]}"#,
        ),
        (
            "method: POST, form: { a: 'one & two', b: [1, 2] }",
            Some("application/x-www-form-urlencoded"),
            "a=one+%26+two&b=1&b=2",
        ),
        (
            "method: POST, json: 1, headers: { content-type: text/x }",
            Some("text/x"),
            "1",
        ),
    ] {
        let head = head(&server, settings).await;
        let request = server.requests().pop().unwrap();
        let sent = String::from_utf8_lossy(&request.body).replace("\"x\"", "x");
        assert_eq!(sent, body, "{settings}");
        assert_eq!(request.header("content-type"), kind, "{settings}");
        has(&head, &format!("content-length: {}", request.body.len()));
    }
    has(
        &head(&server, "basic_auth: { username: me, password: 'p:w' }").await,
        "authorization: basic bwu6cdp3",
    );
    has(
        &head(&server, "bearer_token: 'x-${TOKEN}'").await,
        "authorization: bearer x-from-env",
    );
    let with_user = server.url("/").replace("http://", "http://us%40er:pw@");
    assert_eq!(check(&with_user, "").await.url, server.url("/"));
    assert_eq!(
        server.requests().pop().unwrap().header("authorization"),
        Some("Basic dXNAZXI6cHc=")
    );
}

#[actix_rt::test]
async fn a_token_is_fetched_once_outside_of_the_measured_time() {
    let body = r#"{"access_token": "T", "token_type": "bearer", "expires_in": 3600}"#;
    let tokens = Script::new()
        .accept()
        .read_head()
        .read_body()
        .wait(150 * MS)
        .send(http::head(200, &[], Some(body.len())) + body)
        .close()
        .serve();
    let server = http::ok("hi").serve();
    let around = surroundings();
    let settings = format!(
        "oauth2: {{ token_url: '{}', client_id: me, client_secret: s&t, scopes: [a, b], audience: you }}",
        tokens.url("/token")
    );
    let site = site(&server.url("/"), &settings);
    for _ in 0..2 {
        let result = row::check(&site, &around).await.result;
        assert_eq!(result.error, None, "{:?}", result.error_detail);
        assert!(
            result.phases.total_us.unwrap() < 100_000,
            "{:?}",
            result.phases
        );
    }
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&asked[0].body),
        "grant_type=client_credentials&scope=a+b&audience=you"
    );
    assert_eq!(asked[0].header("authorization"), Some("Basic bWU6cyUyNnQ="));
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(sent, ["Bearer T", "Bearer T"]);
}

#[actix_rt::test]
async fn a_token_that_is_refused_is_fetched_again() {
    let tokens = http::answer(200, &[], r#"{"access_token": "T"}"#).serve();
    let server = Scripts::new()
        .connection(1, http::status(401))
        .otherwise(http::ok("hi"))
        .start();
    let settings = format!(
        "retries: 1, retry_delay: 0s, oauth2: {{ token_url: '{}', client_id: me, client_secret: s }}",
        tokens.url("/")
    );
    let result = check(&server.url("/"), &settings).await;
    assert_eq!(
        (result.error, result.attempts, tokens.requests().len()),
        (None, 2, 2)
    );
    let settings = "oauth2: { token_url: 'http://127.0.0.1:1/', client_id: me, client_secret: s }";
    let result = check(&server.url("/"), settings).await;
    assert_eq!(result.error.map(|error| error.as_str()), Some("send_error"));
    assert!(
        result
            .error_detail
            .unwrap()
            .contains("no OAuth2 token from 127.0.0.1: connect_refused")
    );
}

#[actix_rt::test]
async fn redirects_keep_and_drop_what_they_should() {
    let other = http::ok("hi").serve();
    for (status, method, then, with_body) in [
        (301, "POST", "GET", false),
        (302, "POST", "GET", false),
        (303, "PUT", "GET", false),
        (307, "POST", "POST", true),
        (308, "PUT", "PUT", true),
    ] {
        let server = Scripts::new()
            .path("/path?q=1", http::redirect_by(status, "/next"))
            .path("/path", http::redirect_by(status, "/next"))
            .otherwise(http::ok("hi"))
            .start();
        let settings =
            format!("method: {method}, body: hello, headers: {{ authorization: secret }}");
        let result = check(&server.url("/path"), &settings).await;
        assert_eq!(result.error, None, "{:?}", result.error_detail);
        assert_eq!((result.redirects, result.hops.len()), (Some(1), 1));
        assert_eq!(result.final_url, Some(server.url("/next")));
        let last = server.requests().pop().unwrap();
        assert_eq!(
            (last.method(), last.body.is_empty()),
            (then, !with_body),
            "{status}"
        );
        assert_eq!(last.header("authorization"), Some("secret"));

        let away = http::redirect_by(status, &other.url("/")).serve();
        let settings = format!(
            "method: {method}, headers: {{ authorization: secret, cookie: secret, host: mine.example, x-plain: left, accept-language: de }}"
        );
        check(&away.url("/"), &settings).await;
        let last = other.requests().pop().unwrap();
        assert_eq!(
            (last.header("authorization"), last.header("cookie")),
            (None, None)
        );
        assert_eq!(
            (last.header("x-plain"), last.header("host")),
            (None, Some(other.address().to_string().as_str()))
        );
        assert_eq!(last.header("accept-language"), Some("de"));
    }
    let server = http::redirect("/next").serve();
    let result = check(
        &server.url("/"),
        "follow_redirects: false, expected_status: 302",
    )
    .await;
    assert_eq!((result.error, result.redirects), (None, Some(0)));
}

#[actix_rt::test]
async fn ways_to_a_site() {
    let authority = Authority::new();
    let ca = format!("ca: {:?}", authority.ca_file());
    let client = authority.client("node");
    let identity = format!("cert: {:?}, key: {:?}", client.cert_file, client.key_file);
    let strict = || http::ok("hi").serve_tls(Tls::with(&authority.good()).clients_of(&authority));
    let wrong = http::ok("hi").serve_tls(Tls::with(&authority.certificate(
        &["named.example"],
        -1,
        10,
    )));
    let (target, both) = (http::ok("hi").serve(), strict());
    let open = proxy::Behaviour::new().start();
    let guarded = proxy::Behaviour::new().credentials("user", "pw").start();
    let closed = proxy::Behaviour::new().refuse(403).start();
    let modern = Script::new()
        .accept()
        .h2(h2::ok("by 2"))
        .read_head()
        .send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nby 1")
        .close();
    let modern = modern.serve_tls(Tls::with(&authority.good()).alpn(&["h2", "http/1.1"]));
    let zone = dns::Zone::new()
        .name("both.test", dns::addresses(&["::1", "127.0.0.1"]))
        .start();
    let names = format!("dns_servers: ['{}']", zone.address());
    let by_name = target.url_for("both.test", "/");
    let row = |name: &'static str,
               url: String,
               settings: String,
               result: &'static str,
               words: &'static str,
               fields: &'static [&'static str]| Row {
        name,
        url,
        settings,
        result,
        words,
        fields,
    };
    check_all(vec![
        row(
            "with a client certificate",
            both.url("/"),
            format!("tls: {{ {ca}, {identity} }}"),
            "up",
            "",
            &[],
        ),
        row(
            "without it",
            both.url("/"),
            format!("tls: {{ {ca} }}"),
            "tls_error",
            "",
            &[],
        ),
        row(
            "any certificate",
            wrong.url("/"),
            "tls: { insecure_skip_verify: true }".to_owned(),
            "up",
            "",
            &["cert_issuer"],
        ),
        row(
            "a name of its own",
            wrong.url("/"),
            format!("tls: {{ {ca}, server_name: named.example }}"),
            "up",
            "",
            &[],
        ),
        row(
            "another name",
            wrong.url("/"),
            format!("tls: {{ {ca}, server_name: other.example }}"),
            "cert_invalid",
            "not for other.example, but for",
            &[],
        ),
        row(
            "a proxy",
            target.url("/"),
            format!("proxy: '{}'", open.url()),
            "up",
            "",
            &["connect_us"],
        ),
        row(
            "a proxy for TLS",
            both.url("/"),
            format!("proxy: '{}', tls: {{ {ca}, {identity} }}", open.url()),
            "up",
            "",
            &["tls_us"],
        ),
        row(
            "a proxy that asks who",
            target.url("/"),
            format!("proxy: '{}'", guarded.url()),
            "connect_refused",
            "asks for a name and password",
            &[],
        ),
        row(
            "a proxy that is told who",
            target.url("/"),
            format!("proxy: '{}'", guarded.url_with("user", "pw")),
            "up",
            "",
            &[],
        ),
        row(
            "a proxy that refuses",
            target.url("/"),
            format!("proxy: '{}'", closed.url()),
            "connect_refused",
            "403",
            &[],
        ),
        row(
            "around the proxy",
            target.url("/"),
            format!("proxy: '{}', no_proxy: [127.0.0.0/8]", closed.url()),
            "up",
            "",
            &[],
        ),
        row(
            "a private target behind a proxy",
            target.url("/"),
            format!("proxy: '{}', allow_private: false", open.url()),
            "blocked_address",
            "",
            &[],
        ),
        row(
            "from another address",
            target.url("/"),
            "source_address: 127.0.0.5".to_owned(),
            "up",
            "",
            &[],
        ),
        row(
            "from an address that is not here",
            target.url("/"),
            "source_address: 203.0.113.9".to_owned(),
            "internal_error",
            "",
            &[],
        ),
        row(
            "the other address answers",
            by_name.clone(),
            names.clone(),
            "up",
            "",
            &["refused", "remote_ip=\"127.0.0.1\""],
        ),
        row(
            "IPv4 only",
            by_name.clone(),
            format!("{names}, ip_version: 4"),
            "up",
            "",
            &["remote_ip=\"127.0.0.1\""],
        ),
        row(
            "IPv6 only",
            by_name,
            format!("{names}, ip_version: 6"),
            "connect_refused",
            "[::1]",
            &[],
        ),
        row(
            "HTTP/2 where it is offered",
            modern.url("/"),
            format!("tls: {{ {ca} }}"),
            "up",
            "",
            &["http_version=\"2\""],
        ),
        row(
            "HTTP/1.1 all the same",
            modern.url("/"),
            format!("tls: {{ {ca} }}, http_version: 1.1"),
            "up",
            "",
            &["http_version=\"1.1\""],
        ),
        row(
            "gzip",
            http_of(http::gzip("all is well")),
            "body_matches: '^all is well$'".to_owned(),
            "up",
            "",
            &["body_bytes=11"],
        ),
    ])
    .await;
    assert_eq!(
        target
            .requests()
            .iter()
            .filter(|request| request.header("host").is_some())
            .count(),
        target.requests().len()
    );
}

/// The URL of a server that lives to the end of the process.
fn http_of(script: Script) -> String {
    let server = Box::leak(Box::new(script.serve()));
    server.url("/")
}

#[actix_rt::test]
async fn packed_bodies_are_unpacked() {
    for (name, script) in [
        ("brotli", http::brotli("all is well")),
        ("zstd", http::zstd("all is well")),
        ("gzip", http::gzip("all is well")),
    ] {
        let server = script.serve();
        let result = check(&server.url("/"), "body_matches: '^all is well$'").await;
        assert_eq!(
            (result.error, result.body_bytes),
            (None, Some(11)),
            "{name}: {:?}",
            result.error_detail
        );
    }
}

#[actix_rt::test]
async fn what_is_known_of_a_kept_connection_is_kept_and_it_ends_with_its_site() {
    let authority = Authority::new();
    let ca = format!("tls: {{ ca: {:?} }}", authority.ca_file());
    let by_1 = || {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        Script::new().accept().read_head().send(answer)
    };
    let by_2 = Script::new().accept().h2(h2::ok("hi"));
    let certified = Tls::with(&authority.expires_in(20));
    for (server, is_tls) in [
        (by_1().serve(), false),
        (by_1().serve_tls(certified.clone()), true),
        (by_2.serve_tls(certified.alpn(&["h2"])), true),
    ] {
        let settings = format!("keep_alive: true, min_cert_days: 30, {ca}");
        let (site, around) = (site(&server.url("/"), &settings), surroundings());
        let parts = Parts::of(&site);
        for n in 0..3 {
            let checked = parts.check(&site, around.clock.now(), &around).await;
            let result = &checked[0].result;
            assert_eq!(result.status, Some(200), "{n}: {:?}", result.error_detail);
            assert_eq!(result.remote_ip, Some(server.address().ip()), "{n}");
            assert_eq!(result.phases.connect_us.is_some(), n == 0, "{n}");
            let expected = is_tls.then_some(ErrorKind::CertExpiring);
            assert_eq!(result.error, expected, "{n}: {:?}", result.error_detail);
        }
        assert_eq!((server.connections(), server.open_connections()), (1, 1));
        drop(parts);
        let closed = async {
            while server.open_connections() > 0 {
                tokio::time::sleep(10 * MS).await;
            }
        };
        let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
        assert!(closed.is_ok(), "the connection outlives its site");
    }
}

#[actix_rt::test]
async fn a_redirect_from_a_kept_connection_goes_where_it_leads() {
    let answer = |line: &str| format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
    let there = Script::new()
        .accept()
        .read_head()
        .send(answer("200 OK"))
        .serve();
    let away = format!("302 Found\r\nlocation: {}", there.url("/there"));
    let here = Script::new()
        .accept()
        .read_head()
        .send(answer(&away))
        .serve();
    let (site, around) = (site(&here.url("/"), "keep_alive: true"), surroundings());
    let parts = Parts::of(&site);
    for _ in 0..3 {
        let checked = parts.check(&site, around.clock.now(), &around).await;
        let result = &checked[0].result;
        assert_eq!(result.error, None, "{:?}", result.error_detail);
        assert_eq!(result.final_url, Some(there.url("/there")));
    }
    let seen = |server: &Server| (server.requests().len(), server.connections());
    assert_eq!((seen(&here), seen(&there)), ((3, 1), (3, 3)));
    assert!(
        there
            .requests()
            .iter()
            .all(|request| request.target() == "/there")
    );
}

#[actix_rt::test]
async fn name_and_password_of_a_url_stay_with_its_origin_and_out_of_sight() {
    let server = Scripts::new()
        .path("/login", http::ok("hi"))
        .otherwise(http::redirect("/login"))
        .start();
    let with_user = server.url("/").replace("http://", "http://us%40er:CANARY@");
    let expected = format!("expect_final_url: '{}'", server.url("/login"));
    let result = check(&with_user, &expected).await;
    assert_eq!(result.error, None, "{:?}", result.error_detail);
    for request in server.requests() {
        let sent = request.header("authorization");
        assert_eq!(sent, Some("Basic dXNAZXI6Q0FOQVJZ"), "{}", request.target());
    }
    let elsewhere = "expect_final_url: 'http://elsewhere.example/'";
    let told = serde_json::to_string(&check(&with_user, elsewhere).await).unwrap();
    assert!(
        told.contains("redirects end at") && !told.contains("CANARY"),
        "{told}"
    );
}

#[actix_rt::test]
async fn tokens_last_as_long_as_any_server_says() {
    for (expires_in, fetched) in [
        ("1e19", 1),
        ("\"3599\"", 1),
        ("\"soon\"", 1),
        ("-1", 1),
        ("null", 1),
        ("0", 2),
    ] {
        let body = format!(r#"{{"access_token": "T", "expires_in": {expires_in}}}"#);
        let (tokens, server) = (http::json(&body).serve(), http::ok("hi").serve());
        let settings = format!(
            "oauth2: {{ token_url: '{}', client_id: me, client_secret: s }}",
            tokens.url("/")
        );
        let (site, around) = (site(&server.url("/"), &settings), surroundings());
        for _ in 0..2 {
            let result = row::check(&site, &around).await.result;
            assert_eq!(
                result.error, None,
                "{expires_in}: {:?}",
                result.error_detail
            );
        }
        assert_eq!(tokens.requests().len(), fetched, "{expires_in}");
    }
    let tokens = http::json(r#"{"access_token": "a\nb"}"#).serve();
    let server = http::ok("hi").serve();
    let settings = format!(
        "oauth2: {{ token_url: '{}', client_id: me, client_secret: s }}",
        tokens.url("/")
    );
    let result = check(&server.url("/"), &settings).await;
    let detail = result.error_detail.unwrap();
    assert!(
        detail.contains("characters that no header can carry"),
        "{detail}"
    );
}

#[actix_rt::test]
async fn answers_without_a_body_are_complete_whatever_their_head_names() {
    let head = |status: &str, more: &str| {
        Script::new()
            .accept()
            .read_head()
            .send(format!("HTTP/1.1 {status}\r\n{more}\r\n"))
            .stall()
    };
    let long = "content-length: 1234\r\n";
    for (method, status, more) in [
        (
            "HEAD",
            "200 OK",
            "content-length: 1234\r\ncontent-encoding: br\r\n",
        ),
        ("HEAD", "200 OK", "content-encoding: zstd\r\n"),
        ("GET", "304 Not Modified", long),
        ("GET", "204 No Content", "content-encoding: gzip\r\n"),
    ] {
        for keep_alive in [false, true] {
            let server = head(status, more).serve();
            let settings =
                format!("method: {method}, keep_alive: {keep_alive}, expected_status: '200-399'");
            let result = check(&server.url("/"), &settings).await;
            assert_eq!(
                result.error, None,
                "{method} {status} {more}: {:?}",
                result.error_detail
            );
            assert_eq!(result.body_bytes, Some(0));
        }
    }
    let whole = super::scripted::encoded::zstd("all is well, and all will be well");
    let cut = http::encoded("zstd", &whole[..whole.len() - 3]).serve();
    let result = check(&cut.url("/"), "").await;
    assert_eq!(result.error, Some(ErrorKind::ProtocolError));
    let none = http::encoded("br", "").serve();
    assert_eq!(check(&none.url("/"), "").await.error, None);
}

/// What a server may make of a connection on which it reads nothing: it does not outlive its check for long.
#[actix_rt::test]
async fn a_connection_by_http_2_ends_whatever_the_server_does() {
    // SETTINGS with the largest window for each stream, WINDOW_UPDATE with as much for the connection (RFC 9113, 6.5, 6.9).
    let windows = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\x00\x00";
    let server = Script::new().accept().send(windows).wait(4000 * MS).serve();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b'x'; 12 << 20]).unwrap();
    let settings = format!("method: POST, http_version: 2, body_file: {file:?}");
    let result = check(&server.url("/"), &settings).await;
    assert_eq!(
        result.error,
        Some(ErrorKind::TtfbTimeout),
        "{:?}",
        result.error_detail
    );
    // Of the two entries of a connection on loopback, the client's names the server's port as the remote one; 01 is
    // "established", which a connection that is closed here no longer is.
    let remote = format!(":{:04X} 01 ", server.port());
    let still_open = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().any(|line| line.contains(&remote))
    };
    assert!(still_open(), "the server has read");
    let deadline = std::time::Instant::now() + 5000 * MS;
    while still_open() {
        let now = std::time::Instant::now();
        assert!(now < deadline, "the connection outlives its check");
        tokio::time::sleep(20 * MS).await;
    }
}

#[actix_rt::test]
async fn who_waits_for_a_retry_holds_no_place() {
    let server = Scripts::new()
        .path("/up", http::ok("hi"))
        .otherwise(http::status(500))
        .start();
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let metrics = sitewatch_actors::metrics::Metrics::new().unwrap();
    let around = sitewatch_actors::site::Surroundings::new("here".to_owned(), (1, 1), metrics, log);
    let broken = site(&server.url("/broken"), "retries: 1, retry_delay: 800ms");
    let up = site(&server.url("/up"), "");
    let slot = around.clock.now();
    let (broken, up) = futures_util::join!(
        async {
            (
                Parts::of(&broken).check(&broken, slot, &around).await,
                std::time::Instant::now(),
            )
        },
        async {
            (
                Parts::of(&up).check(&up, slot, &around).await,
                std::time::Instant::now(),
            )
        },
    );
    assert_eq!(broken.0[0].result.attempts, 2);
    assert!(broken.1 - up.1 > 500 * MS, "the place was kept");
    assert!(up.0[0].result.lateness_us < 400_000);
}

#[actix_rt::test]
async fn each_address_is_checked_by_itself_to_the_end() {
    // One of two addresses is broken, which shows only behind its redirect.
    let well = Scripts::new()
        .at("127.0.0.1:0")
        .path("/", http::redirect("/login"))
        .otherwise(http::ok("hi"))
        .start();
    let broken = Scripts::new()
        .at(format!("127.0.0.7:{}", well.port()))
        .path("/", http::redirect("/login"))
        .otherwise(http::status(500))
        .start();
    let both = dns::addresses(&["127.0.0.1", "127.0.0.7", "::1"]);
    let zone = dns::Zone::new()
        .name("late.test", both.clone().after(100 * MS))
        .name(
            "flaky.test",
            dns::Answer::InTurn(vec![dns::Answer::ServFail, dns::Answer::ServFail, both]),
        )
        .name("gone.test", dns::Answer::NxDomain)
        .start();
    let around = surroundings();
    let each = async |name: &str, more: &str| {
        let settings = format!(
            "resolve: each, source_address: 127.0.0.1, dns_servers: ['{}'], {more}",
            zone.address()
        );
        let site = site(&well.url_for(name, "/"), &settings);
        let checked = Parts::of(&site)
            .check(&site, around.clock.now(), &around)
            .await;
        let results = checked.into_iter().map(|checked| checked.result);
        results.collect::<Vec<CheckResult>>()
    };
    let results = each("late.test", "").await;
    let told: Vec<_> = results
        .iter()
        .map(|result| (&*result.site, result.error))
        .collect();
    assert_eq!(
        told,
        [
            ("row@127.0.0.1", None),
            ("row@127.0.0.7", Some(ErrorKind::StatusMismatch))
        ]
    );
    for result in &results {
        assert!(
            result.lateness_us < 50_000,
            "DNS is no lateness: {}",
            result.lateness_us
        );
    }
    assert!(!broken.requests().is_empty());
    let results = each("flaky.test", "retries: 2, retry_delay: 0s").await;
    assert_eq!(results.len(), 2, "retries are for DNS too");
    let results = each("gone.test", "retries: 1, retry_delay: 0s").await;
    let gone = &results[0];
    assert_eq!(
        (results.len(), gone.attempts, gone.error),
        (1, 2, Some(ErrorKind::DnsError))
    );
    assert!(gone.phases.dns_us.is_some() && gone.failed_attempts.len() == 1);
}

#[actix_rt::test]
async fn a_client_certificate_and_the_name_for_a_site_are_not_for_another_origin() {
    let authority = Authority::new();
    let client = authority.client("node");
    let tls = |more: &str| {
        format!(
            "tls: {{ ca: {:?}, cert: {:?}, key: {:?}{more} }}",
            authority.ca_file(),
            client.cert_file,
            client.key_file
        )
    };
    let strict = || Tls::with(&authority.good()).clients_of(&authority);
    let other = http::ok("hi").serve_tls(strict());
    let site = Scripts::new()
        .path("/away", http::redirect(&other.url("/there")))
        .path("/on", http::redirect("/last"))
        .otherwise(http::ok("hi"))
        .tls(strict())
        .start();
    assert_eq!(check(&site.url("/on"), &tls("")).await.error, None);
    let result = check(&site.url("/away"), &tls("")).await;
    assert_eq!(result.error, Some(ErrorKind::TlsError));
    assert_eq!(result.final_url, Some(other.url("/there")));
    assert!(other.requests().is_empty());

    let other = http::ok("hi").serve_tls(Tls::with(&authority.good()));
    let named = Tls::with(&authority.certificate(&["named.example"], -1, 10));
    let site = http::redirect(&other.url("/")).serve_tls(named);
    let result = check(&site.url("/"), &tls(", server_name: named.example")).await;
    assert_eq!(result.error, None, "{:?}", result.error_detail);
}
