//! Prints the settings file: plain YAML, a line an option, in the order of docs/checks.md.

use std::net::Ipv4Addr;

use serde_json::{Map, Value as Json};

use super::draft::Draft;
use super::{ImportFormat, Outcome};
use crate::mask::is_sensitive;

/// The options in the order in which they are written.
const ORDER: [&str; 40] = [
    "name",
    "url",
    "group",
    "interval",
    "cron",
    "timeout",
    "retries",
    "retry_delay",
    "resolve",
    "method",
    "headers",
    "body",
    "json",
    "form",
    "body_file",
    "basic_auth",
    "bearer_token",
    "oauth2",
    "http_version",
    "keep_alive",
    "follow_redirects",
    "max_redirects",
    "ip_version",
    "dns_servers",
    "source_address",
    "proxy",
    "no_proxy",
    "tls",
    "allow_private",
    "expected_status",
    "body_matches",
    "body_must_not_match",
    "expect_json",
    "expect_headers",
    "expect_final_url",
    "min_cert_days",
    "min_tls_version",
    "cert_issuer_matches",
    "max_body_bytes",
    "limits",
];

pub(super) fn settings(format: ImportFormat, outcome: &Outcome) -> String {
    let mut text = format!(
        "# Made by `sitewatch-node import {format}`. What it could not carry over was listed then.\n"
    );
    text.push_str("# A relative path starts at the folder of this file. Secrets stand here as they stood there:\n");
    text.push_str("# keep this file to yourself, or refer to a variable, ${NAME}, or a file, file:/run/secrets/name.\n");
    for remark in outcome.remarks {
        text.push_str(&format!("# {remark}\n"));
    }
    let mut sites: Vec<Map<String, Json>> = outcome
        .drafts
        .iter()
        .map(|draft| draft.options.clone())
        .collect();
    let common = take_common(&mut sites);
    if !common.is_empty() {
        text.push_str("\ndefaults:\n");
        mapping(&mut text, &common, 2);
    }
    text.push_str("\nsites:\n");
    let written: Vec<(&Draft, String)> = outcome
        .drafts
        .iter()
        .zip(sites)
        .map(|(draft, options)| (draft, site(draft, options)))
        .collect();
    let (complete, templates): (Vec<_>, Vec<_>) = written
        .into_iter()
        .partition(|(draft, _)| draft.is_complete);
    let complete: Vec<String> = complete.into_iter().map(|(_, site)| site).collect();
    text.push_str(&complete.join("\n"));
    if !templates.is_empty() {
        text.push_str("\n  # These lack a URL, or a part of one: write it, and take the first # of each line away.\n");
        for (_, site) in templates {
            text.push('\n');
            for line in site.lines() {
                text.push_str(&format!("#{line}\n"));
            }
        }
    }
    text
}

/// Takes out what all sites have in common. One site alone has nothing in common.
fn take_common(sites: &mut [Map<String, Json>]) -> Map<String, Json> {
    let Some((first, others)) = sites.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Map::new();
    };
    let is_common = |(key, value): &(&String, &Json)| {
        may_be_common(key, value) && others.iter().all(|other| other.get(*key) == Some(*value))
    };
    let common: Map<String, Json> = first
        .iter()
        .filter(is_common)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for site in sites {
        site.retain(|key, _| !common.contains_key(key));
    }
    ordered(common)
}

/// `defaults` are for sites that are added later too: these must not get credentials or a permission
/// that nobody meant for them, nor a body.
fn may_be_common(option: &str, value: &Json) -> bool {
    const OWN: [&str; 8] = [
        "basic_auth",
        "bearer_token",
        "oauth2",
        "tls",
        "allow_private",
        "body",
        "json",
        "body_file",
    ];
    let is_secret = option == "headers"
        && value
            .as_object()
            .is_some_and(|headers| headers.keys().any(|name| is_sensitive(name)));
    !OWN.contains(&option) && !is_secret
}

fn ordered(mut options: Map<String, Json>) -> Map<String, Json> {
    let mut ordered = Map::new();
    for key in ORDER {
        if let Some(value) = options.shift_remove(key) {
            ordered.insert(key.to_owned(), value);
        }
    }
    ordered.extend(options);
    ordered
}

fn site(draft: &Draft, options: Map<String, Json>) -> String {
    let mut all = Map::new();
    all.insert("name".to_owned(), draft.name.clone().into());
    all.insert("url".to_owned(), draft.url.as_str().into());
    all.extend(ordered(options));
    let mut text = String::new();
    mapping(&mut text, &all, 4);
    text.replacen("    ", "  - ", 1)
}

fn mapping(text: &mut String, map: &Map<String, Json>, indent: usize) {
    for (key, value) in map {
        text.push_str(&format!("{:indent$}{}:", "", scalar(key)));
        after_colon(text, value, indent);
    }
}

fn after_colon(text: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            text.push('\n');
            mapping(text, map, indent + 2);
        }
        Json::Array(list) if list.iter().all(is_short) => {
            let items: Vec<String> = list.iter().map(inline).collect();
            text.push_str(&format!(" [{}]\n", items.join(", ")));
        }
        Json::Array(list) => {
            text.push('\n');
            for item in list {
                item_of(text, item, indent + 2);
            }
        }
        Json::String(value) if is_block(value) => {
            text.push_str(if value.ends_with('\n') {
                " |\n"
            } else {
                " |-\n"
            });
            for line in value.lines() {
                // An empty line stays empty: no spaces at the end of a line.
                let indent = if line.is_empty() { 0 } else { indent + 2 };
                text.push_str(&format!("{:indent$}{line}\n", ""));
            }
        }
        value => text.push_str(&format!(" {}\n", inline(value))),
    }
}

