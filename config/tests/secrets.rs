//! No secret is printed: not by `Debug`, not in a problem.

mod support;

use sitewatch_config::{Login, Sasl, Secret, Site};
use support::folder;

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
