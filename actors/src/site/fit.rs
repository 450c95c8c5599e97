//! Cuts what a site made long or large to what its message may hold: a result that becomes a dead letter is lost to its site.

use crate::model::{CheckResult, Phases};

/// The most of each, as the schema of the message has it: a test compares them.
const LATENESS_US: i64 = 2_147_483_647_000;
const PHASE_US: u32 = i32::MAX.unsigned_abs();
const FAILURES: usize = 64;
const REFUSED: usize = 64;
const REFUSED_TEXT: usize = 512;
const ISSUER: usize = 4096;
const HEADERS: usize = 1024;
const HEADER_TEXT: usize = 16_384;

/// Cuts it. What names the check (site, URL, location, slot) and the labels are bounded where the settings are read, URLs of redirects
/// where these are followed, and details where they are worded.
pub(super) fn fit(result: &mut CheckResult) {
    result.lateness_us = result.lateness_us.clamp(-LATENESS_US, LATENESS_US);
    fit_phases(&mut result.phases);
    for hop in &mut result.hops {
        fit_phases(&mut hop.phases);
    }
    for attempt in &mut result.failed_attempts {
        fit_phases(&mut attempt.phases);
    }
    result.failures.truncate(FAILURES);
    result.refused.truncate(REFUSED);
    for text in &mut result.refused {
        cut(text, REFUSED_TEXT);
    }
    if let Some(issuer) = &mut result.cert_issuer {
        cut(issuer, ISSUER);
    }
    if let Some(capture) = &mut result.capture {
        capture.headers.truncate(HEADERS);
        for (name, value) in &mut capture.headers {
            cut(name, HEADER_TEXT);
            cut(value, HEADER_TEXT);
        }
    }
}

fn fit_phases(phases: &mut Phases) {
    for phase in [
        &mut phases.dns_us,
        &mut phases.connect_us,
        &mut phases.tls_us,
        &mut phases.ttfb_us,
        &mut phases.body_us,
        &mut phases.total_us,
    ] {
        *phase = phase.map(|us| us.min(PHASE_US));
    }
}

