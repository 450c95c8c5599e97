//! How a monitor of Uptime Kuma shows who it is.

use super::draft::Draft;
use super::request::{self, to_the_letter};
use super::section::Section;

const UNUSED: &str = "not in use, by the monitor's authMethod";

pub(super) fn read(monitor: &mut Section<'_>, draft: &mut Draft) {
    // Before version 1.20 there was no method but basic.
    let method = if monitor.has("authMethod")
        || !monitor.has("basic_auth_user")
        || monitor.has("oauth_auth_method")
    {
        monitor.text("authMethod")
    } else {
        Some("basic".to_owned())
    };
    match method.as_deref() {
        None | Some("null") => {}
        Some("basic") => basic(monitor, draft),
        Some("oauth2-cc") => oauth2(monitor, draft),
        Some("mtls") => {
            monitor.left_out(
                &["tlsCert", "tlsKey", "tlsCa"],
                "put it into a file and name that in `tls.cert`, `tls.key` or `tls.ca`",
            );
        }
        Some("ntlm") => {
            monitor.note("authMethod", "NTLM is not known here");
            monitor.left_out(
                &[
                    "basic_auth_user",
                    "basic_auth_pass",
                    "authDomain",
                    "authWorkstation",
                ],
                "for NTLM",
            );
        }
        Some(_) => monitor.note("authMethod", "is not known here"),
    }
    monitor.left_out(
        &[
            "basic_auth_user",
            "basic_auth_pass",
            "authDomain",
            "authWorkstation",
            "tlsCert",
            "tlsKey",
            "tlsCa",
            "oauth_token_url",
            "oauth_client_id",
            "oauth_client_secret",
            "oauth_scopes",
            "oauth_audience",
            "oauth_auth_method",
            "bearer_token",
        ],
        UNUSED,
    );
}

fn basic(monitor: &mut Section<'_>, draft: &mut Draft) {
    let username = monitor.secret("basic_auth_user").unwrap_or_default();
    let password = request::secret(monitor, "basic_auth_pass", to_the_letter).unwrap_or_default();
    draft.set_in("basic_auth", "username", username);
    draft.set_in("basic_auth", "password", password);
}

fn oauth2(monitor: &mut Section<'_>, draft: &mut Draft) {
    for (theirs, ours) in [
        ("oauth_token_url", "token_url"),
        ("oauth_client_id", "client_id"),
    ] {
        if let Some(text) = monitor.secret(theirs) {
            draft.set_in("oauth2", ours, text);
        }
    }
    if let Some(secret) = request::secret(monitor, "oauth_client_secret", to_the_letter) {
        draft.set_in("oauth2", "client_secret", secret);
    }
    let scopes: Vec<String> = monitor
        .text("oauth_scopes")
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    if !scopes.is_empty() {
        draft.set_in("oauth2", "scopes", scopes);
    }
    if let Some(audience) = monitor.text("oauth_audience") {
        draft.set_in("oauth2", "audience", audience);
    }
    if monitor
        .text("oauth_auth_method")
        .is_some_and(|method| method != "client_secret_basic")
    {
        monitor.note(
            "oauth_auth_method",
            "how the secret is sent to the token's server cannot be set",
        );
    }
}
