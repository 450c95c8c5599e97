//! A proxy for CONNECT. It leads to loopback only, whatever is asked for.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{LIFETIME, host::Host, http};

/// How a proxy behaves: it lets everybody through at once, unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    authorization: Option<String>,
    refusal: Option<u16>,
    delay: Duration,
    routes: BTreeMap<String, SocketAddr>,
}

impl Behaviour {
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers 407 to whoever does not bring these.
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        let pair = format!("{user}:{password}");
        self.authorization = Some(format!("Basic {}", base64(pair.as_bytes())));
        self
    }

    /// Answers every CONNECT with this status.
    pub fn refuse(mut self, status: u16) -> Self {
        self.refusal = Some(status);
        self
    }

    /// Waits before it answers.
    pub fn delay(mut self, time: Duration) -> Self {
        self.delay = time;
        self
    }

    /// Where a target leads that is no literal loopback address: `route("shop.test:443", server.address())`. Targets
    /// without a route get a 502.
    pub fn route(mut self, target: &str, to: SocketAddr) -> Self {
        assert!(to.ip().is_loopback(), "scripted servers stay on loopback");
        self.routes.insert(target.to_owned(), to);
        self
    }

    pub fn start(self) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        Proxy {
            address,
            heads,
            _host: Host::run(move || serve(listener, self, seen)),
        }
    }

    fn way(&self, target: &str) -> Option<SocketAddr> {
        let literal = || target.parse().ok();
        let address: Option<SocketAddr> = self.routes.get(target).copied().or_else(literal);
        address.filter(|address| address.ip().is_loopback())
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _host: Host,
}

impl Proxy {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For the option `proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn url_with(&self, user: &str, password: &str) -> String {
        format!("http://{user}:{password}@{}", self.address)
    }

    /// The heads of all requests, also of those that were refused.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// What was asked for, `host:port` each.
    pub fn targets(&self) -> Vec<String> {
        let heads = self.heads();
        let targets = heads.iter().filter_map(|head| head.split(' ').nth(1));
        targets.map(ToOwned::to_owned).collect()
    }
}

async fn serve(listener: TcpListener, behaviour: Behaviour, heads: Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let behaviour = Arc::new(behaviour);
    while let Ok((client, _)) = listener.accept().await {
        let (behaviour, heads) = (Arc::clone(&behaviour), Arc::clone(&heads));
        tokio::spawn(async move {
            // Both sides may break off as they like; the test sees it at their ends.
            let _ = timeout(LIFETIME, pass(client, &behaviour, &heads)).await;
        });
    }
}

async fn pass(
    mut client: TcpStream,
    behaviour: &Behaviour,
    heads: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let head = read_head(&mut client).await?;
    heads.lock().unwrap().push(head.clone());
    sleep(behaviour.delay).await;
    let mut words = head.split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let challenge = [("proxy-authenticate", "Basic realm=\"scripted\"")];
    let refusal = match &behaviour.authorization {
        _ if method != Some("CONNECT") => Some(http::head(405, &[], Some(0))),
        Some(wanted) if given(&head) != Some(wanted) => Some(http::head(407, &challenge, Some(0))),
        _ => behaviour
            .refusal
            .map(|status| http::head(status, &[], Some(0))),
    };
    if let Some(refusal) = refusal {
        return client.write_all(refusal.as_bytes()).await;
    }
    let reached = match behaviour.way(target) {
        Some(address) => TcpStream::connect(address).await,
        None => Err(io::ErrorKind::HostUnreachable.into()),
    };
    let Ok(mut server) = reached else {
        let refusal = http::head(502, &[], Some(0));
        return client.write_all(refusal.as_bytes()).await;
    };
    let established = "HTTP/1.1 200 Connection established\r\n\r\n";
    client.write_all(established.as_bytes()).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Byte by byte, since what follows the head is for the target.
async fn read_head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn given(head: &str) -> Option<&str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let field = fields.find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    field.map(|(_, value)| value.trim())
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= group.len() { digit as char } else { '=' });
        }
    }
    text
}
