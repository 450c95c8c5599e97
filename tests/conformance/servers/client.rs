//! Plain clients that hide nothing of what they get.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::ServerName,
};

use crate::scripted::{Authority, Server, tls::provider};

/// Long enough for a loaded machine, short enough for a test that fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an exchange ended, with all that came before.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    /// What was there instead of an end in order.
    pub(crate) error: Option<io::ErrorKind>,
    pub(crate) took: Duration,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn body(&self) -> &[u8] {
        let end = self.bytes.windows(4).position(|part| part == b"\r\n\r\n");
        &self.bytes[end.expect("an answer has an empty line") + 4..]
    }
}

pub(crate) fn tcp(to: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(to).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp
}

/// A GET whose connection is not to be kept.
pub(crate) fn get(server: &Server, path: &str) -> Got {
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    exchange(tcp(server.address()), request.as_bytes(), usize::MAX)
}

/// Sends, then reads to the end or until `limit` bytes have come.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &[u8], limit: usize) -> Got {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    // A RST that is there already is told to the first call only, be it this one.
    let refused = stream.write_all(request).err();
    let error = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break refused.map(|error| error.kind()),
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) => break Some(error.kind()),
        }
        if bytes.len() >= limit {
            break None;
        }
    };
    Got {
        bytes,
        error,
        took: start.elapsed(),
    }
}

/// Sends, and finds that nothing comes for `time`.
pub(crate) fn hears_nothing(to: SocketAddr, request: &[u8], time: Duration) -> bool {
    let mut tcp = tcp(to);
    tcp.set_read_timeout(Some(time)).unwrap();
    tcp.write_all(request).unwrap();
    let error = tcp.read(&mut [0]).err().map(|error| error.kind());
    matches!(
        error,
        Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
    )
}

/// How a client does TLS.
pub(crate) struct Client {
    pub(crate) roots: RootCertStore,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) certificate: Option<crate::scripted::tls::Certificate>,
    pub(crate) name: &'static str,
}

impl Client {
    pub(crate) fn of(authority: &Authority) -> Self {
        Self {
            roots: authority.roots(),
            versions: rustls::ALL_VERSIONS,
            alpn: Vec::new(),
            certificate: None,
            name: "localhost",
        }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
                .unwrap(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    /// Makes the handshake; the error is that of rustls, in words.
    pub(crate) fn connect(
        &self,
        to: SocketAddr,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let name = ServerName::try_from(self.name).unwrap();
        let mut tls = ClientConnection::new(self.config(), name).unwrap();
        let mut tcp = tcp(to);
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)
                .map_err(|error| error.to_string())?;
        }
        Ok(StreamOwned::new(tls, tcp))
    }

    /// The whole answer to a GET.
    pub(crate) fn get(&self, to: SocketAddr) -> Result<Got, String> {
        let stream = self.connect(to)?;
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        Ok(exchange(stream, request, usize::MAX))
    }
}