/// Cuts a text to so many characters.
fn cut(text: &mut String, most: usize) {
    if text.len() > most
        && let Some((end, _)) = text.char_indices().nth(most)
    {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr, rc::Rc, time::Duration};

    use proptest::prelude::*;
    use sitewatch_config::{AboutOptions, Cron, Site, SiteOptions, Sla, TlsVersion, Url};

    use super::*;
    use crate::{
        metrics::Metrics,
        model::{Decoder, ErrorKind, Hop, Reached, Slot},
        site::{
            announce,
            attempt::{Attempt, Certificate, Failure, TlsFacts},
            schedule::Schedule,
            surroundings::Surroundings,
            trial::{self, Trial},
            verdict,
        },
    };

    const NOW: i64 = 1_700_000_000_000_000;

    fn validator(schema: &str) -> jsonschema::Validator {
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        jsonschema::draft202012::options().build(&schema).unwrap()
    }

    fn around() -> Surroundings {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        Surroundings::new("l".repeat(255), (1, 1), Metrics::new().unwrap(), log)
    }

    /// As long as the settings take it: names, URL, labels, words, times.
    fn largest_site(options: SiteOptions) -> Site {
        let name = "n".repeat(472);
        let url = format!("http://a/?{}", "é".repeat(681));
        Site::of(&name, Url::parse(&url).unwrap(), options)
    }

    fn largest_options() -> SiteOptions {
        let longest = Duration::from_secs(30 * 60);
        let mut options = SiteOptions {
            about: AboutOptions {
                group: Some("g".repeat(128)),
                tags: (0..32).map(|n| format!("{n:0128}")).collect(),
                sla: Some(Sla {
                    target_ppm: 999_999,
                    window: Duration::from_secs(366 * 86_400),
                }),
            },
            labels: (0..256)
                .map(|n| (format!("{n:064}"), "\u{1}".repeat(256)))
                .collect(),
            capture_bytes: 65_536,
            ..SiteOptions::default()
        };
        options.schedule.timeout = longest;
        options.schedule.retries = 10;
        options.schedule.retry_delay = longest;
        options.schedule.resolve = sitewatch_config::Resolve::Each;
        options.schedule.interval = Duration::from_secs(86_400);
        options.incident.failure_threshold = 30;
        options.incident.success_threshold = 30;
        options.incident.flap_window = Duration::from_secs(86_400);
        options
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            (any::<char>(), 0..70_000_usize).prop_map(|(c, n)| c.to_string().repeat(n))
        ]
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            (any::<u8>(), 0..70_000_usize).prop_map(|(byte, n)| vec![byte; n])
        ]
    }

    fn phases() -> impl Strategy<Value = Phases> {
        let us = || prop::option::of(prop_oneof![any::<u32>(), Just(u32::MAX)]);
        (us(), us(), us(), us(), us(), us()).prop_map(
            |(dns_us, connect_us, tls_us, ttfb_us, body_us, total_us)| Phases {
                dns_us,
                connect_us,
                tls_us,
                ttfb_us,
                body_us,
                total_us,
            },
        )
    }

    fn attempts() -> impl Strategy<Value = Attempt> {
        let address = || prop::option::of(any::<IpAddr>());
        let hop = (phases(), prop::option::of(100..=999_u16), address()).prop_map(
            |(phases, status, remote_ip)| Hop {
                url: format!("http://a/{}", "x".repeat(4087)),
                status,
                remote_ip,
                phases,
            },
        );
        let certificate = (text(), any::<i64>()).prop_map(|(issuer, not_after)| {
            Rc::new(TlsFacts {
                version: Some(TlsVersion::V1_3),
                chain: vec![Certificate {
                    subject: String::new(),
                    issuer,
                    not_before: 0,
                    not_after,
                }],
            })
        });
        let headers = (text(), bytes(), 0..1200_usize).prop_map(|(name, value, n)| {
            // One long one, many short ones.
            let mut headers = vec![(name, value)];
            headers.extend((0..n).map(|n| (n.to_string(), vec![0xff])));
            headers
        });
        (
            (
                prop::collection::vec(hop, 0..101),
                certificate,
                headers,
                bytes(),
                phases(),
            ),
            (
                prop::option::of(100..=999_u16),
                any::<u64>(),
                prop::collection::vec(text(), 0..20),
                address(),
                text(),
            ),
        )
            .prop_map(
                |(
                    (hops, tls, headers, body, phases),
                    (status, count, refused, remote_ip, detail),
                )| Attempt {
                    failure: Some(Failure::new(ErrorKind::BodyTimeout, detail)),
                    reached: Reached::Body,
                    status,
                    http_version: Some("1.1"),
                    remote_ip,
                    phases,
                    body_bytes: Some(count >> 11),
                    hops,
                    final_url: Url::parse(&format!("http://a/{}", "x".repeat(4087))).ok(),
                    left_origin: false,
                    tls: Some(tls),
                    refused,
                    headers,
                    body,
                    looked: None,
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_check_brings_its_message_is_valid_and_is_stored(
            attempt in attempts(),
            failures in prop::collection::vec(text(), 1..100),
            slot in 0..32_503_680_000_000_000_i64,
        ) {
            let (validator, around) = (validator(include_str!("../model/message.schema.json")), around());
            let options = largest_options();
            let site = largest_site(options);
            let address = Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap());
            // Up to centuries too late or too early.
            let slot = Slot::from_micros(slot);
            let mut trial = Trial::new(&site, slot, &around, Duration::ZERO);
            for _ in 0..10 {
                prop_assert!(trial.judge(&attempt).is_none());
            }
            let mut verdict = verdict::unwell(Failure::new(ErrorKind::BodyTimeout, ""));
            verdict.failures = failures
                .iter()
                .flat_map(|detail| verdict::unwell(Failure::new(ErrorKind::TooSlow, detail)).failures)
                .collect();
            let result = trial.report(attempt, verdict, address).result;
            let message = serde_json::to_value(&result).unwrap();
            if let Err(problem) = validator.validate(&message) {
                return Err(TestCaseError::fail(format!("{} at {}", problem, problem.instance_path)));
            }
            let day = Duration::from_secs(86_400);
            let payload = serde_json::to_vec(&result).unwrap();
            let read = Decoder::new(day, day).decode((0, 0), None, &payload, slot);
            prop_assert!(read.is_ok(), "{:?}", read.err().map(|it| it.detail));
        }
    }

    #[test]
    fn what_a_site_announces_is_valid_whatever_the_settings_take() {
        let (validator, around) = (
            validator(include_str!("../model/revision.schema.json")),
            around(),
        );
        let mut options = largest_options();
        let each_day = largest_site(options.clone());
        options.schedule.interval = Duration::from_secs(1);
        let each_second = largest_site(options.clone());
        options.schedule.cron =
            Some(Cron::new(&format!("0{} 0 1 1 * UTC", " ".repeat(240))).unwrap());
        let calendar = largest_site(options);
        let smallest = Site::of("n", Url::parse("http://a").unwrap(), SiteOptions::default());
        for site in [each_day, each_second, calendar, smallest] {
            let schedule = Schedule::new(&site.name, &site.options.schedule);
            let since = schedule.next_after(Slot::from_micros(NOW));
            let mut standing = announce::Standing::default();
            let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok();
            for change in standing.cover(since, &[address]) {
                let told = announce::revision(&site, &schedule, &around, change);
                let message = serde_json::to_value(&told).unwrap();
                if let Err(problem) = validator.validate(&message) {
                    panic!("{problem} at {}", problem.instance_path);
                }
            }
        }
        let missed = trial::unwell(
            &Site::of("n", Url::parse("http://a").unwrap(), SiteOptions::default()),
            Slot::from_micros(0),
            ErrorKind::Missed,
            "",
            &around,
            None,
        );
        assert_eq!(missed.labels, BTreeMap::new());
    }
}
