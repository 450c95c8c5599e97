//! TLS settings of sites as clients, one for all sites that have the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use sitewatch_config::{HttpVersion, TlsOptions};

use crate::tls::{TlsError, provider, roots_from_pem, system_roots};

/// What may differ between clients. The client certificate is left out where a redirect has led to another origin.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    options: TlsOptions,
    http_version: HttpVersion,
}

/// Makes and keeps clients. The system's certificate store is read once.
pub(super) struct TlsClients {
    system: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    clients: Mutex<HashMap<Key, Arc<ClientConfig>>>,
}

impl TlsClients {
    /// No clients yet. Roots of the system that can't be read are left out, as browsers do.
    pub(super) fn new() -> Self {
        Self {
            system: Arc::new(system_roots()),
            provider: provider(),
            clients: Mutex::default(),
        }
    }

    /// The client for these settings.
    ///
    /// # Errors
    /// If a certificate or key is not one. Settings have looked at their form only.
    pub(super) fn client(
        &self,
        options: &TlsOptions,
        http_version: HttpVersion,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key {
            // The name is given with each handshake.
            options: TlsOptions {
                server_name: None,
                ..options.clone()
            },
            http_version,
        };
        if let Some(client) = clients.get(&key) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.build(&key)?);
        // Those that nobody has any more went with an earlier reload.
        clients.retain(|_, client| Arc::strong_count(client) > 1);
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    /// How many different clients are kept.
    pub(super) fn len(&self) -> usize {
        self.clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn build(&self, key: &Key) -> Result<ClientConfig, TlsError> {
        let options = &key.options;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?;
        let builder = if options.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(
                    &self.provider,
                ))))
        } else {
            let roots = match &options.ca {
                None => Arc::clone(&self.system),
                Some(file) => Arc::new(roots_from_pem(&file.path, &file.bytes)?),
            };
            if roots.is_empty() {
                // The verifier can't be made without roots; every certificate is unknown then.
                builder.with_root_certificates(roots)
            } else {
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
                        .build()
                        .map_err(|error| {
                            TlsError::Library(rustls::Error::General(error.to_string()))
                        })?;
                builder.with_webpki_verifier(verifier)
            }
        };
        let mut client = match &options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let file = |path: &std::path::Path, reason: String| TlsError::File {
                    path: path.display().to_string(),
                    reason,
                };
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(&identity.cert.bytes).collect();
                let chain = chain.map_err(|error| file(&identity.cert.path, error.to_string()))?;
                let key = PrivateKeyDer::from_pem_slice(&identity.key.bytes)
                    .map_err(|error| file(&identity.key.path, error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| file(&identity.key.path, error.to_string()))?
            }
        };
        client.alpn_protocols = match key.http_version {
            HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpVersion::One => vec![b"http/1.1".to_vec()],
            HttpVersion::Two => vec![b"h2".to_vec()],
        };
        // A visitor who comes for the first time has no session to resume, and a session hides a new certificate.
        client.resumption = Resumption::disabled();
        Ok(client)
    }
}

impl Default for TlsClients {
    fn default() -> Self {
        Self::new()
    }
}

/// Accepts every certificate, but still asks for a signature that fits it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

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
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
