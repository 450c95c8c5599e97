//! Certificates and handshakes.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    time::Duration,
};

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::client::{Client, exchange, hears_nothing, tcp};
use crate::scripted::{
    Authority, MS, Script, Tls, http,
    tls::{self, Certificate},
};

/// The beginning of a ClientHello: a handshake record of 3 bytes.
const HELLO: &[u8] = &[0x16, 3, 1, 0, 3, 1, 0, 0];

/// What a client of `authority` says of a server with this certificate.
fn verdict(authority: &Authority, certificate: &Certificate) -> String {
    let server = http::ok("hi").serve_tls(Tls::with(certificate));
    match Client::of(authority).get(server.address()) {
        Ok(got) => got.text(),
        Err(error) => {
            assert!(server.all_closed_within(Duration::from_secs(5)));
            let troubles = server.troubles();
            assert!(troubles[0].contains("TLS handshake"), "{troubles:?}");
            error
        }
    }
}

#[test]
fn certificates_are_good_and_bad_as_told() {
    let authority = Authority::new();
    let foreign = Authority::named("R11", "Let's Encrypt", "US");
    for good in [authority.good(), authority.expires_in(3)] {
        let text = verdict(&authority, &good);
        assert!(text.ends_with("\r\n\r\nhi"), "{text}");
    }
    for (certificate, words) in [
        (authority.expired(), "expired"),
        (authority.not_yet_valid(), "not valid yet"),
        (authority.wrong_host(), "not valid for name"),
        (authority.self_signed(), "invalid peer certificate"),
        (foreign.good(), "UnknownIssuer"),
    ] {
        let error = verdict(&authority, &certificate);
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn certificates_are_files_that_settings_can_name() {
    let authority = Authority::new();
    let client = authority.client("node");
    for file in [authority.ca_file(), client.cert_file] {
        assert!(
            fs::read_to_string(&file)
                .unwrap()
                .contains("BEGIN CERTIFICATE")
        );
    }
    assert!(
        fs::read_to_string(client.key_file)
            .unwrap()
            .contains("PRIVATE KEY")
    );
}

#[test]
fn an_address_is_a_name_too_and_the_servers_name_is_remembered() {
    let authority = Authority::new();
    let server = http::ok("").serve_tls(Tls::with(&authority.good()));
    let mut client = Client::of(&authority);
    client.get(server.address()).unwrap();
    client.name = "127.0.0.1";
    client.get(server.address()).unwrap();
    let seen: Vec<_> = server
        .requests()
        .into_iter()
        .flat_map(|one| one.tls)
        .collect();
    assert_eq!(seen[0].server_name.as_deref(), Some("localhost"));
    assert_eq!(
        seen[1].server_name, None,
        "an address is not sent as a name"
    );
    assert_eq!(server.url("/"), format!("https://{}/", server.address()));
}

#[test]
fn the_issuer_has_the_name_that_was_given() {
    let authority = Authority::named("R11", "Let's Encrypt", "US");
    let certificate = authority.good();
    let der = &certificate.chain[0];
    for name in ["R11", "Let's Encrypt", "US"] {
        assert!(der.windows(name.len()).any(|part| part == name.as_bytes()));
    }
    assert!(verdict(&authority, &certificate).ends_with("hi"));
}

static ONLY_1_2: &[&SupportedProtocolVersion] = &[&TLS12];
static ONLY_1_3: &[&SupportedProtocolVersion] = &[&TLS13];

#[test]
fn versions_are_limited() {
    let authority = Authority::new();
    let tls = Tls::with(&authority.good());
    for (tls, version, other) in [
        (tls.clone().only_1_2(), "1.2", ONLY_1_3),
        (tls.only_1_3(), "1.3", ONLY_1_2),
    ] {
        let server = http::ok("").serve_tls(tls);
        let mut client = Client::of(&authority);
        client.get(server.address()).unwrap();
        let seen = server.requests()[0].tls.clone().unwrap();
        assert_eq!(seen.version, version);
        client.versions = other;
        let error = client.get(server.address()).unwrap_err();
        assert!(error.contains("ProtocolVersion"), "{error}");
    }
}

#[test]
fn a_client_certificate_can_be_required() {
    let authority = Authority::new();
    // With TLS 1.3 a client learns of its refusal only when it reads.
    let tls = Tls::with(&authority.good())
        .clients_of(&authority)
        .only_1_2();
    let server = http::ok("").serve_tls(tls);
    let mut client = Client::of(&authority);
    let error = client.get(server.address()).unwrap_err();
    assert!(error.contains("alert"), "{error}");
    client.certificate = Some(Authority::new().client("stranger"));
    client.get(server.address()).unwrap_err();
    client.certificate = Some(authority.client("node"));
    client.get(server.address()).unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].tls.as_ref().unwrap().client_certificate);
}

