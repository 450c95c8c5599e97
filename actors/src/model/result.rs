//! What one check found: the message, version 1.

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

/// What one check found. Serialized, it is the message that goes to Kafka: one flat JSON object, absent fields left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResult {
    /// The message's version, [`MESSAGE_VERSION`](super::MESSAGE_VERSION).
    pub v: u32,
    /// The site's name.
    pub site: String,
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
    /// `1.0` or `1.1`.
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
    /// Whether `body_matches` was found in the body, if it was asked for and the body was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_match: Option<bool>,
    /// Which revision of the site's settings was checked.
    pub config_hash: String,
}
