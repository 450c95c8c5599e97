//! The TLS handshake with a site.

use std::{io, sync::Arc};

use rustls::{CertificateError, ClientConfig, ProtocolVersion, pki_types::ServerName};
use sitewatch_config::TlsVersion;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_cert::der::Decode;

use super::super::attempt::{Certificate, Failure, TlsFacts};
use crate::model::{ErrorKind, Slot};

/// What ALPN calls HTTP/2.
pub(super) const H2: &[u8] = b"h2";

/// Encrypts `stream` to the server `name`.
///
/// # Errors
/// `tls_error`, `cert_expired` or `cert_invalid`, with the reason.
pub(super) async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    name: &str,
    stream: S,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<S>, Failure> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        Failure::new(
            ErrorKind::TlsError,
            format!("{name} can't be a name in a certificate"),
        )
    })?;
    TlsConnector::from(config)
        .connect(server, stream)
        .await
        .map_err(|error| name_error(name, &error))
}

/// What the handshake showed.
pub(super) fn facts<S>(stream: &TlsStream<S>) -> TlsFacts {
    let (_, connection) = stream.get_ref();
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
        _ => TlsVersion::V1_2,
    };
    let chain = connection.peer_certificates().unwrap_or_default();
    TlsFacts {
        version,
        // None after one that can't be read: the first is the site's.
        chain: chain.iter().map_while(|der| certificate(der)).collect(),
    }
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    let parsed = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
    let seconds = |time: x509_cert::time::Time| {
        i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
    };
    Some(Certificate {
        subject: parsed.subject.to_string(),
        issuer: parsed.issuer.to_string(),
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
        rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => Failure::new(
            ErrorKind::TlsError,
            "the server speaks no TLS from 1.2 on (alert: protocol_version)",
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
            format!(
                "the certificate is not for {name}, but for {}",
                presented.join(", ")
            ),
        ),
        other => (
            ErrorKind::CertInvalid,
            format!("the certificate is not valid: {other:?}"),
        ),
    };
    Failure::new(kind, detail)
}
