//! What happens on one connection, step by step.

use std::time::Duration;

use bytes::Bytes;

use super::{Scripts, Server, Tls, h2::Answers};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Handshake,
    ReadRecord,
    ReadHead,
    ReadBody,
    Read(usize),
    Wait(Duration),
    Send(Bytes),
    Repeat {
        chunk: Bytes,
        every: Duration,
        times: Option<u64>,
    },
    H2(Answers),
    Close,
    Cut,
    Reset,
    Stall,
}

/// What a server does on one connection. A script that has read a request and ends without [`close`](Self::close),
/// [`cut`](Self::cut), [`reset`](Self::reset) or [`stall`](Self::stall) keeps the connection for the next request, unless
/// the client asked for its end; any other script ends with `close`.
///
/// On a server with TLS the handshake is made by the first step that reads or sends: `wait` before it delays ServerHello,
/// `reset` or `stall` before it comes instead of ServerHello.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(super) steps: Vec<Step>,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Takes the connection. The system has done so already; the word is there so that a script reads in order.
    pub fn accept(self) -> Self {
        self
    }

    /// Makes the TLS handshake now; nothing without TLS.
    pub fn handshake(self) -> Self {
        self.then(Step::Handshake)
    }

    /// Reads one TLS record, the ClientHello, and answers nothing: for servers that misbehave beneath TLS.
    pub fn read_client_hello(self) -> Self {
        self.then(Step::ReadRecord)
    }

    /// Reads a request up to the empty line, and records it.
    pub fn read_head(self) -> Self {
        self.then(Step::ReadHead)
    }

    /// Reads the body that the request's head announced, by its length or in chunks, and records it.
    pub fn read_body(self) -> Self {
        self.then(Step::ReadBody)
    }

    /// Reads `count` bytes, recorded as body of the last request.
    pub fn read(self, count: usize) -> Self {
        self.then(Step::Read(count))
    }

    pub fn wait(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(Bytes::copy_from_slice(bytes.as_ref())))
    }

    /// Sends `chunk` so many times.
    pub fn repeat(self, chunk: impl AsRef<[u8]>, times: u64) -> Self {
        self.then(Step::Repeat {
            chunk: Bytes::copy_from_slice(chunk.as_ref()),
            every: Duration::ZERO,
            times: Some(times),
        })
    }

    /// Sends `chunk` again and again, as fast as it is taken, until the client is gone.
    pub fn send_endlessly(self, chunk: impl AsRef<[u8]>) -> Self {
        self.send_every(Duration::ZERO, chunk)
    }

    /// Sends `chunk`, and again after each `interval`, until the client is gone.
    pub fn send_every(self, interval: Duration, chunk: impl AsRef<[u8]>) -> Self {
        self.then(Step::Repeat {
            chunk: Bytes::copy_from_slice(chunk.as_ref()),
            every: interval,
            times: None,
        })
    }

    /// Sends byte by byte, with `interval` between two.
    pub fn drip(mut self, bytes: impl AsRef<[u8]>, interval: Duration) -> Self {
        for (n, byte) in bytes.as_ref().iter().enumerate() {
            if n > 0 {
                self = self.wait(interval);
            }
            self = self.send([*byte]);
        }
        self
    }

    /// Speaks HTTP/2 from here on, if the client chose it by ALPN or there is no TLS (prior knowledge); otherwise the
    /// steps after this one are taken.
    pub fn h2(self, answers: impl Into<Answers>) -> Self {
        self.then(Step::H2(answers.into()))
    }

    /// Ends the connection in order: close_notify if there is TLS, FIN, and what the client still sends is read, so that
    /// nothing is lost by a reset.
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }

    /// FIN without TLS' close_notify.
    pub fn cut(self) -> Self {
        self.then(Step::Cut)
    }

    /// Ends the connection by RST.
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// Says nothing more, but keeps the connection until the client goes.
    pub fn stall(self) -> Self {
        self.then(Step::Stall)
    }

    /// A server on 127.0.0.1 that follows this script on every connection.
    pub fn serve(self) -> Server {
        Scripts::new().otherwise(self).start()
    }

    /// The same, encrypted.
    pub fn serve_tls(self, tls: Tls) -> Server {
        Scripts::new().otherwise(self).tls(tls).start()
    }
}
