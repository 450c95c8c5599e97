//! A module of a blackbox_exporter: how to check.

use std::time::Duration;

use config::{Value, ValueKind};

use super::draft::Draft;
use super::duration;
use super::notes::Notes;
use super::request::{self, secret_or_file, to_the_letter};
use super::section::Section;
use crate::status::StatusSet;

/// A module with prober http.
#[derive(Clone)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) timeout: Option<Duration>,
    /// The options; its name is that of the module in notes.
    pub(super) draft: Draft,
}

/// A module of which only the name is known.
pub(super) fn by_default(name: &str) -> Module {
    Module {
        name: name.to_owned(),
        timeout: None,
        draft: Draft::new(&format!("module {name}")),
    }
}

/// Reads a module. `None` if it does not speak HTTP.
pub(super) fn read(name: &str, value: Value, notes: &Notes) -> Option<Module> {
    let mut module = by_default(name);
    let place = module.draft.name.clone();
    let ValueKind::Table(table) = value.kind else {
        notes.skip(&place, "it is no mapping");
        return None;
    };
    let mut section = Section::new(&place, table, notes);
    let prober = section.text("prober").unwrap_or_default();
    if prober != "http" {
        notes.skip(
            &place,
            format!("its prober is {prober:?}, and only http is checked here"),
        );
        return None;
    }
    notes.enter(&place);
    if let Some(text) = section.text("timeout") {
        module.timeout = duration::parse(&text);
        if module.timeout.is_none() {
            section.note("timeout", "is no duration");
        }
    }
    if let Some(mut http) = section.section("http") {
        probe(&mut http, &mut module.draft);
        http.finish();
    }
    section.left_out(
        &["tcp", "dns", "icmp", "grpc", "unix", "websocket"],
        "not in use, by the module's prober",
    );
    section.finish();
    Some(module)
}

fn probe(http: &mut Section<'_>, draft: &mut Draft) {
    request::method(http, "method", draft);
    request::headers(http, "headers", draft, to_the_letter);
    more_headers(http, draft);
    if let Some(body) = http.text("body") {
        draft.set("body", request::without_variables(&body));
    }
    if let Some(path) = http.text("body_file") {
        draft.set("body_file", path);
    }
    credentials(http, draft);
    redirects(http, draft);
    connection(http, draft);
    tls(http, draft);
    statuses(http, draft);
    for (theirs, ours) in [
        ("fail_if_body_not_matches_regexp", "body_matches"),
        ("fail_if_body_matches_regexp", "body_must_not_match"),
    ] {
        for (number, text) in http.texts(theirs).iter().enumerate() {
            request::pattern(http, &format!("{theirs}[{number}]"), ours, text, draft);
        }
    }
    answer_headers(http, draft);
    body_size(http, draft);
    http.left_out(
        &["fail_if_ssl"],
        "cannot be said here: let the URL be http:// and `follow_redirects` false",
    );
    http.left_out(&["fail_if_not_ssl"], "cannot be said here: let the URL be https://, or name the end of redirects in `expect_final_url`");
    http.left_out(
        &[
            "fail_if_body_json_matches_cel",
            "fail_if_body_json_not_matches_cel",
        ],
        "an expression of CEL: write `expect_json` by hand",
    );
    http.left_out(
        &["valid_http_versions"],
        "the version is chosen here, by `http_version`, not compared",
    );
    http.left_out(
        &["compression"],
        "gzip, brotli and zstd are unpacked as they come",
    );
}

/// `http_headers`: of the values, secrets and files of a header the last one is sent.
fn more_headers(http: &mut Section<'_>, draft: &mut Draft) {
    let Some(mut headers) = http.section("http_headers") else {
        return;
    };
    for name in headers.keys_ending("") {
        let Some(mut one) = headers.section(&name) else {
            continue;
        };
        let mut texts = one.texts("values");
        texts.append(&mut one.texts("secrets"));
        let file = one.texts("files").pop();
        if texts.len() + usize::from(file.is_some()) > 1 {
            one.note("values", "only the last one is sent");
        }
        match (file, texts.pop()) {
            (Some(path), _) => draft.set_in("headers", &name, format!("file:{path}")),
            (None, Some(text)) => {
                request::header(&headers, "", (&name, &text), draft, to_the_letter)
            }
            (None, None) => headers.note(&name, "has no value"),
        }
        one.finish();
    }
}

