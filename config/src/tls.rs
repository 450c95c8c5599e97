//! Encryption of the way to a site.

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::Serialize;

use crate::fields::Fields;
use crate::item::Item;
use crate::request::{FileContent, file_content};

/// The largest certificate file that is read.
const LARGEST_PEM: u64 = 4 << 20;

/// Whom to trust over TLS, and who the node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TlsOptions {
    /// The authorities to trust, PEM; those of the system unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<FileContent>,
    /// Who the node is.
    #[serde(flatten)]
    pub identity: Option<Identity>,
    /// The name that is asked for and that the certificate must be for; the URL's host unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Accept any certificate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Identity {
    /// The certificate and those between it and its authority, PEM.
    pub cert: FileContent,
    /// Its private key, PEM.
    pub key: FileContent,
}

impl TlsOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == TlsOptions::default()
    }
}

pub(crate) fn read(fields: &Fields<'_>, base: &TlsOptions) -> TlsOptions {
    let tls = fields.section("tls");
    if !tls.is_written() {
        return base.clone();
    }
    let (cert, key) = (tls.item("cert"), tls.item("key"));
    match (&cert, &key) {
        (Some(_), None) => tls.missing(
            "key",
            "the certificate's private key: cert and key belong together",
        ),
        (None, Some(_)) => tls.missing(
            "cert",
            "the key's certificate: cert and key belong together",
        ),
        _ => {}
    }
    let cert = cert.and_then(|item| certificates(&item));
    let key = key.and_then(|item| private_key(&item));
    let identity = cert.zip(key).map(|(cert, key)| Identity { cert, key });
    let options = TlsOptions {
        ca: tls
            .item("ca")
            .and_then(|item| certificates(&item))
            .or_else(|| base.ca.clone()),
        identity: identity.or_else(|| base.identity.clone()),
        server_name: tls
            .item("server_name")
            .and_then(|item| item.text("a host name").map(str::to_owned))
            .or_else(|| base.server_name.clone()),
        insecure_skip_verify: tls
            .item("insecure_skip_verify")
            .and_then(|item| item.flag())
            .unwrap_or(base.insecure_skip_verify),
    };
    tls.finish();
    options
}

fn certificates(item: &Item<'_>) -> Option<FileContent> {
    let file = file_content(item, LARGEST_PEM)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&file.bytes) {
        if certificate.is_err() {
            return item.found("a file that is not valid PEM", "certificates in PEM");
        }
        count += 1;
    }
    if count == 0 {
        return item.found("a file without a certificate", "certificates in PEM");
    }
    Some(file)
}

fn private_key(item: &Item<'_>) -> Option<FileContent> {
    let file = file_content(item, LARGEST_PEM)?;
    if PrivateKeyDer::from_pem_slice(&file.bytes).is_err() {
        return item.found("a file without a private key", "an unencrypted key in PEM");
    }
    Some(file)
}
