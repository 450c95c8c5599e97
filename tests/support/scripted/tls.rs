//! An authority of a test's own, certificates good and bad, and servers that are bad at TLS.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

use super::Script;

/// The names of a good certificate.
pub const HOSTS: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Signs certificates. Its own certificate and theirs are files, so that settings can name them.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    issued: AtomicU32,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    pub fn new() -> Self {
        Self::named("Test Authority", "Scripted Servers", "ZZ")
    }

    /// An authority whose certificates are issued by `CN=name,O=organization,C=country`.
    pub fn named(name: &str, organization: &str, country: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in [
            (DnType::CountryName, country),
            (DnType::OrganizationName, organization),
            (DnType::CommonName, name),
        ] {
            params.distinguished_name.push(kind, value);
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            folder,
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            issued: AtomicU32::new(0),
        }
    }

    /// The PEM file of the authority's certificate, for `tls.ca`.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    /// For `localhost`, `127.0.0.1` and `::1`, since yesterday and for 90 days.
    pub fn good(&self) -> Certificate {
        self.certificate(HOSTS, -1, 90)
    }

    pub fn expired(&self) -> Certificate {
        self.certificate(HOSTS, -30, -1)
    }

    pub fn not_yet_valid(&self) -> Certificate {
        self.certificate(HOSTS, 1, 30)
    }

    pub fn wrong_host(&self) -> Certificate {
        self.certificate(&["elsewhere.test"], -1, 90)
    }

    /// Valid for so many days and an hour: the whole days that are left are `days` for as long as a test runs.
    pub fn expires_in(&self, days: i32) -> Certificate {
        self.certificate(HOSTS, -1, days)
    }

    /// For those hosts, valid between two days counted from now.
    pub fn certificate(&self, hosts: &[&str], from: i32, to: i32) -> Certificate {
        let params = params(hosts, from, to, ExtendedKeyUsagePurpose::ServerAuth);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        self.keep(&signed, &key)
    }

    /// A certificate that no authority signed, for the right hosts.
    pub fn self_signed(&self) -> Certificate {
        let params = params(HOSTS, -1, 90, ExtendedKeyUsagePurpose::ServerAuth);
        let key = KeyPair::generate().unwrap();
        let signed = params.self_signed(&key).unwrap();
        self.keep(&signed, &key)
    }

    /// A client's certificate, for `tls.cert` and `tls.key`.
    pub fn client(&self, name: &str) -> Certificate {
        let mut params = params(&[], -1, 90, ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        self.keep(&signed, &key)
    }

    fn keep(&self, certificate: &rcgen::Certificate, key: &KeyPair) -> Certificate {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let file = |end| self.folder.path().join(format!("{number}.{end}"));
        let kept = Certificate {
            chain: vec![certificate.der().clone()],
            key: Arc::new(PrivatePkcs8KeyDer::from(key.serialize_der()).into()),
            cert_file: file("cert.pem"),
            key_file: file("key.pem"),
        };
        fs::write(&kept.cert_file, certificate.pem()).unwrap();
        fs::write(&kept.key_file, key.serialize_pem()).unwrap();
        kept
    }
}

fn params(
    hosts: &[&str],
    from: i32,
    to: i32,
    use_for: ExtendedKeyUsagePurpose,
) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let name = hosts.first().cloned();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.extended_key_usages = vec![use_for];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + day(from);
    // The hour is why `expires_in` says whole days.
    params.not_after = epoch + day(to) + Duration::from_secs(60 * 60);
    params
}

/// So many days from now, since the epoch.
fn day(offset: i32) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let distance = DAY * offset.unsigned_abs();
    if offset < 0 {
        now - distance
    } else {
        now + distance
    }
}

/// A certificate with its key. Its files live as long as its authority.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Arc<PrivateKeyDer<'static>>,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// How a server does TLS: versions 1.2 and 1.3, no ALPN, and no client certificate, unless said otherwise.
#[derive(Clone, Debug)]
pub struct Tls {
    certificate: Certificate,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    clients: Option<RootCertStore>,
}

impl Tls {
    pub fn with(certificate: &Certificate) -> Self {
        Self {
            certificate: certificate.clone(),
            versions: vec![&TLS12, &TLS13],
            alpn: Vec::new(),
            clients: None,
        }
    }

    pub fn only_1_2(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    pub fn only_1_3(mut self) -> Self {
        self.versions = vec![&TLS13];
        self
    }

    /// `&["h2", "http/1.1"]`, the preferred first. A client that offers none of them is refused; one without ALPN is not.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Refuses clients without a certificate of this authority.
    pub fn clients_of(mut self, authority: &Authority) -> Self {
        self.clients = Some(authority.roots());
        self
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let roots = Arc::new(roots.clone());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let Certificate { chain, key, .. } = &self.certificate;
        let mut config = builder
            .with_single_cert(chain.clone(), key.clone_key())
            .unwrap();
        config.alpn_protocols.clone_from(&self.alpn);
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Named, since a test binary may have none or two of them installed.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSeen {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The protocol that was agreed on by ALPN.
    pub alpn: Option<String>,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    pub client_certificate: bool,
}

impl TlsSeen {
    pub(super) fn of(tls: &ServerConnection) -> Self {
        let is_1_3 = tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        Self {
            version: if is_1_3 { "1.3" } else { "1.2" },
            alpn: tls
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            server_name: tls.server_name().map(ToOwned::to_owned),
            client_certificate: tls.peer_certificates().is_some(),
        }
    }

    pub(super) fn is_h2(&self) -> bool {
        self.alpn.as_deref() == Some("h2")
    }
}

/// Says what a server says that knows only TLS 1.0: the alert protocol_version, in a record of version 1.0. To be served
/// without [`Tls`], as the others below.
pub fn only_1_0() -> Script {
    Script::new()
        .accept()
        .read_client_hello()
        .send([0x15, 3, 1, 0, 2, 2, 0x46])
        .close()
}

/// Takes the ClientHello and says nothing.
pub fn stalls_after_client_hello() -> Script {
    Script::new().accept().read_client_hello().stall()
}

/// Takes the ClientHello and resets the connection.
pub fn resets_after_client_hello() -> Script {
    Script::new().accept().read_client_hello().reset()
}

/// Answers the ClientHello by plain HTTP, as a server does that has no TLS on this port.
pub fn speaks_plain_http() -> Script {
    let text = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    Script::new()
        .accept()
        .read_client_hello()
        .send(text)
        .close()
}
