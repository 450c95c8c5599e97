//! A DNS server over UDP that answers as it is told (RFC 1035, as much of it as stub resolvers see).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::host::Host;

const A: u16 = 1;
const AAAA: u16 = 28;

/// RFC 1035, 4.1.1.
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// The answer for one name.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Its addresses; a query for A gets those of IPv4, one for AAAA those of IPv6.
    Addresses(Vec<IpAddr>),
    NxDomain,
    ServFail,
    /// The name exists, but has no such record.
    Empty,
    /// No answer at all.
    Silence,
    /// An answer that comes later.
    After(Duration, Box<Answer>),
    /// One answer after the other, counted for A and AAAA apart; the last one stays: DNS rebinding.
    InTurn(Vec<Answer>),
    /// One answer to a query for A, another to one for AAAA.
    ByKind {
        a: Box<Answer>,
        aaaa: Box<Answer>,
    },
    /// Only half of the answer's bytes.
    Truncated(Box<Answer>),
}

/// The addresses of a name: `addresses(&["127.0.0.1", "::1"])`.
pub fn addresses(addresses: &[&str]) -> Answer {
    let parsed = addresses.iter().map(|address| address.parse().unwrap());
    Answer::Addresses(parsed.collect())
}

/// First this address, from the second query on that one.
pub fn rebinding(first: &str, then: &str) -> Answer {
    Answer::InTurn(vec![addresses(&[first]), addresses(&[then])])
}

impl Answer {
    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }

    pub fn truncated(self) -> Self {
        Self::Truncated(Box::new(self))
    }
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// In lower case, without the dot at its end.
    pub name: String,
    /// `A`, `AAAA`, or the number of another type.
    pub kind: String,
}

/// Names and their answers; a name that is not told is an NXDOMAIN.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: BTreeMap<String, Answer>,
}

impl Zone {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn name(mut self, name: &str, answer: Answer) -> Self {
        self.names.insert(name.to_ascii_lowercase(), answer);
        self
    }

    pub fn start(self) -> Dns {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let queries = Arc::<Mutex<Vec<Query>>>::default();
        let seen = Arc::clone(&queries);
        Dns {
            address,
            queries,
            _host: Host::run(move || serve(socket, self, seen)),
        }
    }
}

/// A running DNS server.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    queries: Arc<Mutex<Vec<Query>>>,
    _host: Host,
}

impl Dns {
    /// For `dns_servers`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All queries, also those that got no answer.
    pub fn queries(&self) -> Vec<Query> {
        self.queries.lock().unwrap().clone()
    }
}

async fn serve(socket: UdpSocket, zone: Zone, seen: Arc<Mutex<Vec<Query>>>) {
    let socket = Arc::new(tokio::net::UdpSocket::from_std(socket).unwrap());
    let mut packet = [0; 4096];
    loop {
        // An error here is an answer that nobody waited for any more (ICMP port unreachable).
        let Ok((length, client)) = socket.recv_from(&mut packet).await else {
            continue;
        };
        let Some(question) = Question::parse(&packet[..length]) else {
            continue;
        };
        let turn = {
            let mut seen = seen.lock().unwrap();
            let before = seen
                .iter()
                .filter(|query| **query == question.query)
                .count();
            seen.push(question.query.clone());
            before
        };
        let answer = zone.names.get(&question.query.name);
        let answer = answer.cloned().unwrap_or(Answer::NxDomain);
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            if let Some(bytes) = reply(&question, answer, turn).await {
                // The client may be gone.
                let _ = socket.send_to(&bytes, client).await;
            }
        });
    }
}

async fn reply(question: &Question, mut answer: Answer, turn: usize) -> Option<Vec<u8>> {
    let mut halved = false;
    loop {
        let (code, addresses) = match answer {
            Answer::After(time, later) => {
                tokio::time::sleep(time).await;
                answer = *later;
                continue;
            }
            Answer::InTurn(mut answers) => {
                let last = answers.len().checked_sub(1)?;
                answer = answers.swap_remove(turn.min(last));
                continue;
            }
            Answer::ByKind { a, aaaa } => {
                answer = if question.kind == A { *a } else { *aaaa };
                continue;
            }
            Answer::Truncated(whole) => {
                halved = true;
                answer = *whole;
                continue;
            }
            Answer::Silence => return None,
            Answer::NxDomain => (NXDOMAIN, Vec::new()),
            Answer::ServFail => (SERVFAIL, Vec::new()),
            Answer::Empty => (0, Vec::new()),
            Answer::Addresses(addresses) => (0, addresses),
        };
        let mut bytes = question.response(code, &addresses);
        if halved {
            bytes.truncate(bytes.len() / 2);
        }
        return Some(bytes);
    }
}

struct Question {
    id: [u8; 2],
    recursion_desired: u8,
    /// As it came, since resolvers compare it, upper and lower case included.
    bytes: Vec<u8>,
    kind: u16,
    query: Query,
}

impl Question {
    /// Reads the first question of a packet; what comes after it (EDNS) is left aside.
    fn parse(packet: &[u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut at = 12;
        loop {
            let length = usize::from(*packet.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            let label = packet.get(at..at + length)?;
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
        Some(Self {
            id: [packet[0], packet[1]],
            recursion_desired: packet[2] & 1,
            bytes: packet.get(12..at + 4)?.to_vec(),
            kind,
            query: Query {
                name: labels.join("."),
                kind: match kind {
                    A => "A".to_owned(),
                    AAAA => "AAAA".to_owned(),
                    other => other.to_string(),
                },
            },
        })
    }

    fn response(&self, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|address| match (self.kind, address) {
                (A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
                (AAAA, IpAddr::V6(address)) => Some(address.octets().to_vec()),
                _ => None,
            })
            .collect();
        let mut bytes = self.id.to_vec();
        // A response of a recursive server: QR and RD as asked, RA and the code.
        bytes.extend([0x80 | self.recursion_desired, 0x80 | code]);
        let answers = u16::try_from(records.len()).unwrap();
        for count in [1, answers, 0, 0] {
            bytes.extend(count.to_be_bytes());
        }
        bytes.extend(&self.bytes);
        for record in records {
            // The name of the question, by reference; this type; class IN; no caching; the length.
            bytes.extend([0xc0, 12]);
            bytes.extend(self.kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 0, 0]);
            bytes.push(u8::try_from(record.len()).unwrap());
            bytes.extend(record);
        }
        bytes
    }
}
