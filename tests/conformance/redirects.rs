//! Redirects to another origin: the headers and bodies that go along, and the parts of URLs that are shown and stored.

use std::fs;

use sitewatch_actors::model::{CheckResult, ErrorKind};

use super::row::{self, site, surroundings};
use crate::scripted::{Scripts, Server, closed_port, http};

async fn check(url: &str, settings: &str) -> CheckResult {
    row::check(&site(url, settings), &surroundings())
        .await
        .result
}

/// Another origin that counts what comes.
fn elsewhere() -> Server {
    http::ok("hi").serve()
}

#[actix_rt::test]
async fn only_harmless_headers_go_to_another_origin() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "from-file\n").unwrap();
    let other = elsewhere();
    let own = http::redirect(&other.url("/there")).serve();
    let headers = format!(
        "accept: text/x, accept-language: de, cache-control: no-cache, user-agent: '${{TOKEN}}', accept-encoding: '', \
         x-auth: '${{TOKEN}}', x-api: 'file:{}', x-session-id: literal, referer: 'http://own.example/?secret', \
         origin: 'http://own.example', cookie: a=b",
        secret.display()
    );
    let result = check(&own.url("/"), &format!("headers: {{ {headers} }}")).await;
    assert_eq!(result.error, None, "{:?}", result.error_detail);
    let sent = own.requests().pop().unwrap();
    assert_eq!(sent.header("x-auth"), Some("from-env"));
    assert_eq!(sent.header("x-api"), Some("from-file"));
    assert_eq!(sent.header("user-agent"), Some("from-env"));
    let sent = other.requests().pop().unwrap();
    let mut names: Vec<&str> = sent
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split(':').next())
        .collect();
    names.retain(|name| {
        !matches!(
            *name,
            "" | "host" | "connection" | "date" | "content-length"
        )
    });
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept", "accept-language", "cache-control", "user-agent"],
        "{}",
        sent.head
    );
    assert_eq!(sent.header("accept"), Some("text/x"));
    // The node's own in the place of one that is a secret.
    assert_eq!(
        sent.header("user-agent"),
        Some(concat!("sitewatch-node/", env!("CARGO_PKG_VERSION")))
    );
}

#[actix_rt::test]
async fn what_was_left_out_does_not_come_back_with_the_redirect() {
    let place = closed_port();
    let other = http::redirect(&format!("http://{place}/back")).serve();
    let own = Scripts::new()
        .path("/back", http::ok("hi"))
        .otherwise(http::redirect(&other.url("/")))
        .at(place)
        .start();
    let result = check(
        &own.url("/"),
        "headers: { x-auth: '${TOKEN}' }, bearer_token: '${TOKEN}'",
    )
    .await;
    assert_eq!(result.error, None, "{:?}", result.error_detail);
    let sent = own.requests();
    let with = |n: usize| (sent[n].header("x-auth"), sent[n].header("authorization"));
    assert_eq!(sent.len(), 2);
    assert_eq!(with(0), (Some("from-env"), Some("Bearer from-env")));
    assert_eq!(with(1), (None, None));
}

#[actix_rt::test]
async fn a_body_that_holds_a_secret_is_not_sent_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    fs::write(&file, "a file").unwrap();
    for status in [307, 308] {
        for body in [
            "form: { user: me, password: '${TOKEN}' }".to_owned(),
            "form: { user: me, password: written }".to_owned(),
            "json: { deep: [{ anything: 'x${TOKEN}' }] }".to_owned(),
            "json: { deep: { api_key: written } }".to_owned(),
            "body: 'x${TOKEN}'".to_owned(),
            format!("body_file: '{}'", file.display()),
        ] {
            let other = elsewhere();
            let own = Scripts::new()
                .path(
                    "/",
                    http::redirect_by(status, &other.url("/there?code=CANARY")),
                )
                .path("/same", http::redirect_by(status, "/last"))
                .otherwise(http::ok("hi"))
                .start();
            let result = check(&own.url("/"), &format!("method: POST, {body}")).await;
            let detail = result.error_detail.unwrap_or_default();
            assert_eq!(
                result.error,
                Some(ErrorKind::RedirectError),
                "{body}: {detail}"
            );
            assert!(
                detail.contains("the body") && detail.contains("another origin"),
                "{detail}"
            );
            assert!(!detail.contains("CANARY"), "{detail}");
            assert!(other.requests().is_empty(), "{body}");
            // The same origin may have it again.
            let result = check(&own.url("/same"), &format!("method: POST, {body}")).await;
            assert_eq!(result.error, None, "{body}: {:?}", result.error_detail);
            assert!(!own.requests().pop().unwrap().body.is_empty(), "{body}");
        }
        let other = elsewhere();
        let own = http::redirect_by(status, &other.url("/there")).serve();
        let result = check(
            &own.url("/"),
            "method: POST, body: '<ping/>', headers: { content-type: text/xml }",
        )
        .await;
        assert_eq!(result.error, None, "{:?}", result.error_detail);
        let sent = other.requests().pop().unwrap();
        assert_eq!(
            (sent.body.as_slice(), sent.header("content-type")),
            (&b"<ping/>"[..], Some("text/xml"))
        );
    }
    // A redirect that drops the body may be followed.
    let other = elsewhere();
    let own = http::redirect_by(303, &other.url("/there")).serve();
    let result = check(
        &own.url("/"),
        "method: POST, form: { password: '${TOKEN}' }",
    )
    .await;
    assert_eq!(result.error, None, "{:?}", result.error_detail);
    assert!(other.requests().pop().unwrap().body.is_empty());
}

