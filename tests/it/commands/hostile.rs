//! `check` against servers that are broken or mean harm: the person is told which it is, in time, and nothing that the server
//! sends reaches the terminal as more than text.

use std::time::{Duration, Instant};

use super::run::{Ran, check, run};
use crate::scripted::{Authority, Script, Scripts, Tls, dns, http, tls};

/// For starting the process and reading the system's certificates, on a busy machine.
const BESIDE_THE_CHECK: Duration = Duration::from_secs(5);

/// Neither a control character nor a mark that no one sees.
fn is_plain(c: char) -> bool {
    let is_mark = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    c == '\n' || !(c.is_control() || is_mark)
}

fn is_told(what: &str, url: &str, flags: &[&str], kind: &str) -> Ran {
    let begun = Instant::now();
    // Who does not wait for a time-out must not meet one because the machine is busy.
    let waits = kind.ends_with("_timeout") || kind == "tls_error";
    let timeout = if waits { "400ms" } else { "4s" };
    let ran = check(
        url,
        &[&["--timeout", timeout, "--max-body-bytes", "20000"], flags].concat(),
    );
    let took = begun.elapsed();
    assert!(took < BESIDE_THE_CHECK, "{what} took {took:?}");
    let head = ran.out.lines().next().unwrap_or_default().to_owned();
    // After a redirect the place is named between.
    let outcome = if kind == "UP" {
        "is UP".to_owned()
    } else {
        format!(": {kind}: ")
    };
    assert!(
        head.contains(&outcome),
        "{what}: {outcome} is not in\n{}{}",
        ran.out,
        ran.err
    );
    assert_eq!(ran.err, "", "{what}");
    assert!(ran.out.chars().all(is_plain), "{what}: {:?}", ran.out);
    ran.ended(i32::from(kind != "UP"))
}

#[actix_rt::test]
async fn answers() {
    let between = Duration::from_millis(100);
    let escape = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\0";
    for (what, script, kind) in [
        (
            "header that never ends",
            http::endless_headers(),
            "protocol_error",
        ),
        (
            "10 MB header",
            http::large_header(10_000_000),
            "protocol_error",
        ),
        (
            "body that never ends",
            http::endless_body(),
            "body_too_large",
        ),
        (
            "chunks that never end",
            http::endless_chunks(),
            "body_too_large",
        ),
        (
            "one byte of body now and then",
            http::slow_body(between),
            "body_timeout",
        ),
        (
            "one byte of head now and then",
            http::slow_head(between),
            "ttfb_timeout",
        ),
        ("gzip bomb", http::gzip_bomb(), "body_too_large"),
        ("no gzip", http::false_gzip(), "protocol_error"),
        (
            "length too long",
            http::length_too_long("short"),
            "connection_reset",
        ),
        (
            "length too short",
            http::length_too_short("all is well", 3),
            "UP",
        ),
        ("broken chunk", http::broken_chunk_size(), "protocol_error"),
        (
            "reset after accept",
            http::reset_after_accept(),
            "connection_reset",
        ),
        ("silence", http::silence(), "ttfb_timeout"),
        (
            "redirects in a circle",
            http::redirect_loop(),
            "redirect_error",
        ),
        (
            "another scheme",
            http::redirect("file:///etc/passwd"),
            "redirect_error",
        ),
        ("204 with a body", http::no_content_with_a_body(), "UP"),
        ("HTTP/0.9", http::http_0_9(), "protocol_error"),
        ("SSH", http::ssh(), "protocol_error"),
        ("not UTF-8", http::binary_body(), "UP"),
        ("NUL in a header", http::nul_in_a_header(), "protocol_error"),
    ] {
        is_told(what, &script.serve().url("/"), &[], kind);
    }
    is_told("SSH", &http::ssh().serve().url("/"), &[], "protocol_error")
        .says(&["; the answer begins with \"SSH-2.0-"]);
    let escapes = http::answer(200, &[("x-escape", "a\u{9b}31mb")], escape).serve();
    is_told(
        "escape sequences in what is shown",
        &escapes.url("/"),
        &["--body-matches", "nowhere", "--capture-bytes", "200"],
        "body_mismatch",
    );
    let marks = "\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}\u{2028}";
    let json = format!("{{\"status\": \"ok{marks}\u{9b}31m\", \"{marks}\": 1}}");
    let marked = http::answer(500, &[], &json).serve();
    let expectations = [
        "--expect-json",
        "{$.status: {equals: ok}}",
        "--expected-status",
        "500",
        "--capture-bytes",
        "200",
    ];
    is_told(
        "marks in a value of JSON",
        &marked.url("/"),
        &expectations,
        "body_mismatch",
    );
    let message = check(&marked.url("/"), &[&["--json"], &expectations[..]].concat()).ended(1);
    assert!(message.out.chars().all(is_plain), "{:?}", message.out);
    let parsed: serde_json::Value = serde_json::from_str(&message.out).unwrap();
    assert_eq!(parsed["capture"]["body"], json, "what came is kept");
    let escapes = Script::new()
        .accept()
        .read_head()
        .send(format!("HTTP/1.1 200 {escape}\r\n\r\n"))
        .close()
        .serve();
    is_told(
        "escape sequences in the head",
        &escapes.url("/"),
        &[],
        "protocol_error",
    );
    let escapes = http::redirect("http://a\x1b[2Jb/").serve();
    is_told(
        "escape sequences in a redirect",
        &escapes.url("/"),
        &[],
        "protocol_error",
    );
}

