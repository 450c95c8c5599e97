//! A site as the flags of the command line tell it: each flag is named as the setting is.

use config::{FileFormat, Format, Map, Value, ValueKind};

use crate::origin::Origin;
use crate::report::Report;

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

/// The site that the flags tell, as a file would have it. A flag that is not known is a mistake of the caller and left out.
pub(crate) fn site(flags: &[(String, Vec<String>)], report: &Report) -> Option<Value> {
    if flags.is_empty() {
        return None;
    }
    let mut site = Map::<String, Value>::new();
    for (name, texts) in flags {
        let shown = match name.as_str() {
            "url" => "URL".to_owned(),
            name => format!("--{name}"),
        };
        let origin = Origin::Variable {
            source: "command line",
            name: &shown,
        }
        .encode();
        let known = FLAGS.iter().find(|flag| flag.name == name);
        let (setting, form) = match (name.as_str(), known) {
            ("url", _) => ("url", Text),
            (_, Some(flag)) => (flag.setting, flag.form),
            (_, None) => continue,
        };
        let Some(value) = value(form, texts, &origin, report) else {
            continue;
        };
        match setting.split_once('.') {
            None => drop(site.insert(setting.to_owned(), value)),
            Some((section, part)) => {
                let section = site
                    .entry(section.to_owned())
                    .or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
                if let ValueKind::Table(table) = &mut section.kind {
                    table.insert(part.to_owned(), value);
                }
            }
        }
    }
    Some(Value::new(None, ValueKind::Table(site)))
}

fn value(form: FlagForm, texts: &[String], origin: &str, report: &Report) -> Option<Value> {
    let text = |text: &str| Value::new(Some(&origin.to_owned()), text);
    let last = texts.last().map_or("", String::as_str);
    // Most of these may hold a secret: what is told is what is missing.
    let wrong = |found: &str, expected: &str| {
        report.add(Some(origin), "", found, expected);
        None
    };
    let table = |pairs: Vec<(String, Value)>| {
        let table: Map<String, Value> = pairs.into_iter().collect();
        Some(Value::new(
            Some(&origin.to_owned()),
            ValueKind::Table(table),
        ))
    };
    match form {
        Text | Switch => Some(text(last)),
        List => Some(Value::new(
            Some(&origin.to_owned()),
            ValueKind::Array(texts.iter().map(|one| text(one)).collect()),
        )),
        Pairs if origin.ends_with("--basic-auth") => match last.split_once(':') {
            Some((user, password)) => table(vec![
                ("username".to_owned(), text(user)),
                ("password".to_owned(), text(password)),
            ]),
            None => wrong("a text without `:`", "USER:PASSWORD"),
        },
        Pairs => {
            pairs(texts, &text).map_or_else(|| wrong("a text without `:`", "NAME: VALUE"), table)
        }
        Parts => {
            let parts: Option<Vec<_>> = last
                .split(',')
                .map(|part| {
                    let (name, value) = part.split_once('=')?;
                    Some((name.trim().to_owned(), text(value.trim())))
                })
                .collect();
            parts.map_or_else(
                || wrong("a part without `=`", "NAME=VALUE, with commas between"),
                table,
            )
        }
        Yaml => {
            // The parser takes a mapping only: the value is put into one.
            let parsed =
                FileFormat::Yaml.parse(Some(&origin.to_owned()), &format!("value: {last}"));
            match parsed
                .ok()
                .and_then(|mut table| table.shift_remove("value"))
            {
                Some(value) => Some(value),
                None => wrong("what can't be parsed", "a value in YAML or JSON"),
            }
        }
    }
}

/// `NAME: VALUE`; values of one name become a list.
fn pairs(texts: &[String], text: &dyn Fn(&str) -> Value) -> Option<Vec<(String, Value)>> {
    let mut pairs: Vec<(String, Vec<Value>)> = Vec::new();
    for pair in texts {
        let (name, value) = pair.split_once(':')?;
        let (name, value) = (name.trim(), text(value.trim()));
        match pairs.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => values.push(value),
            None => pairs.push((name.to_owned(), vec![value])),
        }
    }
    let value = |mut values: Vec<Value>| match values.len() {
        1 => values.remove(0),
        _ => Value::new(None, ValueKind::Array(values)),
    };
    Some(
        pairs
            .into_iter()
            .map(|(name, values)| (name, value(values)))
            .collect(),
    )
}
