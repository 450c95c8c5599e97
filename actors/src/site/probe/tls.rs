//! The TLS handshake with a site.

use std::{io, rc::Rc, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};
use sitewatch_config::TlsVersion;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_cert::der::Decode;

use super::{
    super::{
        attempt::{Certificate, Failure, TlsFacts},
        verifiers::take_refused,
    },
    trace::Trace,
};
use crate::model::{ErrorKind, Slot, printable};

/// What ALPN calls HTTP/2.
pub(super) const H2: &[u8] = b"h2";

/// Encrypts `stream` to the server `name`. What the handshake showed is noted, also if it failed for that.
///
/// # Errors
/// `tls_error`, `cert_expired` or `cert_invalid`, with the reason.
pub(super) async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    name: &str,
    stream: S,
    config: Arc<ClientConfig>,
    trace: &Trace,
) -> Result<TlsStream<S>, Failure> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        Failure::new(
            ErrorKind::TlsError,
            format!("{name} can't be a name in a certificate"),
        )
    })?;
    let encrypted = TlsConnector::from(config).connect(server, stream).await;
    // Without a pause after the verification, so that no other handshake has been between.
    let refused = take_refused();
    let facts = match &encrypted {
        Ok(stream) => Some(facts(stream)),
        Err(_) if refused.is_empty() => None,
        Err(_) => Some(TlsFacts {
            version: None,
            chain: chain(&refused),
        }),
    };
    trace.tls.replace(facts.map(Rc::new));
    encrypted.map_err(|error| name_error(name, &error))
}

fn facts<S>(stream: &TlsStream<S>) -> TlsFacts {
    let (_, connection) = stream.get_ref();
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
        _ => TlsVersion::V1_2,
    };
    TlsFacts {
        version: Some(version),
        chain: chain(connection.peer_certificates().unwrap_or_default()),
    }
}

/// None after one that can't be read: the first is the site's.
fn chain(certificates: &[CertificateDer<'_>]) -> Vec<Certificate> {
    certificates
        .iter()
        .map_while(|der| certificate(der))
        .collect()
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    let parsed = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
    let seconds = |time: x509_cert::time::Time| {
        i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
    };
    Some(Certificate {
        subject: printable(&parsed.subject.to_string()),
        issuer: printable(&parsed.issuer.to_string()),
        not_before: seconds(parsed.validity.not_before),
        not_after: seconds(parsed.validity.not_after),
    })
}

/// A refusal that comes after the handshake, as that of a missing client certificate does in TLS 1.3.
pub(super) fn name_late_error(error: &io::Error) -> Option<Failure> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(name_tls_error("", inner))
}

fn name_error(name: &str, error: &io::Error) -> Failure {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        let detail = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the server closed the connection during the handshake".to_owned()
            }
            _ => format!("handshake: {error}"),
        };
        return Failure::new(ErrorKind::TlsError, detail);
    };
    name_tls_error(name, tls)
}

fn name_tls_error(name: &str, error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(certificate) => name_certificate_error(name, certificate),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => Failure::new(
            ErrorKind::TlsError,
            "the server speaks no TLS from 1.2 on (alert: protocol_version)",
        ),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => Failure::new(
            ErrorKind::TlsError,
            "the server asks for a client certificate: tls.cert and tls.key",
        ),
        rustls::Error::AlertReceived(alert) => Failure::new(
            ErrorKind::TlsError,
            format!("the server refused the handshake (alert: {alert:?})"),
        ),
        rustls::Error::PeerIncompatible(why) => Failure::new(
            ErrorKind::TlsError,
            format!("the server speaks no TLS that is safe: {why:?}"),
        ),
        rustls::Error::InvalidMessage(_) => Failure::new(
            ErrorKind::TlsError,
            "the server does not speak TLS at this port",
        ),
        other => Failure::new(ErrorKind::TlsError, other.to_string()),
    }
}

fn name_certificate_error(name: &str, error: &CertificateError) -> Failure {
    let day = |time: rustls::pki_types::UnixTime| {
        let micros = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Slot::from_micros(micros.saturating_mul(1_000_000)).date()
    };
    let (kind, detail) = match error {
        CertificateError::ExpiredContext { not_after, .. } => (
            ErrorKind::CertExpired,
            format!("the certificate expired on {}", day(*not_after)),
        ),
        CertificateError::NotValidYetContext { not_before, .. } => (
            ErrorKind::CertExpired,
            format!("the certificate is valid only from {} on", day(*not_before)),
        ),
        CertificateError::Expired => (ErrorKind::CertExpired, "the certificate expired".to_owned()),
        CertificateError::NotValidYet => (
            ErrorKind::CertExpired,
            "the certificate is not valid yet".to_owned(),
        ),
        CertificateError::UnknownIssuer => (
            ErrorKind::CertInvalid,
            "the certificate is not signed by an authority that is trusted (self-signed, or a certificate in between is missing); tls.ca trusts another one"
                .to_owned(),
        ),
        CertificateError::NotValidForName => (
            ErrorKind::CertInvalid,
            format!("the certificate is not for {name}"),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => (
            ErrorKind::CertInvalid,
            format!("the certificate is not for {name}, but for {}", names(presented)),
        ),
        CertificateError::BadSignature => (
            ErrorKind::CertInvalid,
            "the signature of the certificate is not that of its issuer".to_owned(),
        ),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => (
            ErrorKind::CertInvalid,
            "the certificate is that of an authority, not one of a server, and as such not trusted (self-signed?); tls.insecure_skip_verify accepts it"
                .to_owned(),
        ),
        CertificateError::Other(other) => (
            ErrorKind::CertInvalid,
            format!("the certificate is not valid: {other}"),
        ),
        other => (
            ErrorKind::CertInvalid,
            format!("the certificate is not valid: {other:?}"),
        ),
    };
    Failure::new(kind, detail)
}

/// The names in a certificate, without what rustls puts around them: `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}
