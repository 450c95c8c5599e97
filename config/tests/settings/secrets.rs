//! No secret is printed: not by `Debug`, not in a problem.

use crate::support::folder;
use sitewatch_config::{Login, Sasl, Secret, Site};

const CANARY: &str = "CANARY";

const ALL_SECRETS: &str = r#"
kafka:
  sasl: { mechanism: PLAIN, username: me, password: CANARY }
  options: { ssl.key.password: CANARY, ssl.keystore.password: CANARY, sasl.jaas.config: CANARY }
postgres: { url: 'postgres://u:CANARY@h/db?password=CANARY' }
defaults: { headers: { Authorization: Bearer CANARY } }
sites:
  - url: https://user:CANARY@example.org/
    headers: { Cookie: CANARY, X-Plain: CANARY }
    body: CANARY
  - url: https://CANARY@example.com/
    body: { password: CANARY }
"#;

#[test]
fn debug_prints_no_secret() {
    let folder = folder()
        .file("sitewatch.yaml", ALL_SECRETS)
        .env("SITEWATCH__KAFKA__SASL__PASSWORD", CANARY);
    let settings = folder.load();
    for text in [
        format!("{settings:?}"),
        format!("{settings:#?}"),
        format!("{:?}", folder.sources()),
    ] {
        assert!(!text.contains(CANARY), "{text}");
    }
    assert!(
        !settings
            .postgres
            .url
            .as_ref()
            .unwrap()
            .to_string()
            .contains(CANARY)
    );
    assert!(
        settings
            .postgres
            .url
            .as_ref()
            .unwrap()
            .connection_url()
            .contains(CANARY)
    );
    assert!(
        matches!(&settings.kafka.sasl, Some(Sasl::Password { password, .. }) if password.reveal() == CANARY)
    );
    assert_eq!(
        settings.sites[0].options.request.login,
        Some(Login::BasicAuth {
            username: Secret::new("user"),
            password: Secret::new(CANARY)
        })
    );
}

#[test]
fn the_name_of_a_site_has_no_user_info() {
    let settings = folder().file("sitewatch.yaml", ALL_SECRETS).load();
    let names: Vec<_> = settings.sites.iter().map(|site| &*site.name).collect();
    assert_eq!(names, ["https://example.org/", "https://example.com/"]);
}

#[test]
fn a_secret_prints_as_stars() {
    let secret = Secret::new(CANARY);
    assert_eq!(
        (format!("{secret}"), format!("{secret:?}")),
        ("***".to_owned(), "***".to_owned())
    );
    assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
}

/// Each secret, spoilt in each way that a person might spoil it.
#[test]
fn problems_tell_no_secret() {
    let mistakes = [
        "kafka: { sasl: CANARY }",
        "kafka: { sasl: [CANARY] }",
        "kafka: { sasl: { password: [CANARY] } }",
        "kafka: { sasl: { password: { CANARY: CANARY } } }",
        "kafka: { options: CANARY }",
        "kafka: { options: { sasl.password: [CANARY] } }",
        "postgres: CANARY",
        "postgres: { url: 'postgres://u:CANARY@' }",
        "postgres: { url: 'u:CANARY@h/db' }",
        "postgres: { url: 'postgres://u:CAN@CANARY@h:x/db' }",
        "postgres: { url: 'postgres://u:a#CANARY@h/db' }",
        "postgres: { url: 'postgres://u:1#CANARY@h/db' }",
        "postgres: { url: 'postgres://u:1/CANARY@h/db' }",
        "postgres: { url: 'postgres://u:1?CANARY=1@h/db' }",
        "postgres: { url: 'postgres://h/db?password=CANARY&sslmode=no' }",
        "postgres: { url: \"host=h password = 'a CANARY'\" }",
        "postgres: { url: ['CANARY'] }",
        "defaults: { headers: CANARY }",
        "defaults: { headers: { Authorization: \"CANARY\\n\" , X-Token: \"CANARY\\u0007\", cookie: ['CANARY'] } }",
        "sites: CANARY",
        "sites: [CANARY]",
        "sites: [{ url: 'http://u:CANARY@' }]",
        "sites: [{ url: 'u:CANARY@example.org' }]",
        "sites: [{ url: '//u:CANARY@example.org' }]",
        "sites: [{ url: 'ftp://u:CANARY@example.org' }]",
        "sites: [{ url: 'http://u:a/CANARY@example.org' }]",
        "sites: [{ url: 'https://u:CANARY@example.org/' }, { url: 'https://u:CANARY@example.org/' }]",
        "sites: [{ url: 'https://u:CANARY@example.org:x/' }]",
        "CANARY",
        "'CANARY",
        "[CANARY]",
        "kafka:\n  sasl:\n    password: 'CANARY\n",
        "kafka: { sasl: { password: CANARY",
    ];
    for mistake in mistakes {
        if let Err(problems) = folder().file("sitewatch.yaml", mistake).try_load() {
            let text = problems.to_string();
            assert!(!text.contains(CANARY), "{mistake}\n{text}");
        }
    }
    let toml = "[kafka.sasl]\npassword = \"CANARY\n";
    assert!(!folder().file("sitewatch.toml", toml).problems()[0].contains(CANARY));
    let json = r#"{"kafka": {"sasl": {"password": "CANARY" "x"}}}"#;
    assert!(!folder().file("sitewatch.json", json).problems()[0].contains(CANARY));
    for url in [
        "u:CANARY@example.org",
        "https://u:CANARY@",
        "ftp://u:CANARY@example.org",
    ] {
        assert!(!folder().site(url).problems()[0].contains(CANARY));
    }
    for name in [
        "SITEWATCH__KAFKA__SASL",
        "SITEWATCH__POSTGRES__URL",
        "SITEWATCH__CANARY",
        "POSTGRES_URL",
    ] {
        let problems = folder().env(name, "postgres:CANARY@h").problems();
        assert!(!problems[0].contains("CANARY@"), "{problems:?}");
    }
}