fn credentials(http: &mut Section<'_>, draft: &mut Draft) {
    if let Some(mut basic) = http.section("basic_auth") {
        let username = secret_or_file(&mut basic, "username", to_the_letter).unwrap_or_default();
        let password = secret_or_file(&mut basic, "password", to_the_letter).unwrap_or_default();
        if username.starts_with("file:") {
            basic.note(
                "username_file",
                "only secrets are read from files: write the username itself",
            );
        }
        draft.set_in("basic_auth", "username", username);
        draft.set_in("basic_auth", "password", password);
        basic.finish();
    }
    if let Some(token) = secret_or_file(http, "bearer_token", to_the_letter) {
        draft.set("bearer_token", token);
    }
    if let Some(mut authorization) = http.section("authorization") {
        let scheme = authorization
            .text("type")
            .unwrap_or_else(|| "Bearer".to_owned());
        let token = secret_or_file(&mut authorization, "credentials", to_the_letter);
        match token {
            Some(token) if scheme.eq_ignore_ascii_case("bearer") => {
                draft.set("bearer_token", token)
            }
            Some(token) if token.starts_with("file:") => {
                authorization.note("credentials_file", "put the scheme before what the file holds, and name it in the header authorization");
            }
            Some(token) => draft.set_in("headers", "Authorization", format!("{scheme} {token}")),
            None => authorization.note("credentials", "are missing"),
        }
        authorization.finish();
    }
    if let Some(mut oauth2) = http.section("oauth2") {
        for key in ["token_url", "client_id"] {
            if let Some(text) = oauth2.text(key) {
                draft.set_in("oauth2", key, text);
            }
        }
        if let Some(secret) = secret_or_file(&mut oauth2, "client_secret", to_the_letter) {
            draft.set_in("oauth2", "client_secret", secret);
        }
        let scopes = oauth2.texts("scopes");
        if !scopes.is_empty() {
            draft.set_in("oauth2", "scopes", scopes);
        }
        if let Some(mut parameters) = oauth2.section("endpoint_params") {
            if let Some(audience) = parameters.text("audience") {
                draft.set_in("oauth2", "audience", audience);
            }
            let grant = parameters.text("grant_type");
            if grant.is_some_and(|grant| grant != "client_credentials") {
                parameters.note("grant_type", "only client credentials are known here");
            }
            parameters.finish();
        }
        oauth2.left_out(
            &[
                "tls_config",
                "proxy_url",
                "no_proxy",
                "proxy_from_environment",
                "proxy_connect_header",
            ],
            "the token is fetched without",
        );
        oauth2.finish();
    }
}

fn redirects(http: &mut Section<'_>, draft: &mut Draft) {
    let old = http.flag("no_follow_redirects").map(|no| !no);
    let follow = http.flag("follow_redirects").or(old);
    draft.switch("follow_redirects", follow, true);
}

