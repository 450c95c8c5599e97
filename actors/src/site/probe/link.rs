//! The connection under a check. It tells the trace when the first byte of the answer comes, and reads the head of an answer
//! of HTTP/1 before awc gets it, for what awc does not do: bound the head, pass over interim answers (1xx), and take an answer
//! of HTTP/1.1 that names no length as one that ends with the connection (RFC 9112, 6.3; awc takes it as empty).

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_rt::net::{ActixStream, Ready};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    super::excerpt::excerpt,
    trace::{Framing, LARGEST_HEAD, Trace},
};

/// What an error says when the head of an answer is too large.
pub(super) const HEAD_TOO_LARGE: &str = "the head of the answer is too large";

/// What an error says when the connection ends in the head of an answer.
pub(super) const CUT_IN_HEAD: &str = "the connection was closed in the middle of the answer's head";

/// The most that is read at once, in bytes.
const PIECE: usize = 8 * 1024;

/// The most headers that are looked at; awc takes fewer.
const MOST_HEADERS: usize = 128;

/// A connection to a site.
#[derive(Debug)]
pub(super) struct Link {
    way: Way,
    pub(super) trace: Rc<Trace>,
    head: Head,
}

#[derive(Debug)]
enum Way {
    Plain(TcpStream),
    /// Boxed: it is forty times the size of the other.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// How far the head of an answer has come.
#[derive(Debug)]
enum Head {
    /// What has come of it.
    Coming(Vec<u8>),
    /// It is handed on, and so much of it has been.
    Complete(Vec<u8>, usize),
    /// What comes now is handed on as it comes.
    Passed,
}

impl Link {
    pub(super) fn plain(tcp: TcpStream, trace: Rc<Trace>) -> Self {
        Self::over(Way::Plain(tcp), trace)
    }

    pub(super) fn encrypted(tls: TlsStream<TcpStream>, trace: Rc<Trace>) -> Self {
        Self::over(Way::Encrypted(Box::new(tls)), trace)
    }

    fn over(way: Way, trace: Rc<Trace>) -> Self {
        Self {
            way,
            trace,
            head: Head::Coming(Vec::new()),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.way {
            Way::Plain(tcp) => tcp,
            Way::Encrypted(tls) => tls.get_ref().0,
        }
    }

    fn poll_way(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(match &mut self.way {
            Way::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Way::Encrypted(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        })?;
        let read = buf.filled().len() - before;
        if read > 0 {
            self.trace.first_byte();
        } else {
            self.trace.ended.set(true);
        }
        Poll::Ready(Ok(read))
    }

    /// Reads until the head is complete. `false` if the connection ended before it began.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut room = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut room);
            let read = ready!(self.poll_way(cx, &mut buf))?;
            let Head::Coming(head) = &mut self.head else {
                return Poll::Ready(Ok(true));
            };
            if read == 0 {
                return Poll::Ready(if head.is_empty() {
                    Ok(false)
                } else {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, CUT_IN_HEAD))
                });
            }
            // Not doubled: what is held of a hostile head is bounded.
            head.reserve_exact(read);
            head.extend_from_slice(buf.filled());
            if look(head, &self.trace) {
                self.head = Head::Complete(std::mem::take(head), 0);
                return Poll::Ready(Ok(true));
            }
            if head.len() > LARGEST_HEAD {
                return Poll::Ready(Err(io::Error::other(HEAD_TOO_LARGE)));
            }
        }
    }
}

/// Looks at the head so far; whether it can be handed on. Interim answers are taken out.
fn look(head: &mut Vec<u8>, trace: &Trace) -> bool {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        // As awc reads it.
        let mut parser = httparse::ParserConfig::default();
        parser.allow_spaces_after_header_name_in_responses(true);
        let length = match parser.parse_response(&mut answer, head) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return false,
            // awc says what is wrong with it.
            Err(_) => {
                trace.not_http.replace(Some(excerpt(head)));
                return true;
            }
        };
        let (status, version) = (answer.code.unwrap_or_default(), answer.version);
        if (100..200).contains(&status) && status != 101 {
            head.drain(..length);
            continue;
        }
        let named = |name: &str| {
            let mut headers = answer.headers.iter();
            headers.any(|header| header.name.eq_ignore_ascii_case(name))
        };
        let framing = match () {
            () if trace.to_head.get() || matches!(status, 101 | 204 | 304) => Framing::Empty,
            () if named("transfer-encoding") || named("content-length") => Framing::Told,
            () => Framing::UntilClosed,
        };
        trace.framing.set(framing);
        trace
            .version
            .set(Some(if version == Some(0) { "1.0" } else { "1.1" }));
        if framing == Framing::UntilClosed {
            // "HTTP/1.1": as an answer of HTTP/1.0 it ends with the connection.
            if let Some(minor) = head.get_mut(7) {
                *minor = b'0';
            }
        }
        return true;
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.trace.is_framed() || matches!(me.head, Head::Passed) {
            // In small pieces: whoever reads holds no more than it is given.
            let room = buf.remaining().min(PIECE);
            let mut piece = ReadBuf::new(buf.initialize_unfilled_to(room));
            let read = ready!(me.poll_way(cx, &mut piece))?;
            buf.advance(read);
            return Poll::Ready(Ok(()));
        }
        if matches!(me.head, Head::Coming(_)) && !ready!(me.poll_head(cx))? {
            return Poll::Ready(Ok(()));
        }
        if let Head::Complete(head, at) = &mut me.head {
            let part = &head[*at..];
            let part = &part[..part.len().min(buf.remaining())];
            buf.put_slice(part);
            *at += part.len();
            if *at == head.len() {
                me.head = Head::Passed;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        if matches!(me.head, Head::Passed) {
            // The next request, on a connection that was kept.
            me.head = Head::Coming(Vec::new());
        }
        match &mut me.way {
            Way::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Way::Encrypted(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Way::Encrypted(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Way::Encrypted(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

impl ActixStream for Link {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.tcp(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.tcp(), cx)
    }
}
