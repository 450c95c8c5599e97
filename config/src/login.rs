//! Who the request comes from.

use percent_encoding::percent_decode_str;
use serde::Serialize;
use url::Url;

use crate::fields::Fields;
use crate::item::Item;
use crate::mask::{mask_url, quote};
use crate::reference;
use crate::secret::Secret;

/// How a request says who it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// By name and password.
    BasicAuth {
        /// The name: with some services it is the key, and there is no password.
        username: Secret,
        /// The password.
        password: Secret,
    },
    /// By a token that is known.
    BearerToken(Secret),
    /// By a token that is fetched.
    Oauth2(Oauth2),
}

/// Where a token comes from: OAuth 2.0 client credentials (RFC 6749, 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Oauth2 {
    /// Where tokens are given out.
    pub token_url: Url,
    /// Who asks for one.
    pub client_id: String,
    /// With what secret.
    pub client_secret: Secret,
    /// For what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// For whom, where the server asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// The login that is written, if any.
pub(crate) fn read(fields: &Fields<'_>) -> Option<Login> {
    let (basic, bearer, oauth2) = (
        fields.item("basic_auth"),
        fields.item("bearer_token"),
        fields.item("oauth2"),
    );
    let written: Vec<&Item<'_>> = [&basic, &bearer, &oauth2].into_iter().flatten().collect();
    if let [_, second, ..] = &*written {
        return second.found(
            "a second way to log in",
            "only one of basic_auth, bearer_token and oauth2",
        );
    }
    if basic.is_some() {
        return basic_auth(&fields.section("basic_auth"));
    }
    if let Some(item) = bearer {
        let token = secret(&item, "a token")?;
        if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            return item.found(
                "a character that is not printable ASCII, or a space",
                "a token that a header can carry",
            );
        }
        return Some(Login::BearerToken(token));
    }
    oauth2.and_then(|_| client_credentials(&fields.section("oauth2")))
}

/// The name and password in a URL, if there are any.
pub(crate) fn user_info(url: &Url) -> Option<(Secret, Secret)> {
    let password = url.password();
    if url.username().is_empty() && password.is_none() {
        return None;
    }
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let secret = |text| Secret::new(decode(text));
    Some((secret(url.username()), secret(password.unwrap_or_default())))
}

fn basic_auth(fields: &Fields<'_>) -> Option<Login> {
    let (username, password) = (fields.item("username"), fields.item("password"));
    for (name, item) in [("username", &username), ("password", &password)] {
        if item.is_none() {
            fields.missing(name, "username and password together");
        }
    }
    fields.finish();
    let username = reference::follow(&username?, "the user's name")?.text;
    Some(Login::BasicAuth {
        username: Secret::new(username),
        password: secret(&password?, "the password")?,
    })
}

fn client_credentials(fields: &Fields<'_>) -> Option<Login> {
    let item = |name: &'static str, what: &str| {
        let item = fields.item(name);
        if item.is_none() {
            fields.missing(name, what);
        }
        item
    };
    let token_url = item("token_url", "the URL where tokens are given out");
    let client_id = item("client_id", "the client's name");
    let client_secret = item("client_secret", "the client's secret");
    let scopes = fields
        .item("scopes")
        .and_then(|item| item.texts("a scope, or a list of scopes"));
    let audience = fields
        .item("audience")
        .and_then(|item| item.text("an audience").map(str::to_owned));
    fields.finish();
    let token_url = token_url.and_then(|item| url_of(&item));
    let client_id = client_id.and_then(|item| reference::follow(&item, "the client's name"));
    let client_secret = client_secret.and_then(|item| secret(&item, "the client's secret"));
    Some(Login::Oauth2(Oauth2 {
        token_url: token_url?,
        client_id: client_id?.text,
        client_secret: client_secret?,
        scopes: scopes.unwrap_or_default(),
        audience,
    }))
}

fn url_of(item: &Item<'_>) -> Option<Url> {
    let expected = "an http:// or https:// URL";
    let text = item.text(expected)?;
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => item.found(quote(&mask_url(text)), expected),
    }
}

/// A secret that goes into a header: printable, on one line.
fn secret(item: &Item<'_>, expected: &str) -> Option<Secret> {
    let text = reference::follow(item, expected)?.text;
    if text.is_empty() {
        return item.found("nothing", expected);
    }
    if text.contains(char::is_control) {
        return item.found(
            "a line break or another control character",
            format!("{expected} on one line"),
        );
    }
    Some(Secret::new(text))
}
