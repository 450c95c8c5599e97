//! What the TLS clients of this process trust.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use thiserror::Error;

/// Why there is no TLS configuration.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate file can't be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The library refused its own defaults.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// The authorities of the operating system. Those that can't be read are left out, as browsers do; with none at all, every
/// `https` site is reported as `cert_invalid`.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// A client that trusts `roots`.
///
/// # Errors
/// If the library refuses its default protocol versions.
pub fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The cryptography that all clients here use.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificate authorities in a PEM file.
///
/// # Errors
/// If the file can't be read, holds no certificate, or one that is not valid.
pub fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    let pem = std::fs::read(path).map_err(|error: io::Error| problem(path, error.to_string()))?;
    roots_from_pem(path, &pem)
}

/// The certificate authorities in `pem`, which was read from `path`.
///
/// # Errors
/// If it holds no certificate, or one that is not valid.
pub fn roots_from_pem(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| problem(path, format!("not valid PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| problem(path, error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(problem(path, "holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn problem(path: &Path, reason: String) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        reason,
    }
}
