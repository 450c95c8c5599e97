//! What one attempt brought, before anybody judges it.

use std::{fmt, net::IpAddr, rc::Rc};

use sitewatch_config::{SiteOptions, TlsVersion, Url, without_query};

use crate::model::{ErrorKind, Hop, Phases, Reached};

/// What went wrong, in a word and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: ErrorKind,
    /// The words.
    pub detail: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

/// Who is told of one expectation.
pub(super) type See<'a> = &'a mut dyn FnMut(&dyn fmt::Display, Option<Failure>);

/// What one attempt (redirects included) brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempt {
    /// Why there is no complete answer, if there is none.
    pub failure: Option<Failure>,
    /// How far it came on its last hop.
    pub reached: Reached,
    /// The status, if an answer came.
    pub status: Option<u16>,
    /// The HTTP version of the answer.
    pub http_version: Option<&'static str>,
    /// The address that was connected to last, or tried last.
    pub remote_ip: Option<IpAddr>,
    /// How long each part took; those of the last hop, but the total is that of all.
    pub phases: Phases,
    /// Bytes of body, after decompression.
    pub body_bytes: Option<u64>,
    /// The redirects that were followed, in order.
    pub hops: Vec<Hop>,
    /// Where they led, reached or not; absent without any. For comparing only: what is shown is `Attempt::shown_final_url`.
    pub final_url: Option<Url>,
    /// Set once one of them has led to another origin.
    pub left_origin: bool,
    /// What the handshake of the last connection showed.
    pub tls: Option<Rc<TlsFacts>>,
    /// Addresses that could not be connected to, each with the reason.
    pub refused: Vec<String>,
    /// The headers of the last answer, names in small letters, if anybody asks for them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// As much of the body as anybody asks for.
    pub body: Vec<u8>,
    /// What was seen in it, once it has been judged.
    pub looked: Option<Looked>,
}

/// What was seen in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Each expectation in words and, if it fails, why.
    pub seen: Vec<(String, Option<Failure>)>,
    /// Whether all of `body_matches` were found.
    pub matches: bool,
}

impl Looked {
    /// Nothing could be told.
    pub(super) fn failed(failure: Failure) -> Self {
        Self {
            seen: vec![("what is expected of the body".to_owned(), Some(failure))],
            matches: false,
        }
    }
}

impl Attempt {
    /// The place to which redirects led, as it is shown and stored: without its query and fragment where that is another origin, whose
    /// credentials they may be, or where the site's settings hide it.
    pub(super) fn shown_final_url(&self, options: &SiteOptions) -> Option<Url> {
        let url = self.final_url.as_ref()?;
        Some(if self.left_origin || options.request.hide_query {
            without_query(url)
        } else {
            url.clone()
        })
    }
}

/// What a TLS handshake showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The version that was agreed on; none if the certificate was refused.
    pub version: Option<TlsVersion>,
    /// The site's certificate first, then those that were sent along.
    pub chain: Vec<Certificate>,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// For whom.
    pub subject: String,
    /// By whom.
    pub issuer: String,
    /// From when, in seconds since 1970 UTC.
    pub not_before: i64,
    /// Until when, in seconds since 1970 UTC.
    pub not_after: i64,
}
