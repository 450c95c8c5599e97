//! Certificates and private keys in PEM files, looked at when settings are read: a file that is only half written must not
//! take the place of one that works.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_cert::der::{Decode, Encode};

use crate::item::{Item, missing};
use crate::request::{FileContent, file_content};

/// The largest certificate file that is read.
pub(crate) const LARGEST_PEM: u64 = 4 << 20;
/// How long before its end a certificate is warned about.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// A file with certificates in PEM. Looks at the form of the file only.
pub(crate) fn certificates(item: &Item<'_>) -> Option<FileContent> {
    let file = file_content(item, LARGEST_PEM)?;
    match ders(&file.bytes) {
        Ok(_) => Some(file),
        Err(found) => item.found(found, "certificates in PEM"),
    }
}

/// A file with an unencrypted private key in PEM. Looks at the form of the file only.
pub(crate) fn private_key(item: &Item<'_>) -> Option<FileContent> {
    let file = file_content(item, LARGEST_PEM)?;
    if PrivateKeyDer::from_pem_slice(&file.bytes).is_err() {
        return item.found("a file without a private key", "an unencrypted key in PEM");
    }
    Some(file)
}

/// What the file at `path` holds, for settings that name files in other ways than as a value of their own. As a part of the
/// settings it makes new content under an old name a change.
///
/// # Errors
/// Why it can't be read.
pub(crate) fn content(path: &Path) -> Result<FileContent, String> {
    if let Some(why) = missing(path) {
        return Err(why.to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_PEM {
        return Err(format!("a file of {} bytes, too large", bytes.len()));
    }
    Ok(FileContent {
        path: path.to_owned(),
        bytes,
    })
}

/// Whether the key has to be opened by a password.
pub(crate) fn is_encrypted(key: &[u8]) -> bool {
    let text = String::from_utf8_lossy(key);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn ders(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match ders {
        Err(_) => Err("a file that is not valid PEM"),
        Ok(ders) if ders.is_empty() => Err("a file without a certificate"),
        Ok(ders) => Ok(ders),
    }
}

fn parsed(pem: &[u8]) -> Result<Vec<x509_cert::Certificate>, &'static str> {
    ders(pem)?
        .iter()
        .map(|der| {
            x509_cert::Certificate::from_der(der)
                .map_err(|_| "a file with something that is no certificate")
        })
        .collect()
}

/// Looks into each certificate of a PEM file.
///
/// # Errors
/// What was found instead of a certificate.
pub(crate) fn check_certificates(pem: &[u8]) -> Result<(), &'static str> {
    parsed(pem).map(drop)
}

/// Whether the first certificate of `cert` is for the key in `key`, both PEM. A key of a kind that is not known here, or an
/// encrypted one, is left to the client that uses it.
///
/// # Errors
/// What is wrong with the key.
pub(crate) fn check_pair(cert: &[u8], key: &[u8]) -> Result<(), &'static str> {
    if is_encrypted(key) {
        return Ok(());
    }
    let certificates = parsed(cert)?;
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
        return Err("a file without a private key");
    };
    let Ok(key) = ring::default_provider().key_provider.load_private_key(key) else {
        return Ok(());
    };
    let of_certificate = certificates
        .first()
        .and_then(|first| first.tbs_certificate.subject_public_key_info.to_der().ok());
    match (key.public_key(), of_certificate) {
        (Some(of_key), Some(of_certificate)) if of_key.as_ref() != of_certificate => {
            Err("the key of another certificate")
        }
        _ => Ok(()),
    }
}

/// What is to be said about the time in which the certificates of a file are valid, as seen at `now`: nothing if all is
/// well. `key` is the setting.
pub(crate) fn validity(key: &str, path: &Path, pem: &[u8], now: SystemTime) -> Option<String> {
    // What can't be read was refused before.
    let certificates = parsed(pem).ok()?;
    certificates.iter().find_map(|certificate| {
        let valid = &certificate.tbs_certificate.validity;
        let (from, until) = (
            valid.not_before.to_system_time(),
            valid.not_after.to_system_time(),
        );
        let is = if until <= now {
            format!(
                "has expired at {}",
                humantime::format_rfc3339_seconds(until)
            )
        } else if from > now {
            format!(
                "is not valid before {}",
                humantime::format_rfc3339_seconds(from)
            )
        } else if until <= now + SOON {
            format!("expires at {}", humantime::format_rfc3339_seconds(until))
        } else {
            return None;
        };
        Some(format!("{key}: the certificate in {} {is}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(not_after: (i32, u8)) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, 1);
        let cert = parameters.self_signed(&key).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    #[test]
    fn a_key_is_held_against_its_certificate() {
        let ((cert, key), (_, other)) = (pair((2030, 1)), pair((2030, 1)));
        assert_eq!(check_pair(cert.as_bytes(), key.as_bytes()), Ok(()));
        assert_eq!(
            check_pair(cert.as_bytes(), other.as_bytes()),
            Err("the key of another certificate")
        );
        assert_eq!(
            check_pair(cert.as_bytes(), cert.as_bytes()),
            Err("a file without a private key")
        );
    }

    #[test]
    fn a_part_of_a_certificate_is_none() {
        let (cert, _) = pair((2030, 1));
        assert_eq!(check_certificates(cert.as_bytes()), Ok(()));
        for length in 1..cert.trim_end().len() {
            assert!(check_certificates(&cert.as_bytes()[..length]).is_err());
        }
        let of_noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            check_certificates(of_noise.as_bytes()),
            Err("a file with something that is no certificate")
        );
    }

    #[test]
    fn the_end_of_a_certificate_is_told_before_it_comes() {
        let (cert, _) = pair((2026, 3));
        let at = |text| humantime::parse_rfc3339(text).unwrap();
        let said = |now| validity("kafka.cert", Path::new("a.pem"), cert.as_bytes(), at(now));
        assert_eq!(said("2026-01-01T00:00:00Z"), None);
        for (now, is) in [
            (
                "2019-12-31T00:00:00Z",
                "is not valid before 2020-01-01T00:00:00Z",
            ),
            ("2026-02-20T00:00:00Z", "expires at 2026-03-01T00:00:00Z"),
            (
                "2026-03-01T00:00:00Z",
                "has expired at 2026-03-01T00:00:00Z",
            ),
        ] {
            let expected = format!("kafka.cert: the certificate in a.pem {is}");
            assert_eq!(said(now), Some(expected));
        }
    }
}
