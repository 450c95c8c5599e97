//! Answers of DNS, read byte by byte.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use crate::scripted::{
    MS,
    dns::{Answer, Dns, Query, Zone, addresses, rebinding},
};

const A: u8 = 1;
const AAAA: u8 = 28;

/// The code and the addresses of an answer; nothing if none came in time.
fn ask(dns: &Dns, name: &str, kind: u8, patience: Duration) -> Option<(u8, Vec<IpAddr>)> {
    let (query, packet) = raw(dns, name, kind, patience)?;
    assert_eq!(packet[..2], query[..2], "the id");
    assert_eq!(
        packet[2..4],
        [0x81, 0x80 | packet[3] & 15],
        "a recursive answer"
    );
    let question = &query[12..];
    assert_eq!(
        &packet[12..12 + question.len()],
        question,
        "the question as it was asked"
    );
    let mut records = &packet[12 + question.len()..];
    let mut found = Vec::new();
    for _ in 0..packet[7] {
        assert_eq!(records[..10], [0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0]);
        let length = usize::from(records[11]);
        let data = &records[12..12 + length];
        found.push(if let Ok(four) = <[u8; 4]>::try_from(data) {
            IpAddr::from(four)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(data).unwrap())
        });
        records = &records[12 + length..];
    }
    assert!(records.is_empty());
    Some((packet[3] & 15, found))
}

/// A query and the packet that answers it.
fn raw(dns: &Dns, name: &str, kind: u8, patience: Duration) -> Option<(Vec<u8>, Vec<u8>)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend([0, 0, kind, 0, 1]);
    socket.send_to(&query, dns.address()).unwrap();
    let mut packet = [0; 512];
    let length = socket.recv(&mut packet).ok()?;
    Some((query, packet[..length].to_vec()))
}

const SOON: Duration = Duration::from_secs(5);

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn names_have_the_answers_they_were_given() {
    let dns = Zone::new()
        .name("both.test", addresses(&["127.0.0.1", "127.0.0.2", "::1"]))
        .name("broken.test", Answer::ServFail)
        .name("empty.test", Answer::Empty)
        .start();
    let both = ask(&dns, "Both.TEST", A, SOON);
    assert_eq!(both, Some((0, ips(&["127.0.0.1", "127.0.0.2"]))));
    assert_eq!(ask(&dns, "both.test", AAAA, SOON), Some((0, ips(&["::1"]))));
    assert_eq!(ask(&dns, "broken.test", A, SOON), Some((2, Vec::new())));
    assert_eq!(ask(&dns, "empty.test", A, SOON), Some((0, Vec::new())));
    assert_eq!(ask(&dns, "unknown.test", A, SOON), Some((3, Vec::new())));
    let query = |name: &str, kind: &str| Query {
        name: name.to_owned(),
        kind: kind.to_owned(),
    };
    let queries = dns.queries();
    assert_eq!(
        queries[..2],
        [query("both.test", "A"), query("both.test", "AAAA")]
    );
    assert_eq!(queries.len(), 5);
}

#[test]
fn answers_come_late_or_not_at_all_or_in_half() {
    let dns = Zone::new()
        .name("late.test", addresses(&["127.0.0.1"]).after(150 * MS))
        .name("silent.test", Answer::Silence)
        .name("half.test", addresses(&["127.0.0.1"]).truncated())
        .start();
    let start = Instant::now();
    let late = ask(&dns, "late.test", A, SOON);
    assert_eq!(late, Some((0, ips(&["127.0.0.1"]))));
    assert!(start.elapsed() >= 145 * MS);
    assert_eq!(ask(&dns, "silent.test", A, 200 * MS), None);
    let (_, half) = raw(&dns, "half.test", A, SOON).unwrap();
    assert_eq!(half.len(), (12 + 15 + 16) / 2);
    assert_eq!(dns.queries().len(), 3);
}

#[test]
fn a_name_changes_its_address() {
    let dns = Zone::new()
        .name("shop.test", rebinding("203.0.113.7", "127.0.0.1"))
        .start();
    // Queries for the other family do not use up a turn.
    assert_eq!(ask(&dns, "shop.test", AAAA, SOON), Some((0, Vec::new())));
    for address in ["203.0.113.7", "127.0.0.1", "127.0.0.1"] {
        assert_eq!(ask(&dns, "shop.test", A, SOON), Some((0, ips(&[address]))));
    }
}
