//! What is right: each expectation once held and once not, and all failures told.

use super::row::{self, Row, check_all, site, surroundings};
use crate::scripted::{Authority, Scripts, Tls, http};

#[actix_rt::test]
async fn each_expectation_holds_and_fails() {
    let authority = Authority::named("R11", "Let's Encrypt", "US");
    let secure = http::ok("hi").serve_tls(Tls::with(&authority.expires_in(5)).only_1_2());
    let ca = format!("tls: {{ ca: {:?} }}", authority.ca_file());
    let body = r#"{"status": "ok", "checks": [{"ms": 3}, {"ms": 700}], "version": "2.1"}"#;
    let json = http::answer(
        200,
        &[("content-type", "application/json"), ("x-a", "1")],
        body,
    )
    .serve();
    let moved = Scripts::new()
        .path("/moved", http::redirect("/end"))
        .otherwise(http::ok("hi"))
        .start();
    let mut rows = Vec::new();
    for (settings, result, words) in [
        ("expected_status: [2xx]", "up", ""),
        (
            "expected_status: [404, 500-599]",
            "status_mismatch",
            "status 200, expected 404,500-599",
        ),
        ("body_matches: [status, '\"ok\"']", "up", ""),
        (
            "body_matches: [status, nowhere]",
            "body_mismatch",
            "matches nowhere; the body begins with",
        ),
        ("body_must_not_match: [error, fatal]", "up", ""),
        (
            "body_must_not_match: [error, 'st.tus']",
            "body_forbidden_match",
            "matches st.tus at byte 2: \"status\"",
        ),
        (
            "expect_json: { $.status: { equals: ok }, '$.checks[0].ms': { less_than: 500 } }",
            "up",
            "",
        ),
        (
            "expect_json: { '$.checks[*].ms': { less_than: 500 } }",
            "body_mismatch",
            "$.checks[*].ms is 700; expected: less_than 500",
        ),
        (
            "expect_json: { $.error: { exists: false }, $.version: { matches: '^2' } }",
            "up",
            "",
        ),
        (
            "expect_json: { $.missing: { equals: 1 } }",
            "body_mismatch",
            "finds nothing",
        ),
        (
            "expect_headers: { content-type: { matches: json }, x-b: absent, x-a: { equals: 1 } }",
            "up",
            "",
        ),
        (
            "expect_headers: { x-a: absent }",
            "header_mismatch",
            "x-a: \"1\"; it must not be there",
        ),
        (
            "expect_headers: { x-b: present }",
            "header_mismatch",
            "the header x-b is absent",
        ),
        (
            "max_body_bytes: 10",
            "body_too_large",
            "larger than 10 bytes",
        ),
        ("limits: { total: 5s }", "up", ""),
    ] {
        rows.push(Row {
            name: settings,
            url: json.url("/"),
            settings: settings.to_owned(),
            result,
            words,
            fields: &[],
        });
    }
    let slow = http::phases(http::Phases {
        before_head: std::time::Duration::from_millis(200),
        ..http::Phases::default()
    })
    .serve();
    let end = format!("expect_final_url: '{}'", moved.url("/end"));
    let elsewhere = format!("expect_final_url: '{}'", moved.url("/elsewhere"));
    for (name, url, settings, result, words) in [
        (
            "slow",
            slow.url("/"),
            "limits: { ttfb: 100ms }".to_owned(),
            "too_slow",
            "ttfb took 2",
        ),
        ("ends where it should", moved.url("/moved"), end, "up", ""),
        (
            "ends elsewhere",
            moved.url("/moved"),
            elsewhere,
            "redirect_error",
            "redirects end at",
        ),
        (
            "long enough",
            secure.url("/"),
            format!("{ca}, min_cert_days: 4"),
            "up",
            "",
        ),
        (
            "too short",
            secure.url("/"),
            format!("{ca}, min_cert_days: 14"),
            "cert_expiring",
            "at least 14 days expected",
        ),
        (
            "new enough",
            secure.url("/"),
            format!("{ca}, min_tls_version: 1.2"),
            "up",
            "",
        ),
        (
            "too old",
            secure.url("/"),
            format!("{ca}, min_tls_version: 1.3"),
            "tls_error",
            "TLS 1.2, at least 1.3 expected",
        ),
        (
            "the right issuer",
            secure.url("/"),
            format!("{ca}, cert_issuer_matches: \"Let's Encrypt\""),
            "up",
            "",
        ),
        (
            "the wrong issuer",
            secure.url("/"),
            format!("{ca}, cert_issuer_matches: '^CN=R3'"),
            "cert_invalid",
            "does not match ^CN=R3",
        ),
    ] {
        rows.push(Row {
            name,
            url,
            settings,
            result,
            words,
            fields: &[],
        });
    }
    // What is captured from JSON is held beside the body while it is looked into.
    check_all(rows).await;
}

#[actix_rt::test]
async fn all_failures_are_told_and_the_first_decides() {
    let server = http::answer(503, &[], "Service Unavailable").serve();
    let around = surroundings();
    let site = site(
        &server.url("/"),
        "body_matches: welcome, body_must_not_match: Unavailable, expect_headers: { x-a: present }",
    );
    let result = row::check(&site, &around).await.result;
    let kinds: Vec<_> = result
        .failures
        .iter()
        .map(|fault| fault.error.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "status_mismatch",
            "header_mismatch",
            "body_mismatch",
            "body_forbidden_match",
        ]
    );
    assert_eq!(result.error.unwrap().as_str(), "status_mismatch");
    assert_eq!(result.body_match, Some(false));
}

#[actix_rt::test]
async fn a_json_value_that_is_not_as_expected_is_no_text_that_does_not_match() {
    let server = http::json(r#"{"status": "bad"}"#).serve();
    let settings = "body_matches: status, expect_json: { $.status: { equals: ok } }";
    let site = site(&server.url("/"), settings);
    let result = row::check(&site, &surroundings()).await.result;
    assert_eq!(result.error.unwrap().as_str(), "body_mismatch");
    assert_eq!(result.body_match, Some(true));
}
