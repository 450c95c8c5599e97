//! The closed list of what can be wrong with a check.

use serde::{Deserialize, Serialize};

/// What is wrong with a check whose outcome is not `up`. The numbers are those of the table `error_kind` and never
/// change their meaning; new kinds are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The name does not resolve.
    DnsError = 1,
    /// No answer about the name within the timeout.
    DnsTimeout = 2,
    /// No connection: refused or unreachable.
    ConnectRefused = 3,
    /// No connection within the timeout.
    ConnectTimeout = 4,
    /// The peer closed or reset the connection.
    ConnectionReset = 5,
    /// The TLS handshake failed.
    TlsError = 6,
    /// The certificate is past its end, or not yet valid.
    CertExpired = 7,
    /// The certificate is not for this host, or not signed by a trusted authority.
    CertInvalid = 8,
    /// The certificate ends sooner than the user allows.
    CertExpiring = 9,
    /// The request could not be sent.
    SendError = 10,
    /// No first byte of the answer within the timeout.
    TtfbTimeout = 11,
    /// The body did not end within the timeout.
    BodyTimeout = 12,
    /// The body is larger than `max_body_bytes`.
    BodyTooLarge = 13,
    /// The answer is not valid HTTP.
    ProtocolError = 14,
    /// Too many redirects, or one that leads nowhere.
    RedirectError = 15,
    /// The address is one that this node must not connect to.
    BlockedAddress = 16,
    /// Another status than expected.
    StatusMismatch = 17,
    /// The body does not match `body_matches`.
    BodyMismatch = 18,
    /// The body matches `body_must_not_match`.
    BodyForbiddenMatch = 19,
    /// A header is not as expected.
    HeaderMismatch = 20,
    /// Slower than a limit that the user set.
    TooSlow = 21,
    /// The slot passed without a check: the one before still ran, or the node was held up.
    Missed = 22,
    /// The node failed, not the site.
    InternalError = 23,
}

impl ErrorKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::DnsError,
        Self::DnsTimeout,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectionReset,
        Self::TlsError,
        Self::CertExpired,
        Self::CertInvalid,
        Self::CertExpiring,
        Self::SendError,
        Self::TtfbTimeout,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::ProtocolError,
        Self::RedirectError,
        Self::BlockedAddress,
        Self::StatusMismatch,
        Self::BodyMismatch,
        Self::BodyForbiddenMatch,
        Self::HeaderMismatch,
        Self::TooSlow,
        Self::Missed,
        Self::InternalError,
    ];

    /// Those that stand for a check that was not made: a result of the same slot replaces them in the database.
    pub const PLACEHOLDERS: [Self; 2] = [Self::Missed, Self::InternalError];

    /// The word used in messages, in metrics and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DnsError => "dns_error",
            Self::DnsTimeout => "dns_timeout",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectionReset => "connection_reset",
            Self::TlsError => "tls_error",
            Self::CertExpired => "cert_expired",
            Self::CertInvalid => "cert_invalid",
            Self::CertExpiring => "cert_expiring",
            Self::SendError => "send_error",
            Self::TtfbTimeout => "ttfb_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::ProtocolError => "protocol_error",
            Self::RedirectError => "redirect_error",
            Self::BlockedAddress => "blocked_address",
            Self::StatusMismatch => "status_mismatch",
            Self::BodyMismatch => "body_mismatch",
            Self::BodyForbiddenMatch => "body_forbidden_match",
            Self::HeaderMismatch => "header_mismatch",
            Self::TooSlow => "too_slow",
            Self::Missed => "missed",
            Self::InternalError => "internal_error",
        }
    }

    /// The number under which it is stored.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// The kind of a number, if it has one.
    pub fn of_id(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_agree_everywhere() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::try_from(kind.id()), Ok(index + 1));
            assert_eq!(serde_json::to_value(kind).ok(), Some(kind.as_str().into()));
        }
    }
}
