//! The request as it goes out, alike for both versions of HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sitewatch_config::{Login, SiteOptions, Url, is_sensitive};

use super::{body::ACCEPTED, redirect::Ask};

const USER_AGENT: &str = concat!("sitewatch-node/", env!("CARGO_PKG_VERSION"));

/// Names and values, in the order in which they are sent; names as the user wrote them.
pub(super) type Headers<'a> = Vec<(&'a str, std::borrow::Cow<'a, str>)>;

/// The headers of a request, `host` among them; the node's own where the user has set none of the name. An `accept-encoding`
/// that the user sets to nothing is not sent.
pub(super) fn headers<'a>(
    options: &'a SiteOptions,
    ask: &'a Ask,
    token: Option<&str>,
) -> Headers<'a> {
    let written = &options.request.headers;
    let is_written = |name: &str| {
        written
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let mut headers: Headers<'a> = Vec::with_capacity(written.len() + 4);
    let add = |headers: &mut Headers<'a>, name, value: std::borrow::Cow<'a, str>| {
        if !is_written(name) {
            headers.push((name, value));
        }
    };
    // A host that the user names is meant for the site's own server only.
    if !is_written("host") || !ask.with_credentials {
        headers.push(("host", host(&ask.url).into()));
    }
    add(&mut headers, "user-agent", USER_AGENT.into());
    add(&mut headers, "accept", "*/*".into());
    add(&mut headers, "accept-encoding", ACCEPTED.into());
    if ask.with_body
        && let Some(kind) = options
            .request
            .body
            .as_ref()
            .and_then(|body| body.form.content_type())
    {
        add(&mut headers, "content-type", kind.into());
    }
    if ask.with_credentials
        && let Some(value) = authorization(options, token)
    {
        add(&mut headers, "authorization", value.into());
    }
    for (name, value) in written {
        let foreign =
            !ask.with_credentials && (is_sensitive(name) || name.eq_ignore_ascii_case("host"));
        // A content type without content would be a lie.
        let empty = !ask.with_body && name.eq_ignore_ascii_case("content-type");
        if !foreign && !empty && !value.reveal().is_empty() {
            headers.push((name, value.reveal().into()));
        }
    }
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