#[actix_rt::test]
async fn what_another_origin_says_in_a_url_is_not_shown() {
    let other = Scripts::new()
        .path(
            "/login",
            http::redirect("/end?state=CANARY#access_token=CANARY"),
        )
        .path("/odd", http::redirect("ftp://odd.example/?CANARY"))
        .path("/round", http::redirect("/round?CANARY"))
        .otherwise(http::ok("hi"))
        .start();
    for (place, settings, error) in [
        ("/login?code=CANARY", "", None),
        (
            "/login?code=CANARY",
            "expect_final_url: 'http://elsewhere.example/'",
            Some(ErrorKind::RedirectError),
        ),
        ("/odd", "", Some(ErrorKind::RedirectError)),
        ("/round", "max_redirects: 3", Some(ErrorKind::RedirectError)),
    ] {
        let own = Scripts::new()
            .path("/", http::redirect("/next?own=shown"))
            .otherwise(http::redirect(&other.url(place)))
            .start();
        let result = check(&own.url("/?own=shown"), settings).await;
        assert_eq!(result.error, error, "{place}: {:?}", result.error_detail);
        let message = serde_json::to_string(&result).unwrap();
        assert!(!message.contains("CANARY"), "{place}: {message}");
        assert!(
            result
                .hops
                .iter()
                .take(2)
                .all(|hop| hop.url.ends_with("own=shown")),
            "{message}"
        );
    }
    let own = http::redirect(&other.url("/login?code=CANARY")).serve();
    let last = check(&own.url("/"), "").await.final_url.unwrap();
    assert!(last.ends_with("/end?***#***"), "{last}");
}

#[actix_rt::test]
async fn hide_query_hides_it_everywhere() {
    let own = Scripts::new()
        .path("/moved", http::redirect("/last?token=CANARY#CANARY"))
        .path("/odd", http::redirect("ftp://odd.example/?CANARY"))
        .otherwise(http::status(500))
        .start();
    for place in ["/moved", "/odd", "/"] {
        let url = own.url(&format!("{place}?api_key=CANARY"));
        let settings = "hide_query: true, expect_final_url: 'http://elsewhere.example/?CANARY'";
        let message = serde_json::to_string(&check(&url, settings).await).unwrap();
        assert!(!message.contains("CANARY"), "{message}");
        assert!(message.contains(&format!("{place}?***")), "{message}");
    }
    // What is sent is the whole.
    assert!(
        own.requests()
            .iter()
            .any(|request| request.target() == "/last?token=CANARY")
    );
}

#[actix_rt::test]
async fn allow_private_does_not_lead_to_the_metadata_of_a_cloud() {
    for place in [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "[fd00:ec2::254]",
        "[fe80::a9fe:a9fe]",
    ] {
        let url = format!("http://{place}/latest/meta-data/");
        let own = http::redirect(&url).serve();
        for first in [own.url("/"), url.clone()] {
            let result = check(&first, "allow_private: true").await;
            let detail = result.error_detail.unwrap_or_default();
            assert_eq!(
                result.error,
                Some(ErrorKind::BlockedAddress),
                "{first} to {place}: {detail}"
            );
            assert!(detail.contains("allow_networks"), "{detail}");
        }
    }
    let named = check("http://169.254.1.1/", "allow_networks: [169.254.0.0/16]").await;
    assert_ne!(
        named.error,
        Some(ErrorKind::BlockedAddress),
        "{:?}",
        named.error_detail
    );
}
