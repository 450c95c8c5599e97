//! Encryption of the Kafka connection, and who the node is to the brokers.

use std::path::PathBuf;

use crate::fields::Fields;
use crate::secret::Secret;

/// Encryption of the Kafka connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaTls {
    /// The authorities to trust; those of the system unless set.
    pub ca: Option<PathBuf>,
    /// Who this node is.
    pub identity: Option<KafkaIdentity>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaIdentity {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Login by name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How the password is shown to the broker.
    pub mechanism: SaslMechanism,
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// How a password is shown to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// In the clear.
    Plain,
    /// By SCRAM with SHA-256.
    ScramSha256,
    /// By SCRAM with SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    const ALL: [(&'static str, SaslMechanism); 3] = [
        ("PLAIN", SaslMechanism::Plain),
        ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
        ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
    ];

    /// The name Kafka knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
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
    let ca = ca.and_then(|item| item.existing_file());
    let cert = cert.and_then(|item| item.existing_file());
    let key = key.and_then(|item| item.existing_file());
    let identity = cert.zip(key).map(|(cert, key)| KafkaIdentity { cert, key });
    (implied || on == Some(true)).then_some(KafkaTls { ca, identity })
}

pub(crate) fn sasl(kafka: &Fields<'_>) -> Option<Sasl> {
    let sasl = kafka.section("sasl");
    if !sasl.is_written() {
        return None;
    }
    let (mechanism, username, password) = (
        sasl.item("mechanism"),
        sasl.item("username"),
        sasl.item("password"),
    );
    for (name, item) in [
        ("mechanism", &mechanism),
        ("username", &username),
        ("password", &password),
    ] {
        if item.is_none() {
            sasl.missing(name, "mechanism, username and password together");
        }
    }
    let mechanism = mechanism.and_then(|item| item.choice(&SaslMechanism::ALL));
    let username = username.and_then(|item| item.text("the user's name").map(str::to_owned));
    let password = password.and_then(|item| match &item.value.kind {
        config::ValueKind::String(text) => Some(Secret::new(text.as_str())),
        _ => item.wrong_type("the password, as text in quotes"),
    });
    sasl.finish();
    Some(Sasl {
        mechanism: mechanism?,
        username: username?,
        password: password?,
    })
}
