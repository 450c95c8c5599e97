//! What arrives at the server, and by which way.

use std::time::Duration;

use sitewatch_actors::{
    model::{CheckResult, ErrorKind},
    site::Parts,
};

use super::{
    row::{self, Row, check_all, site, surroundings},
    scripted::{Authority, MS, Script, Scripts, Server, Tls, dns, h2, http, proxy},
};

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
            "method: {method}, headers: {{ authorization: secret, cookie: secret, host: mine.example, x-plain: kept }}"
        );
        check(&away.url("/"), &settings).await;
        let last = other.requests().pop().unwrap();
        assert_eq!(
            (last.header("authorization"), last.header("cookie")),
            (None, None)
        );
        assert_eq!(
            (last.header("x-plain"), last.header("host")),
            (Some("kept"), Some(other.address().to_string().as_str()))
        );
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
