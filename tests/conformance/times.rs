//! Times: each phase is what the server took for it, also where the check fails, and the whole is what curl says.

use std::{cell::RefCell, collections::BTreeSet, process::Command, time::Duration};

use sitewatch_actors::model::{CheckResult, Phases};

use super::row::{self, site, surroundings};
use crate::scripted::{Authority, MS, Scripts, Tls, dns, http};

async fn check(url: &str, settings: &str) -> CheckResult {
    row::check(&site(url, settings), &surroundings())
        .await
        .result
}

/// Asks up to ten times until one try is right: a machine that is busy may take its time at any moment.
async fn some_time<T>(mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut wrong = Vec::new();
    for _ in 0..10 {
        match ask().await {
            Ok(right) => return right,
            Err(told) => wrong.push(told),
        }
    }
    panic!("never right:\n{}", wrong.join("\n"));
}

/// Within 1 ms or 1 % of what the server took.
fn close(name: &str, took_us: Option<u32>, set: Duration) -> Result<(), String> {
    let took_us = took_us.unwrap_or_else(|| panic!("{name} is absent"));
    let (took, set) = (f64::from(took_us) / 1000.0, set.as_secs_f64() * 1000.0);
    if (took - set).abs() <= f64::max(1.0, set / 100.0) {
        return Ok(());
    }
    Err(format!("{name} is {took} ms, not {set} ms"))
}

#[actix_rt::test]
async fn each_phase_is_what_the_server_took() {
    let authority = Authority::new();
    let set = http::Phases {
        before_tls: 300 * MS,
        before_head: 300 * MS,
        before_body: 150 * MS,
        body_time: 250 * MS,
    };
    let server = http::phases(set).serve_tls(Tls::with(&authority.good()));
    let zone = dns::Zone::new()
        .name("late.test", dns::addresses(&["127.0.0.1"]).after(400 * MS))
        .start();
    let url = server.url_for("late.test", "/");
    let settings = format!(
        "timeout: 5s, dns_servers: ['{}'], tls: {{ ca: {:?}, server_name: localhost }}",
        zone.address(),
        authority.ca_file()
    );
    // The handshake itself takes a while too: what it takes without the delay.
    let bare = http::ok("hi").serve_tls(Tls::with(&authority.good()));
    let right = RefCell::new(BTreeSet::new());
    let phases = some_time(async || {
        let bare = check(&bare.url("/"), &settings).await.phases;
        let result = check(&url, &settings).await;
        assert_eq!(result.error, None, "{:?}", result.error_detail);
        let Phases {
            dns_us,
            tls_us,
            ttfb_us,
            body_us,
            ..
        } = result.phases;
        let tls_delay = tls_us
            .zip(bare.tls_us)
            .map(|(slow, bare)| slow.saturating_sub(bare));
        // On a busy machine seldom all of them are right at once: one that is late takes from the next.
        let mut right = right.borrow_mut();
        let body_time = set.before_body + set.body_time;
        let mut wrong = String::new();
        for (name, took_us, wanted) in [
            ("dns", dns_us, 400 * MS),
            ("tls", tls_delay, set.before_tls),
            ("ttfb", ttfb_us, set.before_head),
            ("body", body_us, body_time),
        ] {
            match close(name, took_us, wanted) {
                Ok(()) => _ = right.insert(name),
                Err(told) if !right.contains(name) => wrong += &format!("{told}; "),
                Err(_) => {}
            }
        }
        if wrong.is_empty() {
            Ok(result.phases)
        } else {
            Err(wrong)
        }
    })
    .await;
    let parts = [
        phases.dns_us,
        phases.connect_us,
        phases.tls_us,
        phases.ttfb_us,
        phases.body_us,
    ];
    let sum: u32 = parts.into_iter().flatten().sum();
    assert!(
        phases.total_us.unwrap().abs_diff(sum) < 1_000,
        "no time is lost between the phases: {phases:?}"
    );
}

#[actix_rt::test]
async fn a_timeout_has_the_time_of_the_phase_that_it_cut_off() {
    let server = http::phases(http::Phases {
        before_head: 2000 * MS,
        ..http::Phases::default()
    })
    .serve();
    some_time(async || {
        let result = check(&server.url("/"), "timeout: 250ms").await;
        assert_eq!(result.error.unwrap().as_str(), "ttfb_timeout");
        assert_eq!(
            (result.phases.body_us, result.reached.unwrap().as_str()),
            (None, "ttfb")
        );
        close("total", result.phases.total_us, 250 * MS)?;
        let before = result.phases.connect_us.unwrap_or_default();
        close(
            "ttfb",
            result.phases.ttfb_us.map(|ttfb| ttfb + before),
            250 * MS,
        )
    })
    .await;
}

#[actix_rt::test]
async fn the_whole_is_what_curl_says() {
    let set = http::Phases {
        before_head: 120 * MS,
        before_body: 40 * MS,
        body_time: 60 * MS,
        ..http::Phases::default()
    };
    let server = http::phases(set).serve();
    let url = server.url("/");
    let curl = || {
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{time_total}", &url])
            .output()
            .ok()?;
        String::from_utf8_lossy(&output.stdout)
            .parse::<f64>()
            .ok()
            .map(Duration::from_secs_f64)
    };
    if curl().is_none() {
        println!("curl is not installed: not compared");
        return;
    }
    // The quickest of some: a busy machine may hold up either.
    let (mut ours, mut told) = (u32::MAX, Duration::MAX);
    some_time(async || {
        ours = ours.min(check(&url, "timeout: 5s").await.phases.total_us.unwrap());
        told = told.min(curl().unwrap());
        close("total", Some(ours), told)
    })
    .await;
}

#[actix_rt::test]
async fn each_attempt_and_each_hop_has_its_times() {
    let (server, result) = some_time(async || {
        let server = Scripts::new()
            .connection(
                1,
                http::phases(http::Phases {
                    before_head: 2000 * MS,
                    ..http::Phases::default()
                }),
            )
            .path("/start", http::redirect("/end"))
            .otherwise(http::ok("hi"))
            .start();
        let url = server.url("/start");
        let settings = "retries: 2, retry_delay: 10ms, timeout: 200ms";
        let result = check(&url, settings).await;
        let [failed] = &*result.failed_attempts else {
            return Err(format!("{:?}", result.failed_attempts));
        };
        let (phases, end) = (&failed.phases, failed.fault.error.as_str());
        let is_right = (end, failed.reached.as_str()) == ("ttfb_timeout", "ttfb")
            && phases.ttfb_us > Some(150_000)
            && phases.total_us < Some(260_000);
        if is_right {
            Ok((server, result))
        } else {
            Err(format!("{end}: {phases:?}"))
        }
    })
    .await;
    assert_eq!((result.error, result.attempts), (None, 2));
    let [hop] = &*result.hops else {
        panic!("{:?}", result.hops)
    };
    assert_eq!(
        (hop.status, hop.url.as_str()),
        (Some(302), server.url("/start").as_str())
    );
    assert!(hop.phases.ttfb_us.is_some() && hop.phases.total_us.is_some());

    let never = http::status(500).serve();
    let result = check(&never.url("/"), "retries: 2, retry_delay: 0s").await;
    assert_eq!(
        (result.attempts, result.failed_attempts.len(), result.status),
        (3, 2, Some(500))
    );
    assert_eq!(never.connections(), 3);
}
