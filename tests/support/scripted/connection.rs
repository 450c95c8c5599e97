//! One connection, following its scripts.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    LIFETIME, Script, Scripts, h2,
    script::Step,
    server::{Request, Seen},
    tls::TlsSeen,
};

/// How long `close` reads on after its FIN, for clients that do not close in turn.
const LINGER: Duration = Duration::from_secs(5);

/// A RST makes the client forget what it has not read: what was sent before gets this long to be read.
const BEFORE_RESET: Duration = Duration::from_millis(50);

/// A request's head that is larger is a mistake of the test.
const MAX_HEAD: usize = 1 << 20;

enum Wire {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
    /// Moved into a handshake or to HTTP/2, or reset.
    Gone,
}

impl Wire {
    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into).await,
            Self::Encrypted(tls) => tls.read(into).await,
            Self::Gone => Ok(0),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes).await,
            Self::Encrypted(tls) => {
                tls.write_all(bytes).await?;
                tls.flush().await
            }
            Self::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.shutdown().await,
            Self::Encrypted(tls) => tls.shutdown().await,
            Self::Gone => Ok(()),
        }
    }

    fn tcp(&mut self) -> Option<&mut TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Encrypted(tls) => Some(tls.get_mut().0),
            Self::Gone => None,
        }
    }
}

pub(super) struct Connection {
    pub(super) number: usize,
    pub(super) seen: Arc<Seen>,
    pub(super) tls: Option<TlsSeen>,
    wire: Wire,
    /// Until the handshake is made.
    acceptor: Option<TlsAcceptor>,
    /// Read, but not yet asked for.
    buffer: Vec<u8>,
    /// The place of the last request in what was seen.
    request: Option<usize>,
    has_sent: bool,
}

/// What comes after a script.
enum Next {
    Request,
    Nothing,
}

/// Serves a connection to its end.
pub(super) async fn follow(mut connection: Connection, scripts: &Scripts) {
    let number = connection.number;
    let seen = Arc::clone(&connection.seen);
    let served = timeout(LIFETIME, async {
        loop {
            let script = match scripts.before_head(number) {
                Some(script) => script,
                None => {
                    let head = connection.await_head().await?;
                    let head = String::from_utf8_lossy(&connection.buffer[..head]);
                    let target = head.split(' ').nth(1).unwrap_or_default();
                    scripts.for_path(target)
                }
            };
            if let Next::Nothing = connection.take(script).await? {
                return io::Result::Ok(());
            }
        }
    });
    match served.await {
        Ok(Ok(())) => {}
        // The client left between two requests.
        Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {}
        Ok(Err(error)) => seen.trouble(number, &error.to_string()),
        Err(_) => seen.trouble(number, "served for too long"),
    }
}

impl Connection {
    pub(super) fn new(
        number: usize,
        tcp: TcpStream,
        acceptor: Option<TlsAcceptor>,
        seen: Arc<Seen>,
    ) -> Self {
        Self {
            number,
            seen,
            tls: None,
            wire: Wire::Plain(tcp),
            acceptor,
            buffer: Vec::new(),
            request: None,
            has_sent: false,
        }
    }

    async fn take(&mut self, script: &Script) -> io::Result<Next> {
        self.request = None;
        let mut last_head = None;
        for step in &script.steps {
            match step {
                Step::Handshake => self.handshake().await?,
                Step::ReadRecord => self.read_record().await?,
                Step::ReadHead => last_head = Some(self.read_head().await?),
                Step::ReadBody => self.read_body(last_head.as_deref()).await?,
                Step::Read(count) => {
                    let bytes = self.take_bytes(*count).await?;
                    self.record_body(&bytes);
                }
                Step::Wait(time) => sleep(*time).await,
                Step::Send(bytes) => self.send(bytes).await?,
                Step::Repeat {
                    chunk,
                    every,
                    times,
                } => {
                    let mut left = times.unwrap_or(u64::MAX);
                    while left > 0 {
                        self.send(chunk).await?;
                        // The shortest sleep is a millisecond long, even of nothing.
                        if !every.is_zero() {
                            sleep(*every).await;
                        }
                        left -= 1;
                    }
                }
                Step::H2(answers) => {
                    self.handshake().await?;
                    if self.tls.as_ref().is_none_or(TlsSeen::is_h2) {
                        let told = self.speak_h2(answers).await;
                        // Unread frames would turn the end into a RST, and that would overtake a GOAWAY.
                        self.close().await?;
                        return told.map(|()| Next::Nothing);
                    }
                }
                Step::Close => return self.close().await,
                Step::Cut => return self.cut().await,
                Step::Reset => return self.reset().await,
                Step::Stall => {
                    self.drain().await;
                    return Ok(Next::Nothing);
                }
            }
        }
        match last_head {
            Some(head) if keeps(&head) => Ok(Next::Request),
            _ => self.close().await,
        }
    }

