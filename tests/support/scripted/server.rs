//! A TCP server that follows scripts and remembers what it got.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Script, Tls,
    connection::{self, Connection},
    host::Host,
    http,
    tls::TlsSeen,
};

/// Which script a connection or request gets: that of its connection's number, else that of its path, else the one of
/// [`otherwise`](Self::otherwise) (404 if there is none). With paths, the head is read before a script is chosen.
#[derive(Clone, Debug)]
pub struct Scripts {
    by_connection: BTreeMap<usize, Script>,
    by_path: BTreeMap<String, Script>,
    rest: Script,
    tls: Option<Tls>,
    address: SocketAddr,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            by_connection: BTreeMap::new(),
            by_path: BTreeMap::new(),
            rest: http::status(404),
            tls: None,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }
}

impl Scripts {
    pub fn new() -> Self {
        Self::default()
    }

    /// The script of the connection with this number; the first has 1.
    pub fn connection(mut self, number: usize, script: Script) -> Self {
        self.by_connection.insert(number, script);
        self
    }

    /// The script of requests for this path, whatever their query.
    pub fn path(mut self, path: &str, script: Script) -> Self {
        self.by_path.insert(path.to_owned(), script);
        self
    }

    pub fn otherwise(mut self, script: Script) -> Self {
        self.rest = script;
        self
    }

    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Listens there instead of a free port of 127.0.0.1: `"[::1]:0"`, or the port of another server on `::1`.
    pub fn at(mut self, address: impl ToString) -> Self {
        self.address = address.to_string().parse().unwrap();
        assert!(
            self.address.ip().is_loopback(),
            "scripted servers stay on loopback"
        );
        self
    }

    pub fn start(self) -> Server {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let secure = self.tls.is_some();
        let seen = Arc::<Seen>::default();
        let heard = Arc::clone(&seen);
        let host = Host::run(move || serve(listener, self, heard));
        Server {
            address,
            secure,
            seen,
            _host: host,
        }
    }

    /// The script for a connection on which nothing has been read.
    pub(super) fn before_head(&self, number: usize) -> Option<&Script> {
        let by_number = self.by_connection.get(&number);
        by_number.or_else(|| self.by_path.is_empty().then_some(&self.rest))
    }

    pub(super) fn for_path(&self, target: &str) -> &Script {
        let path = target.split('?').next().unwrap_or_default();
        self.by_path.get(path).unwrap_or(&self.rest)
    }
}

async fn serve(listener: TcpListener, scripts: Scripts, seen: Arc<Seen>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = scripts.tls.as_ref().map(Tls::acceptor);
    let scripts = Arc::new(scripts);
    while let Ok((tcp, _)) = listener.accept().await {
        // A script's pauses are to be seen as they are written.
        let _ = tcp.set_nodelay(true);
        let number = seen.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let open = Open::count(&seen);
        let connection = Connection::new(number, tcp, acceptor.clone(), Arc::clone(&seen));
        let scripts = Arc::clone(&scripts);
        tokio::spawn(async move {
            let _open = open;
            connection::follow(connection, &scripts).await;
        });
    }
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    secure: bool,
    seen: Arc<Seen>,
    _host: Host,
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a path, by the server's address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.address)
    }

    /// The URL of a path under a name: `server.url_for("localhost", "/")`.
    pub fn url_for(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme(), self.port())
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// All requests whose head was read, in the order of their arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests().clone()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// Whether all connections end within `time`: a client that leaks one is found by this. It blocks; where the client is
    /// a task of the test's own thread, ask [`open_connections`](Self::open_connections) again and again instead.
    pub fn all_closed_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while self.open_connections() > 0 {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Handshakes that failed and connections that broke off, in words.
    pub fn troubles(&self) -> Vec<String> {
        self.seen.troubles.lock().unwrap().clone()
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// The number of its connection; the first has 1.
    pub connection: usize,
    /// When its head was complete.
    pub at: Instant,
    /// The request line and headers, with their line ends but without the empty line. Of a request by HTTP/2 it is
    /// written as HTTP/1 would.
    pub head: String,
    pub body: Vec<u8>,
    pub tls: Option<TlsSeen>,
}

impl Request {
    pub fn method(&self) -> &str {
        self.word(0)
    }

    /// What the request line asks for, path and query.
    pub fn target(&self) -> &str {
        self.word(1)
    }

    /// `HTTP/1.1` or `HTTP/2.0`.
    pub fn version(&self) -> &str {
        self.word(2)
    }

    fn word(&self, n: usize) -> &str {
        let line = self.head.lines().next().unwrap_or_default();
        line.split(' ').nth(n).unwrap_or_default()
    }

    /// The first value of a header, its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).into_iter().next()
    }

    /// All values of a header, in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// What a server has seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    accepted: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    troubles: Mutex<Vec<String>>,
}

impl Seen {
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap()
    }

    /// Gives the request's place, for [`add_body`](Self::add_body).
    pub(super) fn record(&self, request: Request) -> usize {
        let mut requests = self.requests();
        requests.push(request);
        requests.len() - 1
    }

    pub(super) fn add_body(&self, place: usize, bytes: &[u8]) {
        self.requests()[place].body.extend_from_slice(bytes);
    }

    pub(super) fn trouble(&self, connection: usize, what: &str) {
        let words = format!("connection {connection}: {what}");
        self.troubles.lock().unwrap().push(words);
    }
}

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Seen>);

impl Open {
    fn count(seen: &Arc<Seen>) -> Self {
        seen.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(seen))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An address at which nothing listens: connections to it are refused.
pub fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