#[test]
fn protocols_are_agreed_on_by_alpn() {
    let authority = Authority::new();
    let tls = Tls::with(&authority.good());
    let cases = [
        (tls.clone().alpn(&["h2", "http/1.1"]), Some("h2")),
        (tls.clone().alpn(&["http/1.1"]), Some("http/1.1")),
        (tls, None),
    ];
    for (tls, agreed) in cases {
        let server = http::ok("").serve_tls(tls);
        let mut client = Client::of(&authority);
        client.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        client.get(server.address()).unwrap();
        let seen = server.requests()[0].tls.clone().unwrap();
        assert_eq!(seen.alpn.as_deref(), agreed);
    }
}

#[test]
fn the_handshake_waits_stalls_or_breaks_off() {
    let authority = Authority::new();
    let tls = Tls::with(&authority.good());
    let slow = http::phases(http::Phases {
        before_tls: 150 * MS,
        ..http::Phases::default()
    });
    let slow = slow.serve_tls(tls.clone());
    let start = std::time::Instant::now();
    Client::of(&authority).connect(slow.address()).unwrap();
    assert!(start.elapsed() >= 150 * MS);

    let stalls = tls::stalls_after_client_hello().serve();
    assert!(hears_nothing(stalls.address(), HELLO, 200 * MS));
    let silent = http::silence().serve_tls(tls.clone());
    assert!(hears_nothing(silent.address(), HELLO, 200 * MS));

    let resets = tls::resets_after_client_hello().serve();
    let got = exchange(tcp(resets.address()), HELLO, usize::MAX);
    assert_eq!(got.error, Some(ErrorKind::ConnectionReset));

    let after = Script::new().accept().handshake().reset();
    let after = after.serve_tls(tls.only_1_2());
    let mut stream = Client::of(&authority).connect(after.address()).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_old_server_sends_the_alert_and_a_plain_one_plain_text() {
    let authority = Authority::new();
    let old = tls::only_1_0().serve();
    let got = exchange(tcp(old.address()), HELLO, usize::MAX);
    assert_eq!(got.bytes, [0x15, 3, 1, 0, 2, 2, 0x46]);
    let error = Client::of(&authority).get(old.address()).unwrap_err();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let plain = tls::speaks_plain_http().serve();
    let error = Client::of(&authority).get(plain.address()).unwrap_err();
    assert!(error.contains("corrupt"), "{error}");
}

#[test]
fn a_cut_has_no_close_notify_but_a_close_has() {
    let authority = Authority::new();
    let tls = Tls::with(&authority.good());
    let answer = || http::request().send("HTTP/1.1 200 OK\r\n\r\nhi");
    let closes = answer().close().serve_tls(tls.clone());
    let got = Client::of(&authority).get(closes.address()).unwrap();
    assert_eq!((got.body(), got.error), (&b"hi"[..], None));
    let cuts = answer().cut().serve_tls(tls);
    let got = Client::of(&authority).get(cuts.address()).unwrap();
    assert_eq!(got.body(), b"hi");
    assert_eq!(got.error, Some(ErrorKind::UnexpectedEof));
}

#[test]
fn a_path_is_found_under_tls() {
    let authority = Authority::new();
    let server = crate::scripted::Scripts::new()
        .path("/", http::ok("here"))
        .tls(Tls::with(&authority.good()))
        .start();
    let mut stream = Client::of(&authority).connect(server.address()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("here"));
}
