//! The `client:` of a Gatus endpoint: how it connects.

use std::time::Duration;

use super::draft::{Draft, TIMEOUTS};
use super::duration;
use super::gatus_value::{has_variable, secret, with_variables};
use super::request;
use super::section::Section;

pub(super) fn read(endpoint: &mut Section<'_>, draft: &mut Draft) {
    let Some(mut client) = endpoint.section("client") else {
        draft.set("timeout", duration::written(Duration::from_secs(10)));
        return;
    };
    timeout(&mut client, draft);
    let insecure = client.flag("insecure");
    if insecure == Some(true) {
        draft.set_in("tls", "insecure_skip_verify", true);
    }
    let ignores_redirects = client.flag("ignore-redirect");
    draft.switch(
        "follow_redirects",
        ignores_redirects.map(|ignores| !ignores),
        true,
    );
    dns(&mut client, draft);
    request::proxy(&mut client, "proxy-url", draft, secret);
    oauth2(&mut client, draft);
    tls(&mut client, draft);
    client.left_out(
        &["network"],
        "is for pings; a check that is to use one of them has `ip_version`",
    );
    client.left_out(
        &["identity-aware-proxy", "kerberos", "tunnel"],
        "cannot be used here",
    );
    client.finish();
}

fn timeout(client: &mut Section<'_>, draft: &mut Draft) {
    let written = client.text("timeout");
    let timeout = written.as_deref().and_then(duration::parse);
    if written.is_some() && timeout.is_none() {
        client.note("timeout", "is no duration: 10s, Gatus' default, is written");
    }
    // Gatus takes less than a millisecond as its default.
    let timeout = timeout
        .filter(|timeout| timeout.as_millis() > 0)
        .unwrap_or(Duration::from_secs(10));
    draft.set_duration("timeout", timeout, TIMEOUTS, (client, "timeout"));
}

fn dns(client: &mut Section<'_>, draft: &mut Draft) {
    let Some(resolver) = client.text("dns-resolver") else {
        return;
    };
    let (transport, server) = resolver.split_once("://").unwrap_or(("udp", &resolver));
    let server = server.strip_suffix(":53").unwrap_or(server);
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    if host.parse::<std::net::Ipv4Addr>().is_err() {
        return client.note(
            "dns-resolver",
            "is no address of a DNS server, such as 9.9.9.9",
        );
    }
    if transport != "udp" {
        client.note(
            "dns-resolver",
            "the server is carried over; by which transport it is asked cannot be set",
        );
    }
    draft.set("dns_servers", vec![server.to_owned()]);
}

fn oauth2(client: &mut Section<'_>, draft: &mut Draft) {
    let Some(mut oauth2) = client.section("oauth2") else {
        return;
    };
    for (theirs, ours) in [("token-url", "token_url"), ("client-id", "client_id")] {
        if let Some(text) = oauth2.text(theirs) {
            if has_variable(&text) {
                oauth2.note(theirs, "a variable is replaced in headers, passwords, tokens and `proxy` only: write its value");
            }
            draft.set_in("oauth2", ours, with_variables(&text));
        }
    }
    if let Some(secret) = request::secret(&mut oauth2, "client-secret", secret) {
        draft.set_in("oauth2", "client_secret", secret);
    }
    let scopes: Vec<String> = oauth2
        .texts("scopes")
        .iter()
        .map(|scope| with_variables(scope))
        .collect();
    if !scopes.is_empty() {
        draft.set_in("oauth2", "scopes", scopes);
    }
    oauth2.finish();
}

fn tls(client: &mut Section<'_>, draft: &mut Draft) {
    let Some(mut tls) = client.section("tls") else {
        return;
    };
    for (theirs, ours) in [("certificate-file", "cert"), ("private-key-file", "key")] {
        if let Some(path) = tls.text(theirs) {
            draft.set_in("tls", ours, with_variables(&path));
        }
    }
    tls.left_out(&["renegotiation"], "connections are never renegotiated");
    tls.finish();
}
