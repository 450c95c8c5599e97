//! The options of a check: references to secrets, more files with sites, flags, and where each value was written.

use std::net::SocketAddr;

use crate::support::folder;
use sitewatch_config::{Explanation, Login, NoProxy, Role, explain_site, load_any};

#[test]
fn secrets_may_stand_in_variables_and_files() {
    let settings = folder()
        .file("secrets/token", "CANARY-file\n")
        .file(".env", "FROM_DOTENV='CANARY-dotenv'")
        .env("PASSWORD", "CANARY-env")
        .file(
            "sitewatch.yaml",
            "
sites:
- { name: a, url: 'http://a/', bearer_token: 'file:secrets/token' }
- { name: b, url: 'http://b/', basic_auth: { username: me, password: '${PASSWORD}' } }
- { name: c, url: 'http://c/', headers: { x-key: 'k-${FROM_DOTENV}-$${PLAIN}' }, proxy: 'http://u:${PASSWORD}@p:8080' }",
        )
        .load();
    let options = |n: usize| &settings.sites[n].options;
    assert!(
        matches!(&options(0).request.login, Some(Login::BearerToken(token)) if token.reveal() == "CANARY-file")
    );
    assert!(matches!(&options(1).request.login,
        Some(Login::BasicAuth { username, password }) if username.reveal() == "me" && password.reveal() == "CANARY-env"));
    assert_eq!(
        options(2).request.headers[0].1.reveal(),
        "k-CANARY-dotenv-${PLAIN}"
    );
    let proxy = options(2).connection.proxy.as_ref().unwrap();
    assert_eq!((proxy.host.as_str(), proxy.port), ("p", 8080));
    assert_eq!(proxy.login.as_ref().unwrap().1.reveal(), "CANARY-env");
    // Neither Debug nor the settings as they are shown tell them.
    let shown = settings
        .sites
        .iter()
        .map(|site| serde_json::to_string(&*site.options).unwrap());
    for text in shown.chain([format!("{settings:?}")]) {
        assert!(!text.contains("CANARY"), "{text}");
    }
}

#[test]
fn a_changed_secret_is_a_changed_site() {
    let load = |secret: &str| {
        folder()
            .file("token", secret)
            .file(
                "sitewatch.yaml",
                "sites: [{ url: 'http://a/', bearer_token: 'file:token' }]",
            )
            .load()
    };
    let (one, same, other) = (load("a"), load("a"), load("b"));
    assert_eq!(one.sites, same.sites);
    assert_ne!(one.sites, other.sites);
}

