//! The longest times that a site may take before it counts as degraded.

use std::time::Duration;

use serde::Serialize;

use crate::fields::Fields;
use crate::written::as_written_if_any;

/// The longest times of the parts of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Limits {
    /// Name resolution.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written_if_any"
    )]
    pub dns: Option<Duration>,
    /// TCP connection.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written_if_any"
    )]
    pub connect: Option<Duration>,
    /// TLS handshake.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written_if_any"
    )]
    pub tls: Option<Duration>,
    /// Time to first byte.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written_if_any"
    )]
    pub ttfb: Option<Duration>,
    /// Reading the body.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written_if_any"
    )]
    pub body: Option<Duration>,
    /// All of it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_written_if_any"
    )]
    pub total: Option<Duration>,
}

impl Limits {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

pub(crate) fn read(fields: &Fields<'_>, base: &Limits) -> Limits {
    let limits = fields.section("limits");
    let one = |name, base: Option<Duration>| {
        let range = Duration::from_millis(1)..=Duration::from_secs(1800);
        limits
            .item(name)
            .and_then(|item| item.duration(range))
            .or(base)
    };
    let read = Limits {
        dns: one("dns", base.dns),
        connect: one("connect", base.connect),
        tls: one("tls", base.tls),
        ttfb: one("ttfb", base.ttfb),
        body: one("body", base.body),
        total: one("total", base.total),
    };
    limits.finish();
    read
}
