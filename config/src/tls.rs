//! Encryption of the way to a site.

use serde::Serialize;

use crate::fields::Fields;
use crate::pem::{certificates, private_key};
use crate::request::FileContent;

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
