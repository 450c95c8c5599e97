//! The same settings in YAML, TOML and JSON are the same.

use std::path::PathBuf;

use crate::support::folder;
use sitewatch_config::{BodyForm, Settings, Site};

const YAML: &str = r#"
node: { location: fra1, restart: { max: 3, base: 1s } }
kafka:
  brokers: [one:9092, 'two:9092, [::1]:9092']
  options: { socket.timeout.ms: 1000, socket.keepalive.enable: true, client.rack: a }
defaults:
  headers: { X-Zebra: z, Accept: '*/*', x-Answer: 42 }
sites:
  - name: search
    url: https://example.org/search
    interval: 1m 30s
    headers: { accept: text/html, X-Debug: true }
    body: { zebra: 1, apple: [1.5, null, "x"] }
    body_matches: 'a\d+'
    expected_status: [200, 301-302, 4xx]
"#;

const TOML: &str = r#"
[node]
location = "fra1"
restart = { max = 3, base = "1s" }
[kafka]
brokers = "one:9092,two:9092,[::1]:9092"
[kafka.options]
socket.timeout.ms = 1000
"socket.keepalive.enable" = true
"client.rack" = "a"
[defaults.headers]
X-Zebra = "z"
Accept = "*/*"
x-Answer = 42
[[sites]]
name = "search"
url = "https://example.org/search"
interval = "1m 30s"
headers = { accept = "text/html", X-Debug = true }
body = '{"zebra":1,"apple":[1.5,null,"x"]}'
body_matches = 'a\d+'
expected_status = [200, "301-302", "4xx"]
"#;

const JSON: &str = r#"{
  "node": { "location": "fra1", "restart": { "max": 3, "base": "1s" } },
  "kafka": {
    "brokers": ["one:9092", "two:9092", "[::1]:9092"],
    "options": { "socket.timeout.ms": "1000", "socket.keepalive.enable": true, "client.rack": "a" }
  },
  "defaults": { "headers": { "X-Zebra": "z", "Accept": "*/*", "x-Answer": 42 } },
  "sites": [{
    "name": "search", "url": "https://example.org/search", "interval": "1m 30s",
    "headers": { "accept": "text/html", "X-Debug": true },
    "body": { "zebra": 1, "apple": [1.5, null, "x"] },
    "body_matches": "a\\d+", "expected_status": [200, "301-302", "4xx"]
  }]
}"#;

/// Without what must differ: the paths, and a body that TOML cannot write as a mapping because of its null.
fn load(name: &str, text: &str) -> Settings {
    let mut settings = folder().file(name, text).load();
    settings.files.clear();
    settings.node.data_dir = PathBuf::new();
    settings.spool.dir = PathBuf::new();
    settings
}

#[test]
fn yaml_keeps_order_case_and_dots() {
    let settings = load("sitewatch.yml", YAML);
    assert_eq!(
        settings.kafka.brokers.as_deref(),
        Some("one:9092,two:9092,[::1]:9092")
    );
    let options: Vec<_> = settings
        .kafka
        .options
        .iter()
        .map(|(name, value)| (name, value.reveal()))
        .collect();
    assert_eq!(
        options,
        [
            ("client.rack", "a"),
            ("socket.keepalive.enable", "true"),
            ("socket.timeout.ms", "1000")
        ]
    );

    let site = &settings.sites[0];
    let headers: Vec<_> = site
        .options
        .request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.reveal()))
        .collect();
    assert_eq!(
        headers,
        [
            ("X-Zebra", "z"),
            ("accept", "text/html"),
            ("x-Answer", "42"),
            ("X-Debug", "true")
        ]
    );
    let body = site.options.request.body.as_ref().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&body.bytes),
        r#"{"zebra":1,"apple":[1.5,null,"x"]}"#
    );
    assert_eq!(
        site.options.expect.expected_status.to_string(),
        "200,301-302,400-499"
    );
    assert!(site.options.expect.body_matches[0].is_match(b"-a12-"));
}

#[test]
fn json_says_the_same() {
    assert_eq!(load("sitewatch.json", JSON), load("sitewatch.yaml", YAML));
}

#[test]
fn toml_says_the_same() {
    let mut yaml = load("sitewatch.yaml", YAML);
    // In TOML the body is written as text, since it has no null.
    let site = &yaml.sites[0];
    let mut options = site.options.as_ref().clone();
    options.request.body.as_mut().unwrap().form = BodyForm::Text;
    yaml.sites[0] = Site::with_options(&site.name, site.url.as_str(), options).into();
    assert_eq!(load("sitewatch.toml", TOML), yaml);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_read() {
    let settings = folder()
        .file("sitewatch.yaml", "\u{feff}node:\r\n  location: fra1\r\n")
        .load();
    assert_eq!(settings.node.location, "fra1");
}

#[test]
fn an_empty_file_and_empty_sections_say_nothing() {
    assert!(
        folder()
            .file("sitewatch.yaml", "# nothing\n")
            .try_load()
            .is_ok()
    );
    assert!(
        folder()
            .file("sitewatch.yaml", "node:\nkafka:\n  sasl:\nsites:\n")
            .try_load()
            .is_ok()
    );
    assert!(folder().file("sitewatch.toml", "").try_load().is_ok());
}
