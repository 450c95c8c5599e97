//! What is right.

use serde::{Serialize, Serializer};
use url::Url;

use crate::expect_headers::{self, HeaderRule};
use crate::expect_json::{self, JsonRule};
use crate::fields::Fields;
use crate::item::Item;
use crate::limits::{self, Limits};
use crate::mask::{mask_url, quote};
use crate::pattern::{Pattern, Patterns};
use crate::status::{self, StatusSet};

const LARGEST_BODY: u64 = 256 << 20;

/// What is right.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Expectations {
    /// The statuses that are right.
    pub expected_status: StatusSet,
    /// What the body must match, all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub body_matches: Vec<Pattern>,
    /// What the body must not match, none of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub body_must_not_match: Vec<Pattern>,
    /// What must stand in a body of JSON.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "expect_json::as_mapping"
    )]
    pub expect_json: Vec<JsonRule>,
    /// What must stand in the headers.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "expect_headers::as_mapping"
    )]
    pub expect_headers: Vec<HeaderRule>,
    /// Where redirects must end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_final_url: Option<Url>,
    /// The least number of days that the certificate must still be valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_cert_days: Option<u16>,
    /// The oldest TLS that is right.
    pub min_tls_version: TlsVersion,
    /// What the name of the certificate's issuer must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_issuer_matches: Option<Pattern>,
    /// The largest body that is read, in bytes, after decompression.
    pub max_body_bytes: usize,
    /// The longest times before the site counts as degraded.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

impl Default for Expectations {
    fn default() -> Self {
        Expectations {
            expected_status: StatusSet::default(),
            body_matches: Vec::new(),
            body_must_not_match: Vec::new(),
            expect_json: Vec::new(),
            expect_headers: Vec::new(),
            expect_final_url: None,
            min_cert_days: None,
            min_tls_version: TlsVersion::V1_2,
            cert_issuer_matches: None,
            max_body_bytes: 1 << 20,
            limits: Limits::default(),
        }
    }
}

impl Expectations {
    /// Whether the content of the body matters.
    pub fn look_into_body(&self) -> bool {
        !(self.body_matches.is_empty()
            && self.body_must_not_match.is_empty()
            && self.expect_json.is_empty())
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

impl Serialize for TlsVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

pub(crate) fn read(
    fields: &Fields<'_>,
    base: &Expectations,
    patterns: &mut Patterns,
) -> Expectations {
    let status = fields
        .item("expected_status")
        .and_then(|item| status::read(&item));
    let body_matches = fields
        .item("body_matches")
        .and_then(|item| regexes(&item, patterns));
    let body_must_not_match = fields
        .item("body_must_not_match")
        .and_then(|item| regexes(&item, patterns));
    let cert_issuer_matches = fields
        .item("cert_issuer_matches")
        .and_then(|item| regex(&item, patterns));
    let max_body = fields
        .item("max_body_bytes")
        .and_then(|item| item.whole(1..=LARGEST_BODY));
    Expectations {
        expected_status: status.unwrap_or_else(|| base.expected_status.clone()),
        body_matches: body_matches.unwrap_or_else(|| base.body_matches.clone()),
        body_must_not_match: body_must_not_match
            .unwrap_or_else(|| base.body_must_not_match.clone()),
        expect_json: expect_json::read(fields, patterns)
            .unwrap_or_else(|| base.expect_json.clone()),
        expect_headers: expect_headers::read(fields, patterns)
            .unwrap_or_else(|| base.expect_headers.clone()),
        expect_final_url: fields
            .item("expect_final_url")
            .and_then(|item| final_url(&item))
            .or_else(|| base.expect_final_url.clone()),
        min_cert_days: fields
            .item("min_cert_days")
            .and_then(|item| item.whole(0..=3650))
            .or(base.min_cert_days),
        min_tls_version: fields
            .item("min_tls_version")
            .and_then(|item| tls_version(&item))
            .unwrap_or(base.min_tls_version),
        cert_issuer_matches: cert_issuer_matches.or_else(|| base.cert_issuer_matches.clone()),
        max_body_bytes: max_body.unwrap_or(base.max_body_bytes),
        limits: limits::read(fields, &base.limits),
    }
}

/// One regular expression, compiled once for all that say the same.
pub(crate) fn regex(item: &Item<'_>, patterns: &mut Patterns) -> Option<Pattern> {
    let config::ValueKind::String(text) = &item.value.kind else {
        return item.wrong_type("a regular expression, as text in quotes");
    };
    patterns
        .get(text)
        .or_else(|why| {
            item.found(quote(text), format!("a regular expression ({why})"))
                .ok_or(())
        })
        .ok()
}

/// One regular expression, or a list of them.
fn regexes(item: &Item<'_>, patterns: &mut Patterns) -> Option<Vec<Pattern>> {
    match &item.value.kind {
        config::ValueKind::Array(_) => item
            .list("regular expressions")?
            .iter()
            .map(|item| regex(item, patterns))
            .collect(),
        _ => Some(vec![regex(item, patterns)?]),
    }
}

fn final_url(item: &Item<'_>) -> Option<Url> {
    let expected = "the http:// or https:// URL at which redirects end";
    let text = item.text(expected)?;
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => item.found(quote(&mask_url(text)), expected),
    }
}

fn tls_version(item: &Item<'_>) -> Option<TlsVersion> {
    match item.scalar().as_deref() {
        Some("1.2") => Some(TlsVersion::V1_2),
        Some("1.3") => Some(TlsVersion::V1_3),
        _ => item.wrong("one of 1.2, 1.3"),
    }
}