    async fn handshake(&mut self) -> io::Result<()> {
        let Some(acceptor) = self.acceptor.take() else {
            return Ok(());
        };
        let Wire::Plain(tcp) = std::mem::replace(&mut self.wire, Wire::Gone) else {
            return Ok(());
        };
        let tls = acceptor.accept(tcp).await.map_err(|error| {
            // Not UnexpectedEof, which would pass for a client that left in order.
            io::Error::other(format!("TLS handshake: {error}"))
        })?;
        self.tls = Some(TlsSeen::of(tls.get_ref().1));
        self.wire = Wire::Encrypted(Box::new(tls));
        Ok(())
    }

    /// Reads beneath TLS, and keeps nothing of it.
    async fn read_record(&mut self) -> io::Result<()> {
        if let Some(tcp) = self.wire.tcp() {
            let mut header = [0; 5];
            tcp.read_exact(&mut header).await?;
            let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            tcp.read_exact(&mut record).await?;
        }
        Ok(())
    }

    /// Reads more into the buffer; the end of the stream is an error.
    async fn fill(&mut self) -> io::Result<()> {
        self.handshake().await?;
        let mut chunk = [0; 16 * 1024];
        match self.wire.read(&mut chunk).await? {
            0 if self.buffer.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            0 => Err(io::Error::other("the client left within its request")),
            read => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }

    /// Reads until a whole head is in the buffer; gives its length without the empty line.
    async fn await_head(&mut self) -> io::Result<usize> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(end + 2);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::other("the request's head is too large"));
            }
            self.fill().await?;
        }
    }

    async fn read_head(&mut self) -> io::Result<String> {
        let end = self.await_head().await?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 2);
        self.request = Some(self.seen.record(Request {
            connection: self.number,
            at: Instant::now(),
            head: head.clone(),
            body: Vec::new(),
            tls: self.tls.clone(),
        }));
        Ok(head)
    }

    async fn read_body(&mut self, head: Option<&str>) -> io::Result<()> {
        let head = head.unwrap_or_default();
        let chunked = header(head, "transfer-encoding").is_some_and(|value| value == "chunked");
        if chunked {
            loop {
                let size = self.take_line().await?;
                let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                let chunk = self.take_bytes(size).await?;
                self.record_body(&chunk);
                self.take_line().await?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        let length = header(head, "content-length").map_or(Ok(0), |value| value.parse());
        let body = self.take_bytes(length.map_err(io::Error::other)?).await?;
        self.record_body(&body);
        Ok(())
    }

    async fn take_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<_> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill().await?;
        }
    }

    async fn take_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn record_body(&self, bytes: &[u8]) {
        if let Some(place) = self.request {
            self.seen.add_body(place, bytes);
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.handshake().await?;
        self.has_sent = true;
        self.wire.write(bytes).await
    }

    async fn speak_h2(&mut self, answers: &h2::Answers) -> io::Result<()> {
        let log = h2::Log {
            connection: self.number,
            seen: Arc::clone(&self.seen),
            tls: self.tls.clone(),
        };
        let told = match &mut self.wire {
            Wire::Plain(tcp) => h2::speak(tcp, answers, &log).await,
            Wire::Encrypted(tls) => h2::speak(tls, answers, &log).await,
            Wire::Gone => Ok(()),
        };
        told.map_err(io::Error::other)
    }

    async fn close(&mut self) -> io::Result<Next> {
        self.wire.shutdown().await?;
        let _ = timeout(LINGER, self.drain()).await;
        Ok(Next::Nothing)
    }

    async fn cut(&mut self) -> io::Result<Next> {
        if let Some(tcp) = self.wire.tcp() {
            tcp.shutdown().await?;
        }
        let _ = timeout(LINGER, self.drain()).await;
        Ok(Next::Nothing)
    }

    async fn reset(&mut self) -> io::Result<Next> {
        if self.has_sent {
            sleep(BEFORE_RESET).await;
        }
        if let Some(tcp) = self.wire.tcp() {
            tcp.set_zero_linger()?;
        }
        self.wire = Wire::Gone;
        Ok(Next::Nothing)
    }

    /// Reads and forgets until the client is gone, however it goes.
    async fn drain(&mut self) {
        let mut chunk = [0; 16 * 1024];
        if let Some(tcp) = self.wire.tcp() {
            while tcp.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
        }
    }
}

/// Whether the client lets the connection be used again.
fn keeps(head: &str) -> bool {
    let line = head.lines().next().unwrap_or_default();
    let asked_to_close =
        header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    line.ends_with("HTTP/1.1") && !asked_to_close
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().skip(1);
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let field = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
    field.map(|(_, value)| value.trim())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
