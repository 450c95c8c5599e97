//! The connection under a check: resolved, connected and encrypted here, so that each step is timed and its failure named.
//!
//! awc is given plain `http` requests over this connection; it sees neither DNS nor TLS.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use actix_rt::net::{ActixStream, Ready};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::http::Uri;
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::attempt::Failure;
use crate::model::{ErrorKind, Phases};

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reached {
    #[default]
    Dns,
    Connect,
    Tls,
    Request,
    Body,
}

/// What is noted while an exchange goes on: readable also when it is cut off by its timeout.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) reached: Cell<Reached>,
    pub(super) phases: Cell<Phases>,
    pub(super) remote_ip: Cell<Option<IpAddr>>,
    /// When the connection was ready for the request.
    pub(super) ready: Cell<Option<Instant>>,
    pub(super) failure: RefCell<Option<Failure>>,
}

impl Trace {
    pub(super) fn note(&self, set: impl FnOnce(&mut Phases)) {
        let mut phases = self.phases.get();
        set(&mut phases);
        self.phases.set(phases);
    }

    fn fail(&self, kind: ErrorKind, detail: impl Into<String>) -> ConnectError {
        let failure = Failure::new(kind, detail);
        let error = io::Error::other(failure.detail.clone());
        *self.failure.borrow_mut() = Some(failure);
        ConnectError::Io(error)
    }
}

/// Microseconds since `start`, for the fields of [`Phases`].
pub(super) fn micros_since(start: Instant) -> Option<u32> {
    Some(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX))
}

/// Opens the connection for one hop; `tls` is given for `https`.
pub(super) async fn connect(
    request: ConnectInfo<Uri>,
    tls: Option<Arc<ClientConfig>>,
    trace: Rc<Trace>,
) -> Result<Connection<Uri, Link>, ConnectError> {
    // The URL crate writes IPv6 literals in brackets; the resolver wants them without.
    let host = request
        .hostname()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let addresses = resolve(&host, request.port(), &trace).await?;
    let tcp = reach(&addresses, &trace).await?;
    let link = match tls {
        None => Link::Plain(tcp),
        Some(config) => Link::Encrypted(Box::new(encrypt(&host, tcp, config, &trace).await?)),
    };
    trace.reached.set(Reached::Request);
    trace.ready.set(Some(Instant::now()));
    Ok(Connection::new(request.request().clone(), link))
}

async fn resolve(host: &str, port: u16, trace: &Trace) -> Result<Vec<SocketAddr>, ConnectError> {
    trace.reached.set(Reached::Dns);
    let start = Instant::now();
    let answer = tokio::net::lookup_host((host, port)).await;
    trace.note(|phases| phases.dns_us = micros_since(start));
    let addresses: Vec<_> = answer
        .map_err(|error| trace.fail(ErrorKind::DnsError, format!("{host}: {error}")))?
        .collect();
    if addresses.is_empty() {
        return Err(trace.fail(ErrorKind::DnsError, format!("{host} has no address")));
    }
    Ok(addresses)
}

async fn reach(addresses: &[SocketAddr], trace: &Trace) -> Result<TcpStream, ConnectError> {
    trace.reached.set(Reached::Connect);
    let start = Instant::now();
    let mut refusals = Vec::new();
    for address in addresses {
        trace.remote_ip.set(Some(address.ip()));
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                trace.note(|phases| phases.connect_us = micros_since(start));
                // Only a latency hint: a check goes on without it.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(error) => refusals.push((error.kind(), format!("{address}: {error}"))),
        }
    }
    trace.note(|phases| phases.connect_us = micros_since(start));
    let kind = match refusals.last().map(|(kind, _)| *kind) {
        Some(io::ErrorKind::TimedOut) => ErrorKind::ConnectTimeout,
        Some(io::ErrorKind::ConnectionReset) => ErrorKind::ConnectionReset,
        _ => ErrorKind::ConnectRefused,
    };
    let words: Vec<_> = refusals.into_iter().map(|(_, words)| words).collect();
    Err(trace.fail(kind, words.join("; ")))
}

async fn encrypt(
    host: &str,
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    trace: &Trace,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    trace.reached.set(Reached::Tls);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        trace.fail(
            ErrorKind::TlsError,
            format!("{host} can't be a name in a certificate"),
        )
    })?;
    let start = Instant::now();
    let handshake = TlsConnector::from(config).connect(name, tcp).await;
    trace.note(|phases| phases.tls_us = micros_since(start));
    handshake.map_err(|error| {
        let (kind, words) = name_tls_error(&error);
        trace.fail(kind, words)
    })
}

fn name_tls_error(error: &io::Error) -> (ErrorKind, String) {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return (ErrorKind::TlsError, format!("handshake: {error}"));
    };
    let kind = match tls {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ErrorKind::CertExpired,
            _ => ErrorKind::CertInvalid,
        },
        _ => ErrorKind::TlsError,
    };
    (kind, tls.to_string())
}

/// A connection to a site.
#[derive(Debug)]
pub(super) enum Link {
    Plain(TcpStream),
    /// Boxed: it is forty times the size of the other.
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Link {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Encrypted(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Encrypted(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Encrypted(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Encrypted(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Encrypted(tls) => Pin::new(tls).poll_shutdown(cx),
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
