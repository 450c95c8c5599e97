//! What one check found: the message, version 1.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{ErrorKind, Outcome, Slot};

/// Durations of the parts of an attempt, in microseconds. Absent: not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Name resolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_us: Option<u32>,
    /// TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u32>,
    /// TLS handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u32>,
    /// From the connection being ready to the head of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_us: Option<u32>,
    /// Reading the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_us: Option<u32>,
    /// From the start of the attempt to its end, also on failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_us: Option<u32>,
}

/// How far an attempt has come: what it was at when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// Name resolution.
    #[default]
    Dns,
    /// TCP connection.
    Connect,
    /// TLS handshake.
    Tls,
    /// Waiting for the first byte of the answer.
    Ttfb,
    /// Reading the answer.
    Body,
    /// All of it.
    End,
}

impl Reached {
    /// The word used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Ttfb => "ttfb",
            Self::Body => "body",
            Self::End => "end",
        }
    }
}

/// A redirect that was followed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hop {
    /// What was asked, without user info.
    pub url: String,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The address that was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<std::net::IpAddr>,
    /// How long each part took.
    #[serde(flatten)]
    pub phases: Phases,
}

/// One thing that was wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// In a word.
    pub error: ErrorKind,
    /// In words, at most 256 bytes.
    pub error_detail: String,
}

/// An attempt that failed, after which another one was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailedAttempt {
    /// Why.
    #[serde(flatten)]
    pub fault: Fault,
    /// How far it came.
    pub reached: Reached,
    /// The status, if an answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long each part took.
    #[serde(flatten)]
    pub phases: Phases,
}

/// What came from a site that is not up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capture {
    /// The headers of the answer; the values of those that may hold a credential are hidden.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body. What is not UTF-8 is replaced.
    pub body: String,
    /// Whether the body goes on.
    pub truncated: bool,
}

/// What one check found. Serialized, it is the message that goes to Kafka: one flat JSON object, absent fields left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResult {
    /// The message's version, [`MESSAGE_VERSION`](super::MESSAGE_VERSION).
    pub v: u32,
    /// The site's name.
    pub site: Arc<str>,
    /// The site's URL, without user info.
    pub url: String,
    /// Where it was checked from.
    pub location: String,
    /// When the check was due.
    pub slot: Slot,
    /// Actual start minus slot, in microseconds.
    pub lateness_us: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// What was wrong, if the outcome is not `up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorKind>,
    /// What was wrong, in words, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<String>,
    /// HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `1.0`, `1.1` or `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_version: Option<&'static str>,
    /// The address that was connected to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<std::net::IpAddr>,
    /// How long each part took.
    #[serde(flatten)]
    pub phases: Phases,
    /// Bytes of body read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// Redirects followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirects: Option<u8>,
    /// Attempts made; 0 for a missed slot.
    pub attempts: u8,
    /// How far the last attempt came, if it did not come to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
    /// Where redirects led, if there were any, reached or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_url: Option<String>,
    /// The redirects, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
    /// All that was wrong, if more than one thing was; the first is also `error`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Fault>,
    /// The attempts before the last one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_attempts: Vec<FailedAttempt>,
    /// Addresses that could not be connected to, though another one could.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// The version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<&'static str>,
    /// Until when the site's certificate is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_expires_at: Option<Slot>,
    /// Who issued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_issuer: Option<String>,
    /// Whether `body_matches` was found in the body, if it was asked for and the body was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_match: Option<bool>,
    /// What came, if it was not right and the site's settings ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// The user's own words about the site.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Which revision of the site's settings was checked.
    pub config_hash: String,
}

impl CheckResult {
    /// A result that says no more than this.
    pub fn of(site: &str, url: &str, location: &str, slot: Slot, outcome: Outcome) -> Self {
        Self {
            v: super::MESSAGE_VERSION,
            site: site.into(),
            url: url.to_owned(),
            location: location.to_owned(),
            slot,
            lateness_us: 0,
            outcome,
            error: None,
            error_detail: None,
            status: None,
            http_version: None,
            remote_ip: None,
            phases: Phases::default(),
            body_bytes: None,
            redirects: None,
            attempts: 0,
            reached: None,
            final_url: None,
            hops: Vec::new(),
            failures: Vec::new(),
            failed_attempts: Vec::new(),
            refused: Vec::new(),
            tls_version: None,
            cert_expires_at: None,
            cert_issuer: None,
            body_match: None,
            capture: None,
            labels: BTreeMap::new(),
            config_hash: String::new(),
        }
    }
}
