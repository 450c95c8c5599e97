//! No command prints a secret, whatever it shows: each secret here contains the same word.

use std::fs;

use super::run::{Ran, program, run_with};
use crate::scripted::{Scripts, http};

const SECRET: &str = "CANARY";

/// A folder with a settings file that has every kind of secret, and the file of one.
fn folder(url: &str, token_url: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), format!("{SECRET}-file\n")).unwrap();
    let with_password = url.replacen("http://", &format!("http://me:{SECRET}-url@"), 1);
    let settings = format!(
        "defaults: {{ allow_private: true, capture_bytes: 1000, expected_status: 200 }}
sites:
  - {{ name: basic, url: '{url}', basic_auth: {{ username: me, password: {SECRET}-basic }} }}
  - {{ name: bearer, url: '{url}', bearer_token: 'file:secret' }}
  - {{ name: variable, url: '{url}', bearer_token: '${{TOKEN}}' }}
  - {{ name: header, url: '{url}', headers: {{ authorization: {SECRET}-header, x-api-key: '${{TOKEN}}', cookie: 'a={SECRET}-cookie' }} }}
  - {{ name: body, url: '{url}', method: POST, form: {{ password: '${{TOKEN}}' }} }}
  - {{ name: oauth2, url: '{url}', oauth2: {{ token_url: '{token_url}', client_id: me, client_secret: {SECRET}-client }} }}
  - {{ name: user, url: '{with_password}' }}
  - {{ name: proxied, url: '{url}', proxy: 'http://me:{SECRET}-proxy@127.0.0.1:9' }}
"
    );
    fs::write(folder.path().join("sitewatch.yaml"), settings).unwrap();
    folder
}

#[actix_rt::test]
async fn nothing_that_is_shown_has_a_secret_in_it() {
    let body = format!(r#"{{"access_token": "{SECRET}-token"}}"#);
    let tokens = Scripts::new()
        .path(
            "/refuses",
            http::answer(401, &[], format!("{SECRET}-client is wrong")),
        )
        .otherwise(http::answer(200, &[], body))
        .start();
    // Down, so that all is shown; the server's own secrets come back in its headers.
    let cookie = format!("session={SECRET}-set");
    let server = http::answer(500, &[("set-cookie", &cookie)], "broken").serve();
    for token_url in [tokens.url("/"), tokens.url("/refuses")] {
        let folder = folder(&server.url("/"), &token_url);
        for site in [
            "basic", "bearer", "variable", "header", "body", "oauth2", "user", "proxied",
        ] {
            let before = server.requests().len();
            for command in [
                &["check", "--site", site][..],
                &["check", "--json", "--site", site],
                &["validate", "--site", site],
            ] {
                let ran: Ran = program(folder.path(), command)
                    .env("TOKEN", format!("{SECRET}-env"))
                    .output()
                    .unwrap()
                    .into();
                let all = ran.out + &ran.err;
                assert!(!all.contains(SECRET), "{command:?}\n{all}");
                let code = i32::from(command[0] == "check");
                assert_eq!(ran.code, Some(code), "{command:?}\n{all}");
            }
            // The secret did travel: what is not sent would not be printed either.
            let is_sent = server.requests()[before..].iter().any(|request| {
                let body = String::from_utf8_lossy(&request.body);
                request.header("authorization").is_some() || body.contains(SECRET)
            });
            let cannot_be =
                site == "proxied" || (site == "oauth2" && token_url.ends_with("refuses"));
            assert_eq!(is_sent, !cannot_be, "{site}");
        }
    }
}

#[actix_rt::test]
async fn an_error_in_the_settings_shows_no_secret() {
    let server = http::ok("hi").serve();
    let url = server.url("/");
    for (setting, key) in [
        (format!("basic_auth: {SECRET}"), "basic_auth"),
        (
            format!("basic_auth: {{ username: me, pasword: {SECRET} }}"),
            "pasword",
        ),
        (format!("bearer_token: [{SECRET}]"), "bearer_token"),
        (format!("bearer_token: \"a\\n{SECRET}\""), "bearer_token"),
        (
            format!("headers: {{ authorization: \"a\\n{SECRET}\" }}"),
            "authorization",
        ),
        (format!("headers: {{ x-plain: '{SECRET}é' }}"), "x-plain"),
        (
            format!("headers: {{ x-plain: [a, '{SECRET}é'] }}"),
            "x-plain",
        ),
        (
            format!("expect_final_url: 'ftp://a/?{SECRET}'"),
            "expect_final_url",
        ),
        (format!("proxy: 'ftp://me:{SECRET}@a/'"), "proxy"),
        (
            format!("oauth2: {{ token_url: 'ftp://a/', client_id: a, client_secret: {SECRET} }}"),
            "token_url",
        ),
    ] {
        let settings = format!("sites: [{{ name: a, url: '{url}', {setting} }}]\n");
        let ran = run_with(&["validate"], &[("sitewatch.yaml", &settings)], &[])
            .complains(&[key])
            .ended(78);
        assert!(
            !ran.err.contains(SECRET) && !ran.out.contains(SECRET),
            "{}",
            ran.err
        );
    }
    for wrong in [
        "ftp://a/?key=CANARY",
        "a.example/?key=CANARY",
        "http://a:99999/?key=CANARY",
    ] {
        let settings = format!("sites: [{{ url: '{wrong}' }}]\n");
        let ran = run_with(&["validate"], &[("sitewatch.yaml", &settings)], &[])
            .complains(&["url"])
            .ended(78);
        assert!(!ran.err.contains(SECRET), "{}", ran.err);
        let ran = run_with(&["check", wrong], &[], &[]).ended(2);
        assert!(!ran.err.contains(SECRET), "{}", ran.err);
    }
    for (flag, text) in [
        ("--basic-auth", SECRET),
        ("--bearer-token", "a\nCANARY"),
        ("--header", "x-plain: CANARYé"),
        ("--proxy", "ftp://me:CANARY@a/"),
        (
            "--oauth2",
            "token_url=ftp://a/,client_id=a,client_secret=CANARY",
        ),
    ] {
        let ran = run_with(&["check", &url, flag, text], &[], &[])
            .ended(2)
            .complains(&[flag]);
        assert!(!ran.err.contains(SECRET), "{}", ran.err);
    }
}
