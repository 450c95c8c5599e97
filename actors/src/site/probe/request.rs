//! The request as it goes out, alike for both versions of HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sitewatch_config::{Login, Secret, SiteOptions, Url};

use super::{body::ACCEPTED, redirect::Ask};

const USER_AGENT: &str = concat!("sitewatch-node/", env!("CARGO_PKG_VERSION"));

/// Names and values, in the order in which they are sent; names as the user wrote them.
pub(super) type Headers<'a> = Vec<(&'a str, std::borrow::Cow<'a, str>)>;

/// The headers that are sent to another origin too, unless a reference led to the value. None of them identifies who asks: they are
/// those that browsers let a page send across origins without a preflight (the Fetch standard, "CORS-safelisted request-header"),
/// and those on the form and age of the answer.
const HARMLESS: [&str; 8] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-language",
    "content-type",
    "pragma",
    "user-agent",
];

/// Decides whether a header that the user wrote is sent with this hop.
fn is_sent(name: &str, value: &Secret, ask: &Ask) -> bool {
    // What describes a body is a lie without one.
    if !ask.with_body && name.eq_ignore_ascii_case("content-type") {
        return false;
    }
    let is_harmless = || {
        HARMLESS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    };
    ask.at_own_origin || is_harmless() && !value.is_referenced()
}

/// The headers of a request, `host` among them; the node's own where the user has set none of the name that is sent. An
/// `accept-encoding` that the user sets to nothing is not sent.
pub(super) fn headers<'a>(
    options: &'a SiteOptions,
    ask: &'a Ask,
    token: Option<&str>,
) -> Headers<'a> {
    let written: Vec<(&'a str, &'a str)> = options
        .request
        .headers
        .iter()
        .filter(|(name, value)| is_sent(name, value, ask))
        .map(|(name, value)| (name.as_str(), value.reveal()))
        .collect();
    let mut headers: Headers<'a> = Vec::with_capacity(written.len() + 4);
    let add = |headers: &mut Headers<'a>, name, value: std::borrow::Cow<'a, str>| {
        let mut names = written.iter();
        if !names.any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            headers.push((name, value));
        }
    };
    add(&mut headers, "host", host(&ask.url).into());
    add(&mut headers, "user-agent", USER_AGENT.into());
    add(&mut headers, "accept", "*/*".into());
    add(&mut headers, "accept-encoding", ACCEPTED.into());
    let body = options.request.body.as_ref().filter(|_| ask.with_body);
    if let Some(kind) = body.and_then(|body| body.form.content_type()) {
        add(&mut headers, "content-type", kind.into());
    }
    if ask.at_own_origin
        && let Some(value) = authorization(options, token)
    {
        add(&mut headers, "authorization", value.into());
    }
    let not_empty = written.iter().filter(|(_, value)| !value.is_empty());
    headers.extend(not_empty.map(|(name, value)| (*name, (*value).into())));
    headers
}

fn authorization(options: &SiteOptions, token: Option<&str>) -> Option<String> {
    match &options.request.login {
        Some(Login::BasicAuth { username, password }) => {
            let pair = format!("{}:{}", username.reveal(), password.reveal());
            Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        }
        Some(Login::BearerToken(token)) => Some(format!("Bearer {}", token.reveal())),
        Some(Login::Oauth2(_)) => token.map(|token| format!("Bearer {token}")),
        None => None,
    }
}

/// Host and, where it is not the scheme's own, port.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The path and query of a URL: what is asked of its server.
pub(super) fn path(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}
