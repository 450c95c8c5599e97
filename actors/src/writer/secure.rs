//! TLS to PostgreSQL, with the meanings that libpq gives to `sslmode`.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sitewatch_config::{PostgresUrl, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::tls::{TlsError, provider, roots_from};

/// How the mode checks the server: `prefer` and `require` encrypt and trust whoever answers, `verify-ca` wants a
/// certificate of a trusted authority, `verify-full` also the right name in it. As in libpq, `require` with a given
/// `sslrootcert` is `verify-ca`.
///
/// # Errors
/// If `sslrootcert` can't be read.
pub(super) fn connector(url: &PostgresUrl) -> Result<MakeRustlsConnect, TlsError> {
    let roots = match url.root_cert() {
        Some(path) => roots_from(path)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let checked = match url.ssl_mode() {
        SslMode::Disable | SslMode::Prefer => Checked::Nothing,
        SslMode::Require if url.root_cert().is_none() => Checked::Nothing,
        SslMode::Require | SslMode::VerifyCa => Checked::Authority,
        SslMode::VerifyFull => Checked::AuthorityAndName,
    };
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = match checked {
        Checked::AuthorityAndName => builder.with_root_certificates(roots).with_no_client_auth(),
        lenient => {
            let authority = match lenient {
                Checked::Authority => Some(
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|error| Error::General(error.to_string()))?,
                ),
                _ => None,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Lenient { authority }))
                .with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

enum Checked {
    Nothing,
    Authority,
    AuthorityAndName,
}

/// Checks less than the whole: only the authority, or nothing. Signatures of the handshake are always checked, so that
/// the peer at least owns the certificate that it shows.
#[derive(Debug)]
struct Lenient {
    authority: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else {
            return Ok(ServerCertVerified::assertion());
        };
        match authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            // The name is checked last: the chain was found to be good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