fn connection(http: &mut Section<'_>, draft: &mut Draft) {
    let preferred = http
        .text("preferred_ip_protocol")
        .unwrap_or_else(|| "ip6".to_owned());
    let falls_back = http.flag("ip_protocol_fallback").unwrap_or(true);
    match (preferred.as_str(), falls_back) {
        ("ip4", false) => draft.set("ip_version", "4"),
        ("ip6", false) => draft.set("ip_version", "6"),
        // IPv6 first, with IPv4 after it, is what is done here.
        ("ip6", true) => {}
        ("ip4", true) => http.note(
            "preferred_ip_protocol",
            "both are tried, IPv6 first: `ip_version: 4` is for IPv4 alone",
        ),
        _ => http.note("preferred_ip_protocol", "is neither ip4 nor ip6"),
    }
    request::proxy(http, "proxy_url", draft, to_the_letter);
    let direct: Vec<String> = http
        .text("no_proxy")
        .unwrap_or_default()
        .split(',')
        .map(|host| host.trim().to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    if !direct.is_empty() {
        draft.set("no_proxy", direct);
    }
    http.left_out(
        &["proxy_from_environment"],
        "a proxy is used only if `proxy` names it",
    );
    http.left_out(
        &["proxy_connect_header"],
        "a proxy gets the credentials of its URL, nothing else",
    );
    http.left_out(
        &["skip_resolve_phase_with_proxy", "use_proxy_dns"],
        "a proxy resolves the target's name",
    );
    if http.flag("enable_http2") == Some(false) {
        draft.set("http_version", "1.1");
    }
    http.left_out(&["enable_http3"], "HTTP/3 is not known here");
}

fn tls(http: &mut Section<'_>, draft: &mut Draft) {
    let Some(mut tls) = http.section("tls_config") else {
        return;
    };
    for (theirs, ours) in [
        ("ca_file", "ca"),
        ("cert_file", "cert"),
        ("key_file", "key"),
        ("server_name", "server_name"),
    ] {
        if let Some(text) = tls.text(theirs) {
            draft.set_in("tls", ours, text);
        }
    }
    if tls.flag("insecure_skip_verify") == Some(true) {
        draft.set_in("tls", "insecure_skip_verify", true);
    }
    match tls.text("min_version").as_deref() {
        Some("TLS13") => draft.set("min_tls_version", "1.3"),
        Some("TLS12") | None => {}
        Some(_) => tls.note("min_version", "TLS before 1.2 is not spoken here"),
    }
    tls.left_out(&["max_version"], "there is no highest version here");
    tls.left_out(
        &["ca", "cert", "key", "ca_ref", "cert_ref", "key_ref"],
        "put it into a file and name that",
    );
    tls.finish();
}

fn statuses(http: &mut Section<'_>, draft: &mut Draft) {
    let texts = http.texts("valid_status_codes");
    if texts.is_empty() {
        return;
    }
    match texts.join(",").parse::<StatusSet>() {
        Ok(statuses) => draft.set_statuses(&statuses),
        Err(_) => http.note(
            "valid_status_codes",
            "are no statuses: 200-299, the default, is in force",
        ),
    }
}

fn answer_headers(http: &mut Section<'_>, draft: &mut Draft) {
    for key in ["fail_if_header_matches", "fail_if_header_not_matches"] {
        for (number, mut rule) in http.sections(key).into_iter().enumerate() {
            let name = rule.text("header").unwrap_or_default().to_ascii_lowercase();
            let regexp = rule.text("regexp").unwrap_or_default();
            let may_miss = rule.flag("allow_missing").unwrap_or(false);
            rule.finish();
            let note = |why: &str| http.note(&format!("{key}[{number}] ({name})"), why);
            let is_any = [".*", ".+", "^.*$", "^.+$", ""].contains(&regexp.as_str());
            match (key, may_miss) {
                ("fail_if_header_not_matches", false)
                    if crate::pattern::Pattern::new(&regexp).is_err() =>
                {
                    note("is no regular expression here");
                }
                ("fail_if_header_not_matches", false) => {
                    if !draft.compare("expect_headers", &name, "matches", regexp.into()) {
                        note("the header is compared by a rule before it");
                    }
                }
                ("fail_if_header_matches", true) if is_any => {
                    let is_free = draft
                        .options
                        .get("expect_headers")
                        .is_none_or(|all| all.get(&name).is_none());
                    if is_free {
                        draft.set_in("expect_headers", &name, "absent");
                    } else {
                        note("the header is compared by a rule before it");
                    }
                }
                ("fail_if_header_matches", _) => {
                    note("that a header does not match cannot be said here, only that it is absent")
                }
                _ => note(
                    "a header that is compared must be there: `allow_missing` cannot be said here",
                ),
            }
        }
    }
}

/// `10MB`: the units count in steps of 1024, with an `i` in them or not.
fn body_size(http: &mut Section<'_>, draft: &mut Draft) {
    const LARGEST: u64 = 256 << 20;
    let Some(text) = http.text("body_size_limit") else {
        return;
    };
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text[number.len()..].trim_end_matches(['B', 'i']) {
        "" => Some(0),
        "K" => Some(1),
        "M" => Some(2),
        "G" => Some(3),
        _ => None,
    };
    let bytes = power.and_then(|power| {
        number
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1024_u64.pow(power))
    });
    match bytes {
        None => http.note("body_size_limit", "is no size"),
        Some(0) => {}
        Some(bytes) => {
            draft.set("max_body_bytes", bytes.min(LARGEST));
            http.note(
                "body_size_limit",
                "a larger body is an error here (`max_body_bytes`), and is not cut",
            );
        }
    }
}
