//! The flags of the command line that tell of a site: each is named as the setting is.

/// How the texts after a flag are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FlagForm {
    /// One text.
    Text,
    /// Nothing: the flag itself means `true`. `--flag=false` switches off.
    Switch,
    /// Several texts, from a flag that is repeated.
    List,
    /// `name: value`, from a flag that is repeated.
    Pairs,
    /// `name=value`, with commas between.
    Parts,
    /// One value as YAML.
    Yaml,
}

/// A flag for one setting of a site.
pub struct Flag {
    /// Its name, without dashes before it.
    pub name: &'static str,
    /// The setting; a dot stands before a part of one.
    pub setting: &'static str,
    /// How its texts are read.
    pub form: FlagForm,
    /// What is shown for the value in the help.
    pub value_name: &'static str,
    /// One line of help.
    pub help: &'static str,
}

const fn flag(
    name: &'static str,
    setting: &'static str,
    form: FlagForm,
    value_name: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        setting,
        form,
        value_name,
        help,
    }
}

use FlagForm::{List, Pairs, Parts, Switch, Text, Yaml};

/// All of them, in the order in which the help shows them.
pub const FLAGS: &[Flag] = &[
    flag(
        "timeout",
        "timeout",
        Text,
        "DURATION",
        "Longest time of an attempt [default: 10s]",
    ),
    flag(
        "retries",
        "retries",
        Text,
        "N",
        "How often a failure is checked again [default: 0]",
    ),
    flag(
        "retry-delay",
        "retry_delay",
        Text,
        "DURATION",
        "Pause before each retry [default: 1s]",
    ),
    flag(
        "resolve",
        "resolve",
        Text,
        "any|each",
        "each: check each of the name's addresses, and show one after the other [default: any]",
    ),
    flag(
        "method",
        "method",
        Text,
        "METHOD",
        "HTTP method [default: GET]",
    ),
    flag(
        "header",
        "headers",
        Pairs,
        "'NAME: VALUE'",
        "Send this header; may be repeated",
    ),
    flag("body", "body", Text, "TEXT", "Send this body"),
    flag("body-file", "body_file", Text, "FILE", "Send this file"),
    flag("json-body", "json", Yaml, "JSON", "Send this value as JSON"),
    flag("form", "form", Parts, "NAME=VALUE,…", "Send a form"),
    flag(
        "basic-auth",
        "basic_auth",
        Pairs,
        "USER:PASSWORD",
        "Log in by name and password",
    ),
    flag(
        "bearer-token",
        "bearer_token",
        Text,
        "TOKEN",
        "Log in by a token; ${NAME} and file:PATH work",
    ),
    flag(
        "oauth2",
        "oauth2",
        Parts,
        "token_url=…,client_id=…,client_secret=…",
        "Log in by OAuth2 client credentials",
    ),
    flag(
        "http-version",
        "http_version",
        Text,
        "auto|1.1|2",
        "Which HTTP to speak",
    ),
    flag(
        "keep-alive",
        "keep_alive",
        Switch,
        "",
        "Keep the connection for the next check",
    ),
    flag(
        "follow-redirects",
        "follow_redirects",
        Switch,
        "",
        "Follow redirects (--follow-redirects=false does not)",
    ),
    flag(
        "max-redirects",
        "max_redirects",
        Text,
        "N",
        "Most redirects to follow [default: 10]",
    ),
    flag(
        "hide-query",
        "hide_query",
        Switch,
        "",
        "Show no query of a URL",
    ),
    flag(
        "ip-version",
        "ip_version",
        Text,
        "any|4|6",
        "Which addresses to try",
    ),
    flag(
        "dns-servers",
        "dns_servers",
        Text,
        "ADDRESS,…",
        "Ask these DNS servers",
    ),
    flag(
        "source-address",
        "source_address",
        Text,
        "ADDRESS",
        "Connect from this address",
    ),
    flag("proxy", "proxy", Text, "URL", "Go through this HTTP proxy"),
    flag(
        "no-proxy",
        "no_proxy",
        Text,
        "HOST,…",
        "Reach these without the proxy",
    ),
    flag(
        "ca",
        "tls.ca",
        Text,
        "FILE",
        "Trust the authorities in this PEM file",
    ),
    flag("cert", "tls.cert", Text, "FILE", "Client certificate, PEM"),
    flag("key", "tls.key", Text, "FILE", "Its private key, PEM"),
    flag(
        "server-name",
        "tls.server_name",
        Text,
        "NAME",
        "The name that the certificate must be for",
    ),
    flag(
        "insecure-skip-verify",
        "tls.insecure_skip_verify",
        Switch,
        "",
        "Accept any certificate",
    ),
    flag(
        "allow-private",
        "allow_private",
        Switch,
        "",
        "Allow addresses that are not public",
    ),
    flag(
        "allow-networks",
        "allow_networks",
        Text,
        "NETWORK,…",
        "Allow these networks",
    ),
    flag(
        "deny-networks",
        "deny_networks",
        Text,
        "NETWORK,…",
        "Refuse these networks",
    ),
    flag(
        "expected-status",
        "expected_status",
        Text,
        "STATUS,…",
        "Statuses that are right [default: 2xx]",
    ),
    flag(
        "body-matches",
        "body_matches",
        List,
        "REGEX",
        "The body must match; may be repeated",
    ),
    flag(
        "body-must-not-match",
        "body_must_not_match",
        List,
        "REGEX",
        "The body must not match; may be repeated",
    ),
    flag(
        "expect-json",
        "expect_json",
        Yaml,
        "'{$.status: {equals: ok}}'",
        "What must stand in a body of JSON",
    ),
    flag(
        "expect-headers",
        "expect_headers",
        Yaml,
        "'{NAME: present}'",
        "What must stand in the headers",
    ),
    flag(
        "expect-final-url",
        "expect_final_url",
        Text,
        "URL",
        "Where redirects must end",
    ),
    flag(
        "min-cert-days",
        "min_cert_days",
        Text,
        "N",
        "Days that the certificate must still be valid",
    ),
    flag(
        "min-tls-version",
        "min_tls_version",
        Text,
        "1.2|1.3",
        "The oldest TLS that is right",
    ),
    flag(
        "cert-issuer-matches",
        "cert_issuer_matches",
        Text,
        "REGEX",
        "What the issuer's name must match",
    ),
    flag(
        "max-body-bytes",
        "max_body_bytes",
        Text,
        "N",
        "Largest body that is read [default: 1048576]",
    ),
    flag(
        "limits",
        "limits",
        Parts,
        "total=800ms,…",
        "Longest times before it counts as degraded",
    ),
    flag(
        "capture-bytes",
        "capture_bytes",
        Text,
        "N",
        "Keep so much of the body when it is not up",
    ),
];
