//! What a site's settings mean.

use std::sync::Arc;
use std::time::Duration;

use crate::support::folder;
use sitewatch_config::{BodyForm, Site, diff_sites};

#[test]
fn a_site_needs_nothing_but_a_url() {
    let settings = folder()
        .file("sitewatch.yaml", "sites: [{ url: 'https://example.org' }]")
        .load();
    let site = &settings.sites[0];
    assert_eq!(
        (&*site.name, site.url.as_str()),
        ("https://example.org", "https://example.org/")
    );
    let schedule = &site.options.schedule;
    assert_eq!(
        (schedule.interval, schedule.timeout),
        (Duration::from_secs(60), Duration::from_secs(10))
    );
    let (request, expect) = (&site.options.request, &site.options.expect);
    assert_eq!((request.method.as_str(), request.headers.len()), ("GET", 0));
    assert!(request.body.is_none() && !expect.look_into_body());
    assert_eq!(expect.expected_status.to_string(), "200-299");
    assert!(!site.options.connection.guard.allow_private && request.follow_redirects);
    assert_eq!(
        (request.max_redirects, expect.max_body_bytes),
        (10, 1_048_576)
    );
}

#[test]
fn a_site_overrides_the_defaults() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "
defaults:
  { interval: 5s, timeout: 1s, method: head, headers: { A: 1, B: 2, C: 3 }, expected_status: 204, allow_private: true,
    follow_redirects: false, max_redirects: 1, max_body_bytes: 10 }
sites:
  - url: https://example.org/1
  - url: https://example.org/2
    timeout: 10s
    method: propfind
    headers: { b: two, C: ~, D: 1.0 }
    expected_status: 3xx
    allow_private: false
",
        )
        .load();
    let [one, two] = &*settings.sites else {
        panic!()
    };
    assert_eq!(
        (one.options.schedule.interval, one.options.schedule.timeout),
        (Duration::from_secs(5), Duration::from_secs(1))
    );
    assert_eq!(
        (
            one.options.request.method.as_str(),
            one.options.expect.expected_status.to_string().as_str()
        ),
        ("HEAD", "204")
    );
    assert!(one.options.connection.guard.allow_private && !one.options.request.follow_redirects);
    assert_eq!(
        (
            one.options.request.max_redirects,
            one.options.expect.max_body_bytes
        ),
        (1, 10)
    );

    assert_eq!(
        (two.options.schedule.interval, two.options.schedule.timeout),
        (Duration::from_secs(5), Duration::from_secs(10))
    );
    assert_eq!(two.options.request.method, "PROPFIND");
    let headers: Vec<_> = two
        .options
        .request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.reveal()))
        .collect();
    assert_eq!(headers, ["A: 1", "b: two", "D: 1.0"]);
    assert!(
        two.options.expect.expected_status.contains(304)
            && !two.options.expect.expected_status.contains(204)
    );
    assert!(!two.options.connection.guard.allow_private);
}

#[test]
fn a_body_is_text_or_json() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "sites:\n- { url: 'http://a/', body: 'a: b' }\n- { url: 'http://b/', body: [1, a] }",
        )
        .load();
    let body = |n: usize| settings.sites[n].options.request.body.clone().unwrap();
    assert_eq!(
        (body(0).bytes.as_slice(), body(0).form),
        (b"a: b".as_slice(), BodyForm::Text)
    );
    assert_eq!(
        (body(1).bytes.as_slice(), body(1).form),
        (br#"[1,"a"]"#.as_slice(), BodyForm::Json)
    );
}

/// If this fails, every node announces every site anew after an upgrade: it must be on purpose.
#[test]
fn the_hash_stays_the_same_from_release_to_release() {
    assert_eq!(
        Site::for_testing("https://example.org/").config_hash(),
        "199353c754ab8f82"
    );
}

#[test]
fn the_hash_changes_with_each_setting_and_tells_nothing_of_secrets() {
    let settings =
        |line: &str| format!("sites: [{{ name: a, url: 'https://example.org/', {line} }}]");
    let hash = |line: &str| {
        folder()
            .file("sitewatch.yaml", &settings(line))
            .load()
            .sites[0]
            .config_hash()
    };
    let lines = [
        "",
        "interval: 7s",
        "cron: '* * * * * UTC'",
        "timeout: 7s",
        "retries: 1",
        "retry_delay: 2s",
        "resolve: each",
        "method: PUT",
        "headers: { a: b }",
        "body: x",
        "json: 1",
        "form: { a: b }",
        "basic_auth: { username: a, password: b }",
        "bearer_token: a",
        "http_version: 2",
        "keep_alive: true",
        "follow_redirects: false",
        "max_redirects: 3",
        "ip_version: 4",
        "dns_servers: [9.9.9.9]",
        "source_address: 127.0.0.1",
        "proxy: 'http://p:1'",
        "no_proxy: [a]",
        "tls: { server_name: a }",
        "tls: { insecure_skip_verify: true }",
        "allow_private: true",
        "allow_networks: [10.0.0.0/8]",
        "deny_networks: [10.0.0.0/8]",
        "expected_status: 200",
        "body_matches: a",
        "body_must_not_match: a",
        "expect_json: { $.a: { equals: 1 } }",
        "expect_headers: { a: present }",
        "expect_final_url: 'http://a/'",
        "min_cert_days: 3",
        "min_tls_version: 1.3",
        "cert_issuer_matches: a",
        "max_body_bytes: 7",
        "limits: { total: 1s }",
        "capture_bytes: 1",
        "labels: { a: b }",
    ];
    let mut hashes: Vec<String> = lines.iter().map(|line| hash(line)).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), lines.len());
    // It travels in messages: a password must not be guessed from it.
    assert_eq!(hash("bearer_token: a"), hash("bearer_token: b"));
    assert_eq!(hash("headers: { a: b }"), hash("headers: { a: c }"));
}

#[test]
fn sites_that_say_the_same_share_it() {
    let text = "
sites:
- { url: 'http://a/', timeout: 3s, body_matches: x }
- { url: 'http://b/', timeout: 3s, body_matches: x }
- { url: 'http://c/' }
- { url: 'http://d/' }";
    let sites = folder().file("sitewatch.yaml", text).load().sites;
    assert!(Arc::ptr_eq(&sites[0].options, &sites[1].options));
    assert!(Arc::ptr_eq(&sites[2].options, &sites[3].options));
    assert!(!Arc::ptr_eq(&sites[0].options, &sites[2].options));
}

#[test]
fn loading_twice_changes_nothing() {
    let folder = folder().file("sitewatch.yaml", include_str!("../../demo.yaml"));
    let (old, new) = (folder.load().sites, folder.load().sites);
    let changes = diff_sites(&old, &new);
    assert_eq!(
        (
            changes.unchanged,
            changes.start.len(),
            changes.stop.len(),
            changes.replace.len()
        ),
        (10, 0, 0, 0)
    );
}

#[test]
fn ten_thousand_sites_load_and_weigh_little() {
    let mut text = String::from("defaults: { headers: { User-Agent: sitewatch } }\nsites:\n");
    for n in 0..10_000 {
        text +=
            &format!("  - {{ url: 'https://host-{n}.example.org/path', body_matches: 'ok' }}\n");
    }
    let settings = folder().file("sitewatch.yaml", &text).load();
    assert_eq!(settings.sites.len(), 10_000);
    assert!(size_of::<Site>() <= 128, "{}", size_of::<Site>());
}