/// An item of a list; what is not a plain value is written as JSON, which is YAML too.
fn item_of(text: &mut String, item: &Json, indent: usize) {
    match item {
        Json::Object(map) if !map.is_empty() => {
            let mut entries = String::new();
            mapping(&mut entries, map, indent + 2);
            let start = " ".repeat(indent + 2);
            text.push_str(&entries.replacen(&start, &format!("{:indent$}- ", ""), 1));
        }
        Json::Array(list) => {
            let items: Vec<String> = list.iter().map(flow).collect();
            text.push_str(&format!("{:indent$}- [{}]\n", "", items.join(", ")));
        }
        item => text.push_str(&format!("{:indent$}- {}\n", "", inline(item))),
    }
}

fn flow(value: &Json) -> String {
    match value {
        Json::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::Object(map) => {
            let entry =
                |(key, value): (&String, &Json)| format!("{}: {}", double_quoted(key), flow(value));
            format!(
                "{{ {} }}",
                map.iter().map(entry).collect::<Vec<_>>().join(", ")
            )
        }
        Json::String(text) => double_quoted(text),
        other => inline(other),
    }
}

fn inline(value: &Json) -> String {
    match value {
        Json::String(text) => scalar(text),
        Json::Object(_) => "{}".to_owned(),
        Json::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a list item reads well beside others on one line.
fn is_short(value: &Json) -> bool {
    match value {
        Json::Number(_) => true,
        Json::String(text) => {
            text.len() <= 24
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
        }
        _ => false,
    }
}

/// Whether text is written as a block of lines.
fn is_block(text: &str) -> bool {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let is_simple = |line: &str| !line.ends_with(' ') && line.chars().all(is_printable);
    lines.contains('\n')
        && !lines.starts_with([' ', '\n'])
        && !lines.ends_with('\n')
        && lines.split('\n').all(is_simple)
}

fn scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else if !text.is_empty() && text.chars().all(is_printable) && text.trim() == text {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        double_quoted(text)
    }
}

fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
        && !('\u{fff0}'..='\u{ffff}').contains(&c)
}

/// YAML's double quotes know the escapes of JSON.
fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in Json::from(text).to_string().chars() {
        if is_printable(c) {
            quoted.push(c);
        } else {
            quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    quoted
}

/// Whether text stays text without quotes, for every YAML parser.
fn is_plain(text: &str) -> bool {
    const RESERVED: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = starts
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " _-./:=?&%@+(),;$~".contains(c))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word));
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_range = text
        .split_once('-')
        .is_some_and(|(first, last)| number(first) && number(last));
    let is_ipv4 = text.parse::<Ipv4Addr>().is_ok();
    let is_duration =
        unit.len() < text.len() && ["ms", "s", "m", "h", "day", "days", "xx"].contains(&unit);
    is_word || is_duration || is_range || is_ipv4
}

#[cfg(test)]
mod tests {
    use config::{FileFormat, Format, Value};
    use proptest::prelude::*;

    use super::*;

    fn read_back(value: &Json) -> Value {
        let mut text = String::new();
        let map = Map::from_iter([("key".to_owned(), value.clone())]);
        mapping(&mut text, &map, 2);
        let mut table = FileFormat::Yaml
            .parse(None, &format!("top:\n{text}"))
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        let mut top = table.shift_remove("top").unwrap().into_table().unwrap();
        top.shift_remove("key").unwrap()
    }

    fn as_json(value: Value) -> Json {
        value.try_deserialize().unwrap()
    }

    #[test]
    fn quotes_what_would_be_something_else() {
        for (text, written) in [
            ("front page", "front page"),
            ("60s", "60s"),
            ("2xx", "2xx"),
            (
                "https://example.org/?a=1&b=2",
                "https://example.org/?a=1&b=2",
            ),
            ("true", "'true'"),
            ("No", "'No'"),
            ("1.1", "'1.1'"),
            ("200-299", "200-299"),
            ("8.8.8.8", "8.8.8.8"),
            ("2000-01-01", "'2000-01-01'"),
            ("", "\"\""),
            ("a: b", "'a: b'"),
            ("a #b", "'a #b'"),
            ("$.status", "'$.status'"),
            ("it's", "'it''s'"),
            (" a", "\" a\""),
            ("a\u{7f}", "\"a\\u007f\""),
            (r"^a\d", r"'^a\d'"),
        ] {
            assert_eq!(scalar(text), written);
        }
    }

    #[test]
    fn lines_stay_lines() {
        let mut text = String::new();
        after_colon(&mut text, &Json::from("{\n  \"a\": 1\n}\n"), 4);
        assert_eq!(text, " |\n      {\n        \"a\": 1\n      }\n");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "(?s).*|[-?:,\\[\\]{}#&*!|>'\"%@` \\n\\ta1]*|[0-9exXo._+-]*") {
            prop_assert_eq!(read_back(&Json::from(text.as_str())).into_string().unwrap(), text);
        }

        #[test]
        fn any_key_comes_back(key in ".+|[-?:,\\[\\]{}#&*!|>'\"%@` ta1]+") {
            let read = read_back(&serde_json::json!({ key.as_str(): ["x y", { "b": key.as_str() }] }));
            prop_assert_eq!(as_json(read), serde_json::json!({ key.as_str(): ["x y", { "b": key.as_str() }] }));
        }
    }
}