#[test]
fn a_site_for_tests_is_complete() {
    let site = Site::for_testing("http://127.0.0.1:8080/");
    assert!(
        site.options.connection.guard.allow_private
            && site.options.expect.expected_status.contains(204)
    );
}

/// Redirects to another origin depend on it.
#[test]
fn what_a_reference_or_the_environment_led_to_is_known() {
    let settings = folder()
        .file("key", "from-file")
        .file(
            "sitewatch.yaml",
            "defaults: { headers: { accept: text/html } }\n\
             sites:\n\
             - { url: 'http://a/', headers: { x-b: '${TOKEN}', x-c: 'file:key', x-d: [written, 'x${TOKEN}'] } }\n\
             - { url: 'http://b/', body: 'a ${TOKEN}' }\n\
             - { url: 'http://c/', form: { a: '${TOKEN}' } }\n\
             - { url: 'http://d/', json: { list: [{ passwd: x }] } }\n\
             - { url: 'http://e/', body_file: key }\n\
             - { url: 'http://f/', form: { a: 1 } }\n\
             - { url: 'http://g/', body: { a: '$${TOKEN}' } }\n",
        )
        .env("TOKEN", "t")
        .env("SITEWATCH__DEFAULTS__HEADERS__USER_AGENT", "mine")
        .load();
    let headers = settings.sites[0].options.request.headers.iter();
    let mut known: Vec<(&str, bool)> = headers
        .map(|(name, value)| (name.as_str(), value.is_referenced()))
        .collect();
    known.sort_unstable();
    assert_eq!(
        known,
        [
            ("accept", false),
            ("user-agent", true),
            ("x-b", true),
            ("x-c", true),
            ("x-d", false),
            ("x-d", true)
        ]
    );
    let private = settings.sites[1..].iter().map(|site| {
        let body = site.options.request.body.as_ref();
        body.unwrap().is_private
    });
    assert_eq!(
        private.collect::<Vec<_>>(),
        [true, true, true, true, false, false]
    );
}

#[test]
fn a_hidden_query_is_in_no_name_and_no_text() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "defaults: { hide_query: true }\n\
             sites: [{ url: 'https://a/b?key=CANARY#CANARY', expect_final_url: 'https://c/?CANARY' }]\n",
        )
        .site("https://d/?key=CANARY")
        .load();
    let names: Vec<&str> = settings.sites.iter().map(|site| &*site.name).collect();
    assert_eq!(names, ["https://a/b?***#***", "https://d/?***"]);
    assert_eq!(
        settings.sites[0].url.as_str(),
        "https://a/b?key=CANARY#CANARY"
    );
    assert_eq!(
        settings.sites[0].shown_url().as_str(),
        "https://a/b?***#***"
    );
    let explained = sitewatch_config::explain_site(
        folder()
            .file(
                "sitewatch.yaml",
                "sites: [{ name: a, url: 'https://a/?CANARY', hide_query: true, expect_final_url: 'https://c/?CANARY' }]\n",
            )
            .sources(),
        "a",
    );
    let shown = format!("{:?}", explained.unwrap().unwrap().rows);
    assert!(
        shown.contains("https://c/?***") && !shown.contains(CANARY),
        "{shown}"
    );
    // Who turns it on does not change what is checked: a key in the URL has no part in the hash.
    let hash = |key: &str| {
        let text = format!("sites: [{{ name: a, url: 'https://a/?{key}', hide_query: true }}]\n");
        let settings = folder().file("sitewatch.yaml", &text).load();
        settings.sites[0].config_hash()
    };
    assert_eq!(hash("one"), hash("two"));
}
