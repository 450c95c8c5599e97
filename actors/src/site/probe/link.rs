//! The connection under a check: tells the trace when the first byte of the answer comes, and bounds the answer's head.

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

use super::trace::Trace;

/// What an error says when the head of an answer is too large.
pub(super) const HEAD_TOO_LARGE: &str = "the head of the answer is too large";

/// A connection to a site.
#[derive(Debug)]
pub(super) struct Link {
    way: Way,
    pub(super) trace: Rc<Trace>,
}

#[derive(Debug)]
enum Way {
    Plain(TcpStream),
    /// Boxed: it is forty times the size of the other.
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Link {
    pub(super) fn plain(tcp: TcpStream, trace: Rc<Trace>) -> Self {
        Self {
            way: Way::Plain(tcp),
            trace,
        }
    }

    pub(super) fn encrypted(tls: TlsStream<TcpStream>, trace: Rc<Trace>) -> Self {
        Self {
            way: Way::Encrypted(Box::new(tls)),
            trace,
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.way {
            Way::Plain(tcp) => tcp,
            Way::Encrypted(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.trace.head_left.get() == 0 {
            return Poll::Ready(Err(io::Error::other(HEAD_TOO_LARGE)));
        }
        let before = buf.filled().len();
        let read = match &mut me.way {
            Way::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Way::Encrypted(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        };
        ready!(read)?;
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            me.trace.first_byte();
            let left = &me.trace.head_left;
            left.set(left.get().saturating_sub(bytes));
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
        match &mut self.get_mut().way {
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