#[actix_rt::test]
async fn names_and_addresses() {
    let zone = dns::Zone::new()
        .name("silent.test", dns::Answer::Silence)
        .name("private.test", dns::addresses(&["10.1.2.3"]))
        .start();
    let dns = zone.address().to_string();
    let ask = ["--dns-servers", &dns];
    is_told(
        "DNS that is silent",
        "http://silent.test/",
        &ask,
        "dns_timeout",
    )
    .says(&["no answer from DNS within 400ms"]);
    is_told("no such name", "http://none.test/", &ask, "dns_error").says(&["NXDOMAIN"]);
    run(&["check", "http://private.test/", "--dns-servers", &dns])
        .ended(1)
        .says(&["blocked_address: 10.1.2.3 is a private address"]);
    let inside = http::ok("secret").serve();
    let inside = format!("http://127.0.0.2:{}/", inside.port());
    let outside = http::redirect(&inside).serve();
    run(&["check", &outside.url("/"), "--allow-networks", "127.0.0.1"])
        .ended(1)
        .says(&["blocked_address: 127.0.0.2 is a loopback address", "  302 "]);
}

#[actix_rt::test]
async fn handshakes() {
    let authority = Authority::new();
    let ca = authority.ca_file();
    let trust = ["--ca", ca.to_str().unwrap()];
    for (what, certificate, kind, words) in [
        ("expired", authority.expired(), "cert_expired", "expired"),
        (
            "from tomorrow on",
            authority.not_yet_valid(),
            "cert_expired",
            "is valid only from",
        ),
        ("self-signed", authority.self_signed(), "cert_invalid", ""),
        (
            "wrong host",
            authority.wrong_host(),
            "cert_invalid",
            "is not for 127.0.0.1",
        ),
    ] {
        let server = http::ok("hi").serve_tls(Tls::with(&certificate));
        is_told(what, &server.url("/"), &trust, kind).says(&[words]);
    }
    let unknown = http::ok("hi").serve_tls(Tls::with(&authority.good()));
    is_told("no known authority", &unknown.url("/"), &[], "cert_invalid").says(&["tls.ca"]);
    for (what, script, kind) in [
        ("too old", tls::only_1_0(), "tls_error"),
        ("stalls", tls::stalls_after_client_hello(), "tls_error"),
        ("reset", tls::resets_after_client_hello(), "tls_error"),
        ("no TLS", tls::speaks_plain_http(), "tls_error"),
    ] {
        let server = Scripts::new().otherwise(script).start();
        let url = server.url("/").replace("http://", "https://");
        is_told(what, &url, &trust, kind);
    }
}
