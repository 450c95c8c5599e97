//! What a proxy lets through.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::client::{exchange, tcp};
use crate::scripted::{
    MS, http,
    proxy::{Behaviour, Proxy},
};

/// The status of a CONNECT and, if it was let through, what the target answers to a GET.
fn through(proxy: &Proxy, target: &str, more: &str) -> (u16, String) {
    let mut stream = tcp(proxy.address());
    let connect = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{more}\r\n");
    stream.write_all(connect.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let request = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    let text = match status {
        200 => exchange(stream, request, usize::MAX).text(),
        _ => head,
    };
    (status, text)
}

#[test]
fn targets_are_reached_by_address_and_by_route_and_remembered() {
    let server = http::ok("behind the proxy").serve();
    let proxy = Behaviour::new()
        .route("shop.test:80", server.address())
        .start();
    let address = server.address().to_string();
    for target in [address.as_str(), "shop.test:80"] {
        let (status, text) = through(&proxy, target, "");
        assert_eq!(status, 200);
        assert!(text.ends_with("behind the proxy"), "{text}");
    }
    assert_eq!(proxy.targets(), [address.as_str(), "shop.test:80"]);
    assert!(proxy.heads()[1].contains("host: shop.test:80\r\n"));
    assert_eq!(server.connections(), 2);
}

#[test]
fn nothing_but_loopback_is_reached() {
    let proxy = Behaviour::new().start();
    for target in ["203.0.113.7:80", "unknown.test:80"] {
        assert_eq!(through(&proxy, target, "").0, 502);
    }
    assert_eq!(proxy.url(), format!("http://{}", proxy.address()));
}

#[test]
fn credentials_are_asked_for() {
    let server = http::ok("hi").serve();
    let proxy = Behaviour::new()
        .credentials("Aladdin", "open sesame")
        .start();
    let target = server.address().to_string();
    let (status, head) = through(&proxy, &target, "");
    assert_eq!(status, 407);
    assert!(head.contains("proxy-authenticate: Basic realm="));
    let wrong = "proxy-authorization: Basic QWxhZGRpbjpvcGVu\r\n";
    assert_eq!(through(&proxy, &target, wrong).0, 407);
    // The example of RFC 7617.
    let right = "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    assert_eq!(through(&proxy, &target, right).0, 200);
}

#[test]
fn a_proxy_refuses_and_takes_its_time() {
    let refuses = Behaviour::new().refuse(403).delay(100 * MS).start();
    let start = Instant::now();
    let anywhere: SocketAddr = ([127, 0, 0, 1], 9).into();
    assert_eq!(through(&refuses, &anywhere.to_string(), "").0, 403);
    let took = start.elapsed();
    assert!(took >= 95 * MS && took < Duration::from_secs(5), "{took:?}");
}