#[test]
fn sites_come_from_more_files() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "
defaults: { timeout: 3s, headers: { a: one } }
include: ['sites.d/*.yaml', nothing.d/*.yaml]
target_files: targets/*.json
sites: [{ url: 'http://main/' }]",
        )
        .file("sites.d/10-shop.yaml", "defaults: { timeout: 4s, headers: { b: two } }\nsites: [{ name: shop, url: 'http://shop/' }]")
        .file("sites.d/20-api.yaml", "sites: [{ name: api, url: 'http://api/' }]")
        .file(
            "targets/prod.json",
            r#"[{ "targets": ["https://x.example/", "y.example:8080"],
                  "labels": { "env": "prod", "__scrape_interval__": "30s" } }]"#,
        )
        .load();
    let told: Vec<_> = settings
        .sites
        .iter()
        .map(|site| {
            let schedule = &site.options.schedule;
            (
                &*site.name,
                schedule.timeout.as_secs(),
                schedule.interval.as_secs(),
                site.options.request.headers.len(),
                site.options.labels.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("http://main/", 3, 60, 1, 0),
            ("shop", 4, 60, 2, 0),
            ("api", 3, 60, 1, 0),
            ("https://x.example/", 3, 30, 1, 1),
            ("http://y.example:8080", 3, 30, 1, 1),
        ]
    );
    assert_eq!(settings.files.len(), 4);
}

#[test]
fn mistakes_in_more_files_name_the_file() {
    let problems = folder()
        .file(
            "sitewatch.yaml",
            "include: sites.d/*.yaml\ntarget_files: t.json\nsites: [{ name: a, url: 'http://a/' }]",
        )
        .file(
            "sites.d/one.yaml",
            "sites: [{ name: a, url: 'http://b/' }, { url: 'b.example', timeout: no }]\nkafka: {}",
        )
        .file("t.json", r#"{ "targets": [] }"#)
        .problems()
        .join("\n");
    for words in [
        "sites.d/one.yaml: sites[0] (a).name: found \"a\"; expected a name of its own: sites[0] in sitewatch.yaml has this one",
        "sites.d/one.yaml: sites[1].timeout: found \"no\"",
        "sites.d/one.yaml: sites[1].url: found \"b.example\"",
        "sites.d/one.yaml: kafka: found the key kafka; expected only `sites` and `defaults`",
        "t.json: found a syntax error",
    ] {
        assert!(problems.contains(words), "{words}\n{problems}");
    }
}

fn from_flags(flags: &[(&str, &[&str])]) -> Result<sitewatch_config::Settings, String> {
    let mut sources = folder().sources().clone();
    sources.isolated = true;
    sources.flags = flags
        .iter()
        .map(|(name, texts)| {
            (
                (*name).to_owned(),
                texts.iter().map(ToString::to_string).collect(),
            )
        })
        .collect();
    load_any(&sources).map_err(|problems| problems.to_string())
}

#[test]
fn each_flag_says_what_its_setting_says() {
    let settings = from_flags(&[
        ("url", &["https://a.example/"]),
        ("timeout", &["3s"]),
        ("retries", &["2"]),
        ("header", &["x-one: 1", "x-one: 2", "host: b.example"]),
        ("basic-auth", &["me:pass:word"]),
        ("form", &["a=1,b=two words"]),
        ("follow-redirects", &["false"]),
        ("insecure-skip-verify", &["true"]),
        ("dns-servers", &["9.9.9.9,127.0.0.1:5353"]),
        ("no-proxy", &["a.example,.b.example,10.0.0.0/8"]),
        ("expected-status", &["200,3xx"]),
        ("body-matches", &["a, b", "c"]),
        ("expect-json", &["{$.a: {at_least: 2}}"]),
        ("limits", &["total=800ms,ttfb=1s"]),
    ])
    .unwrap();
    let options = &settings.sites[0].options;
    assert_eq!(
        (options.schedule.timeout.as_secs(), options.schedule.retries),
        (3, 2)
    );
    let headers: Vec<_> = options
        .request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.reveal()))
        .collect();
    assert_eq!(headers, ["x-one: 1", "x-one: 2", "host: b.example"]);
    assert!(
        matches!(&options.request.login, Some(Login::BasicAuth { password, .. }) if password.reveal() == "pass:word")
    );
    assert_eq!(
        options.request.body.as_ref().unwrap().bytes,
        b"a=1&b=two+words"
    );
    assert!(!options.request.follow_redirects && options.connection.tls.insecure_skip_verify);
    let servers: [SocketAddr; 2] = [
        "9.9.9.9:53".parse().unwrap(),
        "127.0.0.1:5353".parse().unwrap(),
    ];
    assert_eq!(options.connection.dns_servers, servers);
    assert!(matches!(
        &*options.connection.no_proxy,
        [NoProxy::Host(_), NoProxy::Domain(_), NoProxy::Network(_)]
    ));
    assert_eq!(options.expect.expected_status.to_string(), "200,300-399");
    let patterns: Vec<_> = options
        .expect
        .body_matches
        .iter()
        .map(|pattern| pattern.as_str())
        .collect();
    assert_eq!(patterns, ["a, b", "c"]);
    assert_eq!(options.expect.expect_json.len(), 1);
    assert_eq!(options.expect.limits.total.unwrap().as_millis(), 800);
}

#[test]
fn a_wrong_flag_is_told_by_its_name() {
    let told = from_flags(&[
        ("url", &["a.example"]),
        ("retries", &["many"]),
        ("header", &["no colon"]),
        ("limits", &["800ms"]),
    ])
    .unwrap_err();
    for words in [
        "command line: URL: found \"a.example\"; expected an http:// or https:// URL; did you mean https://a.example?",
        "command line: --retries: found \"many\"; expected a whole number from 0 to 10",
        "command line: --header: found a text without `:`; expected NAME: VALUE",
        "command line: --limits: found a part without `=`; expected NAME=VALUE, with commas between",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
}

#[test]
fn a_url_may_refer_to_variables() {
    let settings = folder()
        .env("HOST", "api.example.org")
        .env("KEY", "CANARY")
        .file(
            "sitewatch.yaml",
            "sites:\n\
             - { url: 'https://${HOST}/a?all' }\n\
             - { url: 'https://me:${KEY}@${HOST}/b?key=${KEY}' }\n\
             - { name: c, url: 'https://${HOST}/c#${KEY}', hide_query: false }\n",
        )
        .load();
    let [plain, keyed, shown] = &*settings.sites else {
        panic!()
    };
    assert_eq!(&*plain.name, "https://api.example.org/a?all");
    assert!(!plain.options.request.hide_query);
    assert_eq!(keyed.url.as_str(), "https://api.example.org/b?key=CANARY");
    assert!(keyed.options.request.login.is_some());
    for told in [&*keyed.name, keyed.shown_url().as_str()] {
        assert_eq!(told, "https://api.example.org/b?***");
    }
    assert_eq!(
        shown.shown_url().as_str(),
        "https://api.example.org/c#CANARY"
    );
}

#[test]
fn a_variable_in_a_url_that_is_wrong_shows_no_value() {
    for (url, words) in [
        (
            "https://${WRONG}/",
            "found \"https://${WRONG}/\"; expected an http:// or https:// URL",
        ),
        ("https://${MISSING}/", "found ${MISSING}, which is not set"),
        (
            "https://$${HOST}/",
            "expected an http:// or https:// URL without `${`",
        ),
    ] {
        let told = folder()
            .env("WRONG", "CANARY is no host")
            .file("sitewatch.yaml", &format!("sites: [{{ url: '{url}' }}]"))
            .load_for(Role::Producer)
            .unwrap_err()
            .to_string();
        assert!(told.contains(words) && !told.contains("CANARY"), "{told}");
    }
}

#[test]
fn each_value_is_told_with_its_origin() {
    let folder = folder()
        .env("SITEWATCH__DEFAULTS__RETRIES", "3")
        .file("sitewatch.yaml", "defaults: { timeout: 3s }\ninclude: more.yaml")
        .file("more.yaml", "defaults: { interval: 7s }\nsites: [{ name: a, url: 'http://a/', method: HEAD, body: { a: 1 } }]");
    let Explanation { rows, .. } = explain_site(folder.sources(), "a").unwrap().unwrap();
    let row = |key: &str| {
        let row = rows.iter().find(|row| row.key == key).unwrap();
        (row.value.as_str(), row.origin.as_str())
    };
    assert_eq!(row("method"), ("HEAD", "more.yaml: sites[0] (a).method"));
    assert_eq!(
        row("json"),
        ("*** (7 bytes)", "more.yaml: sites[0] (a).body")
    );
    assert_eq!(row("interval"), ("7s", "more.yaml: defaults.interval"));
    assert_eq!(row("timeout"), ("3s", "sitewatch.yaml: defaults.timeout"));
    assert_eq!(
        row("retries"),
        ("3", "environment: SITEWATCH__DEFAULTS__RETRIES")
    );
    assert_eq!(row("max_redirects"), ("10", "built-in default"));
    assert!(explain_site(folder.sources(), "b").unwrap().is_none());
}

#[test]
fn what_a_request_cannot_carry_is_refused_when_it_is_read() {
    for (setting, words) in [
        ("bearer_token: 'gr\u{fc}n'", "not printable ASCII"),
        ("bearer_token: 'a b'", "or a space"),
        (
            "headers: { Expect: 100-continue }",
            "a header that follows from the body",
        ),
    ] {
        let settings = format!("sites: [{{ url: 'http://a/', {setting} }}]");
        let problems = folder().file("sitewatch.yaml", &settings).try_load();
        let told = problems.unwrap_err().to_string();
        assert!(told.contains(words), "{words}\n{told}");
    }
}
