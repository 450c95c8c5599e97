//! Encryption of the Kafka connection.

use std::time::SystemTime;

use crate::fields::Fields;
use crate::item::Item;
use crate::mask::quote;
use crate::pem;
use crate::reference;
use crate::request::{FileContent, file_content};
use crate::secret::Secret;

/// Encryption of the Kafka connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaTls {
    /// The authorities to trust, PEM; those of the system unless set.
    pub ca: Option<FileContent>,
    /// Who this node is.
    pub identity: Option<KafkaIdentity>,
}

/// A client certificate. The files' contents are part of it, so that new ones under the same names are a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaIdentity {
    /// The certificate and those between it and its authority, PEM.
    pub cert: FileContent,
    /// Its private key, PEM.
    pub key: FileContent,
    /// What opens the key.
    pub key_password: Option<Secret>,
}

impl KafkaTls {
    /// What is to be said about the certificates' time.
    pub(crate) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let cert = self.identity.as_ref().map(|identity| &identity.cert);
        [("kafka.ca", self.ca.as_ref()), ("kafka.cert", cert)]
            .into_iter()
            .filter_map(|(key, file)| pem::validity(key, &file?.path, &file?.bytes, now))
            .collect()
    }
}

pub(crate) fn tls(kafka: &Fields<'_>) -> Option<KafkaTls> {
    let flag = kafka.item("tls");
    let (ca, cert, key) = (kafka.item("ca"), kafka.item("cert"), kafka.item("key"));
    match (&cert, &key) {
        (Some(_), None) => kafka.missing(
            "key",
            "the certificate's private key: cert and key belong together",
        ),
        (None, Some(_)) => kafka.missing(
            "cert",
            "the key's certificate: cert and key belong together",
        ),
        _ => {}
    }
    let implied = ca.is_some() || cert.is_some() || key.is_some();
    let on = flag.as_ref().and_then(|item| item.flag());
    if let (Some(false), true, Some(flag)) = (on, implied, &flag) {
        flag.wrong::<()>("true, since there are certificates, or no ca, cert and key");
    }
    let key_password = kafka
        .item("key_password")
        .and_then(|item| reference::secret(&item, "the key's password"));
    let ca = ca.and_then(|item| certificates(&item));
    let cert = cert.and_then(|item| certificates(&item));
    let key = key.and_then(|item| private_key(&item, cert.as_ref()));
    let identity = cert.zip(key).map(|(cert, key)| KafkaIdentity {
        cert,
        key,
        key_password,
    });
    (implied || on == Some(true)).then_some(KafkaTls { ca, identity })
}

fn certificates(item: &Item<'_>) -> Option<FileContent> {
    let file = file_content(item, pem::LARGEST_PEM)?;
    match pem::check_certificates(&file.bytes) {
        Ok(()) => Some(file),
        Err(why) => item.found(named(item, why), "certificates in PEM"),
    }
}

fn private_key(item: &Item<'_>, cert: Option<&FileContent>) -> Option<FileContent> {
    let file = file_content(item, pem::LARGEST_PEM)?;
    let checked = cert.map_or(Ok(()), |cert| pem::check_pair(&cert.bytes, &file.bytes));
    match checked {
        Ok(()) => Some(file),
        Err(why) => item.found(named(item, why), "the private key of kafka.cert, in PEM"),
    }
}

/// The file as it is written in the settings, and what is wrong with it.
fn named(item: &Item<'_>, why: &str) -> String {
    let shown = item.scalar().unwrap_or_default();
    format!("{} ({why})", quote(&shown))
}
