//! Hostile and broken servers: each has its error kind, and none holds up or fills the node.

use std::time::Duration;

use super::row::{Row, check_all};
use crate::scripted::{Authority, Script, Scripts, Server, Tls, closed_port, dns, h2, http, tls};

/// A row and the server that must live as long as the table.
struct Rows {
    rows: Vec<Row<'static>>,
    servers: Vec<Server>,
}

impl Rows {
    fn new() -> Self {
        Self {
            rows: Vec::new(),
            servers: Vec::new(),
        }
    }

    fn row(
        &mut self,
        name: &'static str,
        server: Server,
        settings: &str,
        result: &'static str,
        words: &'static str,
        fields: &'static [&'static str],
    ) {
        let url = server.url("/");
        self.servers.push(server);
        self.at(name, url, settings, result, words, fields);
    }

    fn at(
        &mut self,
        name: &'static str,
        url: String,
        settings: &str,
        result: &'static str,
        words: &'static str,
        fields: &'static [&'static str],
    ) {
        self.rows.push(Row {
            name,
            url,
            settings: settings.to_owned(),
            result,
            words,
            fields,
        });
    }
}

#[actix_rt::test]
async fn hostile_answers() {
    let mut table = Rows::new();
    let second = Duration::from_millis(100);
    for (name, script, result, words, fields) in [
        (
            "header that never ends",
            http::endless_headers(),
            "protocol_error",
            "head of the answer is larger",
            &["reached=\"body\"", "ttfb_us"][..],
        ),
        (
            "10 MB header",
            http::large_header(10_000_000),
            "protocol_error",
            "head of the answer is larger",
            &[],
        ),
        (
            "body that never ends",
            http::endless_body(),
            "body_too_large",
            "larger than 10000 bytes",
            &["status=200"],
        ),
        (
            "chunks that never end",
            http::endless_chunks(),
            "body_too_large",
            "larger than 10000 bytes",
            &[],
        ),
        (
            "one byte of body now and then",
            http::slow_body(second),
            "body_timeout",
            "not complete after",
            &["body_us", "body_bytes"],
        ),
        (
            "one byte of head now and then",
            http::slow_head(second),
            "ttfb_timeout",
            "head of the answer is not complete",
            &["reached=\"body\""],
        ),
        (
            "gzip bomb",
            http::gzip_bomb(),
            "body_too_large",
            "larger than 10000 bytes",
            &[],
        ),
        (
            "brotli bomb with a large window",
            http::brotli_bomb(),
            "protocol_error",
            "can't be unpacked",
            &[],
        ),
        (
            "zstd bomb with a large window",
            http::zstd_bomb(),
            "protocol_error",
            "can't be unpacked",
            &[],
        ),
        (
            "not gzip at all",
            http::false_gzip(),
            "protocol_error",
            "can't be unpacked",
            &[],
        ),
        (
            "half of a gzip",
            http::truncated_gzip("all is well, and all will be well"),
            "protocol_error",
            "can't be unpacked",
            &[],
        ),
        (
            "an unknown encoding",
            http::encoded("sdch", "x"),
            "protocol_error",
            "was not asked for: \"sdch\"",
            &["status=200"],
        ),
        (
            "a length that is too long",
            http::length_too_long("short"),
            "connection_reset",
            "after 5 bytes of body",
            &["status=200"],
        ),
        (
            "a length that is too short",
            http::length_too_short("all is well", 3),
            "up",
            "",
            &["body_bytes=3"],
        ),
        (
            "a chunk size that is none",
            http::broken_chunk_size(),
            "protocol_error",
            "not valid HTTP",
            &[],
        ),
        (
            "the end in the middle of a chunk",
            http::broken_off_in_a_chunk(),
            "connection_reset",
            "before its end",
            &[],
        ),
        (
            "no last chunk",
            http::without_last_chunk(),
            "connection_reset",
            "before its end",
            &[],
        ),
        (
            "reset after accept",
            http::reset_after_accept(),
            "connection_reset",
            "",
            &["connect_us"],
        ),
        (
            "closed after accept",
            http::close_after_accept(),
            "connection_reset",
            "closed without an answer",
            &[],
        ),
        (
            "accepts and says nothing",
            http::silence(),
            "ttfb_timeout",
            "no answer within 300ms",
            &["reached=\"ttfb\"", "connect_us", "ttfb_us"],
        ),
        (
            "reads and says nothing",
            http::no_answer(),
            "ttfb_timeout",
            "no answer within 300ms",
            &[],
        ),
        (
            "reset in the head",
            http::reset_in_head(),
            "connection_reset",
            "",
            &[],
        ),
        (
            "closed in the head",
            http::close_in_head(),
            "connection_reset",
            "",
            &[],
        ),
        (
            "reset in the body",
            http::reset_in_body(),
            "connection_reset",
            "",
            &["status=200"],
        ),
        (
            "stalls in the body",
            http::stall_in_body(),
            "body_timeout",
            "within 300ms",
            &["status=200", "reached=\"body\""],
        ),
        (
            "204 with a body",
            http::no_content_with_a_body(),
            "up",
            "",
            &["status=204"],
        ),
        (
            "HTTP/0.9",
            http::http_0_9(),
            "protocol_error",
            "not valid HTTP",
            &[],
        ),
        (
            "HTTP/1.0",
            http::http_1_0("hi"),
            "up",
            "",
            &["http_version=\"1.0\""],
        ),
        (
            "SSH at the port",
            http::ssh(),
            "protocol_error",
            "not valid HTTP",
            &[],
        ),
        (
            "a body that is not text",
            http::binary_body(),
            "up",
            "",
            &["status=200"],
        ),
        ("a header in Latin-1", http::latin_1_header(), "up", "", &[]),
        (
            "a NUL in a header",
            http::nul_in_a_header(),
            "protocol_error",
            "",
            &[],
        ),
    ] {
        table.row(name, script.serve(), "", result, words, fields);
    }
    table.row(
        "what is not text is captured so that it can be stored",
        http::binary_body().serve(),
        "capture_bytes: 100, body_matches: nowhere",
        "body_mismatch",
        "the body begins with",
        &["capture"],
    );
    table.row(
        "redirects in a circle",
        http::redirect_loop().serve(),
        "max_redirects: 5",
        "redirect_error",
        "more than 5 redirects",
        &["hops", "redirects=5", "status=302"],
    );
    for (location, words) in [
        ("ftp://a/", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("javascript:alert(1)", "only http and https"),
        ("http://[::1", ""),
        (&*format!("/{}", "x".repeat(5000)), "longer than 4096 bytes"),
    ] {
        table.row(
            "a redirect out of HTTP",
            http::redirect(location).serve(),
            "",
            "redirect_error",
            words,
            &["status=302"],
        );
    }
    table.at(
        "nothing listens",
        format!("http://{}/", closed_port()),
        "",
        "connect_refused",
        "Connection refused",
        &["connect_us", "reached=\"connect\""],
    );
    check_all(table.rows).await;
}

#[actix_rt::test]
async fn addresses_and_names() {
    let mut table = Rows::new();
    let inside = http::ok("inside").serve();
    let outside = "allow_private: false, allow_networks: [127.0.0.1]";
    table.row(
        "a private address",
        http::ok("hi").serve(),
        "allow_private: false",
        "blocked_address",
        "127.0.0.1 is a loopback address",
        &[],
    );
    table.row(
        "an address that is denied",
        http::ok("hi").serve(),
        "deny_networks: [127.0.0.0/8]",
        "blocked_address",
        "deny_networks",
        &[],
    );
    table.row(
        "an address that is allowed",
        http::ok("hi").serve(),
        outside,
        "up",
        "",
        &[],
    );
    for location in [
        format!("http://127.0.0.2:{}/", inside.port()),
        format!("http://2130706434:{}/", inside.port()),
        format!("http://0x7f.2:{}/", inside.port()),
        format!("http://[::ffff:127.0.0.2]:{}/", inside.port()),
        format!("http://[::1]:{}/", inside.port()),
    ] {
        table.row(
            "a redirect to a private address",
            http::redirect(&location).serve(),
            outside,
            "blocked_address",
            "loopback",
            &["hops"],
        );
    }
    let web = Scripts::new()
        .path("/back", http::redirect("http://rebinds.test:1/"))
        .otherwise(http::ok("hi"))
        .start();
    let zone = dns::Zone::new()
        .name("silent.test", dns::Answer::Silence)
        .name("none.test", dns::Answer::NxDomain)
        .name("broken.test", dns::Answer::ServFail)
        .name("empty.test", dns::Answer::Empty)
        .name(
            "half.test",
            dns::Answer::ByKind {
                a: Box::new(dns::Answer::Silence),
                aaaa: Box::new(dns::Answer::Empty),
            },
        )
        .name("private.test", dns::addresses(&["10.1.2.3"]))
        .name("rebinds.test", dns::rebinding("127.0.0.1", "127.0.0.3"))
        .name("some.test", dns::addresses(&["127.0.0.3", "127.0.0.1"]))
        .start();
    let ask = |more: &str| format!("dns_servers: ['{}'], {more}", zone.address());
    for (name, host, more, result, words) in [
        (
            "DNS that does not answer",
            "silent.test",
            "",
            "dns_timeout",
            "no answer from DNS within 300ms",
        ),
        (
            "DNS that knows of no IPv6 address and says nothing about IPv4",
            "half.test",
            "",
            "dns_timeout",
            "no answer from DNS within 300ms",
        ),
        (
            "a name that is not there",
            "none.test",
            "",
            "dns_error",
            "NXDOMAIN",
        ),
        ("DNS that fails", "broken.test", "", "dns_error", "SERVFAIL"),
        (
            "a name without an address",
            "empty.test",
            "",
            "dns_error",
            "no address",
        ),
        (
            "a name with a private address",
            "private.test",
            "allow_private: false",
            "blocked_address",
            "10.1.2.3 is a private address",
        ),
        (
            "a name with an address that is allowed",
            "some.test",
            outside,
            "up",
            "",
        ),
    ] {
        table.at(
            name,
            web.url_for(host, "/"),
            &ask(more),
            result,
            words,
            &["dns_us"],
        );
    }
    table.at(
        "a name that means another address the second time",
        web.url_for("rebinds.test", "/back"),
        &ask(outside),
        "blocked_address",
        "127.0.0.3",
        &["hops", "redirects=1"],
    );
    check_all(table.rows).await;
    assert!(inside.requests().is_empty(), "the guard let somebody in");
}

#[actix_rt::test]
async fn broken_encryption() {
    let mut table = Rows::new();
    let authority = Authority::new();
    let trusting = format!("tls: {{ ca: {:?} }}", authority.ca_file());
    for (name, certificate, result, words) in [
        (
            "expired",
            authority.expired(),
            "cert_expired",
            "the certificate expired on 20",
        ),
        (
            "not yet valid",
            authority.not_yet_valid(),
            "cert_expired",
            "valid only from 20",
        ),
        (
            "for another host",
            authority.wrong_host(),
            "cert_invalid",
            "not for 127.0.0.1",
        ),
        (
            "self-signed",
            authority.self_signed(),
            "cert_invalid",
            "not signed by an authority that is trusted",
        ),
    ] {
        let server = http::ok("hi").serve_tls(Tls::with(&certificate));
        table.row(
            name,
            server,
            &trusting,
            result,
            words,
            &[
                "tls_us",
                "reached=\"tls\"",
                "cert_expires_at",
                "cert_issuer",
            ],
        );
    }
    let good = || http::ok("hi").serve_tls(Tls::with(&authority.good()));
    table.row(
        "an authority that is not trusted",
        good(),
        "",
        "cert_invalid",
        "not signed by an authority",
        &[],
    );
    table.row(
        "good",
        good(),
        &trusting,
        "up",
        "",
        &["tls_version=\"1.3\"", "cert_expires_at", "cert_issuer"],
    );
    for (name, script, result, words) in [
        (
            "older than TLS 1.2",
            tls::only_1_0(),
            "tls_error",
            "no TLS from 1.2 on",
        ),
        (
            "a handshake that stalls",
            tls::stalls_after_client_hello(),
            "tls_error",
            "handshake is not finished within 300ms",
        ),
        (
            "a reset in the handshake",
            tls::resets_after_client_hello(),
            "tls_error",
            "",
        ),
        (
            "HTTP at a port for TLS",
            tls::speaks_plain_http(),
            "tls_error",
            "does not speak TLS",
        ),
    ] {
        let server = script.serve();
        let url = server.url("/").replace("http://", "https://");
        table.servers.push(server);
        table.at(
            name,
            url,
            &trusting,
            result,
            words,
            &["reached=\"tls\"", "connect_us"],
        );
    }
    let server = good();
    let plain = server.url("/").replace("https://", "http://");
    table.servers.push(server);
    table.at(
        "TLS at a port for HTTP",
        plain,
        "",
        "protocol_error",
        "",
        &[],
    );

    let two = |answer: h2::Answer| {
        answer
            .script()
            .serve_tls(Tls::with(&authority.good()).alpn(&["h2"]))
    };
    use ::h2::Reason;
    for (name, answer, result, words) in [
        (
            "HTTP/2 with a body that never ends",
            h2::endless_body(),
            "body_too_large",
            "larger than",
        ),
        (
            "HTTP/2 without an answer",
            h2::no_answer(),
            "ttfb_timeout",
            "no answer within",
        ),
        (
            "HTTP/2 that resets the stream",
            h2::reset_stream(Reason::INTERNAL_ERROR),
            "connection_reset",
            "ended the HTTP/2 stream",
        ),
        (
            "HTTP/2 that resets in the body",
            h2::ok("hi").reset_in_body(Reason::INTERNAL_ERROR),
            "connection_reset",
            "ended the HTTP/2 stream",
        ),
        (
            "HTTP/2 that goes away",
            h2::go_away(Reason::ENHANCE_YOUR_CALM),
            "connection_reset",
            "",
        ),
        (
            "HTTP/2 that stalls in the body",
            h2::ok("hi").stall_in_body(),
            "body_timeout",
            "not complete",
        ),
    ] {
        table.row(name, two(answer), &trusting, result, words, &["tls_us"]);
    }
    let server = Script::new()
        .accept()
        .h2(h2::ok("by 2"))
        .serve_tls(Tls::with(&authority.good()).alpn(&["h2"]));
    table.row(
        "HTTP/2",
        server,
        &trusting,
        "up",
        "",
        &["http_version=\"2\"", "body_bytes=4"],
    );
    let server = http::ok("hi").serve_tls(Tls::with(&authority.good()).alpn(&["http/1.1"]));
    table.row(
        "HTTP/2 that is wanted and not offered",
        server,
        &format!("{trusting}, http_version: 2"),
        "tls_error",
        "",
        &[],
    );
    check_all(table.rows).await;
}
