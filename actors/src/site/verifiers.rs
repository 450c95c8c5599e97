//! How the certificate of a site is verified, or not.

use std::{cell::RefCell, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::tls::TlsError;

thread_local! {
    /// The certificates that were refused last on this thread.
    static REFUSED: RefCell<Vec<CertificateDer<'static>>> = RefCell::default();
}

/// The certificates of the handshake that has just failed on this thread: of the site first. None if they were not what it
/// failed for.
pub(super) fn take_refused() -> Vec<CertificateDer<'static>> {
    REFUSED.take()
}

/// Verifies as usual, and remembers what it refuses: rustls does not show it then, but people need to see it.
#[derive(Debug)]
pub(super) struct Remembering {
    /// None without roots, of which the usual one can't be made: every certificate is unknown then.
    usual: Option<Arc<WebPkiServerVerifier>>,
    schemes: Vec<SignatureScheme>,
}

impl Remembering {
    pub(super) fn over(
        roots: Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        if roots.is_empty() {
            let usual = None;
            return Ok(Self { usual, schemes });
        }
        let usual = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Library(rustls::Error::General(error.to_string())))?;
        let usual = Some(usual);
        Ok(Self { usual, schemes })
    }

    fn usual(&self) -> Result<&WebPkiServerVerifier, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        self.usual.as_deref().ok_or(unknown)
    }
}

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .usual()
            .and_then(|usual| usual.verify_server_cert(end_entity, intermediates, name, ocsp, now));
        if verified.is_err() {
            let chain = std::iter::once(end_entity).chain(intermediates);
            REFUSED.set(chain.map(|der| der.clone().into_owned()).collect());
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Accepts every certificate, also those that the verifier could not even read (of an old version, with a short key). Whether
/// the other side has its key makes no difference then.
#[derive(Debug)]
pub(super) struct AnyCertificate(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
