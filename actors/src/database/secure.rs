//! TLS to PostgreSQL, with the meanings that libpq gives to `sslmode`.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use sitewatch_config::{ClientCert, PostgresUrl, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::tls::{TlsError, provider, roots_from};

/// How the mode checks the server: `prefer` and `require` encrypt and trust whoever answers, `verify-ca` wants a
/// certificate of a trusted authority, `verify-full` also the right name in it. As in libpq, `require` with a given
/// `sslrootcert` is `verify-ca`.
///
/// # Errors
/// If a file that the URL names can't be read or does not hold what it should.
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
    let builder = match checked {
        Checked::AuthorityAndName => builder.with_root_certificates(roots),
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
        }
    };
    let config = match url.client_cert() {
        Some(files) => {
            let (chain, key) = (chain(&files.cert)?, key(&files.key)?);
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| mismatch(files, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// The certificate at `path` and those that follow it.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(problem(path, "holds no certificate in PEM (sslcert)")),
        Err(error) => Err(problem(path, format!("not valid PEM: {error} (sslcert)"))),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path)?;
    if pem
        .windows(b"ENCRYPTED".len())
        .any(|part| part == b"ENCRYPTED")
    {
        let reason = "the key is encrypted, one without a pass phrase is needed (sslkey): openssl pkey -in FILE -out NEW";
        return Err(problem(path, reason));
    }
    // Without the library's own words, which might quote the file.
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| problem(path, "holds no private key in PEM (sslkey)"))
}

fn mismatch(files: &ClientCert, error: &Error) -> TlsError {
    let cert = files.cert.display();
    problem(
        &files.key,
        format!("can't be used with the certificate {cert}: {error} (sslkey)"),
    )
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| problem(path, error.to_string()))
}

fn problem(path: &Path, reason: impl Into<String>) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        reason: reason.into(),
    }
}

/// The private key, with its mode, if others than its owner can read it. libpq refuses such a one; here it is told only,
/// since containers are often given their secrets so. As in libpq, the group may read one that is root's.
#[cfg(unix)]
pub(super) fn exposed_key(url: &PostgresUrl) -> Option<(&Path, u32)> {
    use std::os::unix::fs::MetadataExt;
    let path = &url.client_cert()?.key;
    let found = fs::metadata(path).ok()?;
    let allowed = if found.uid() == 0 { 0o740 } else { 0o700 };
    let mode = found.mode() & 0o777;
    (mode & !allowed != 0).then_some((path, mode))
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
