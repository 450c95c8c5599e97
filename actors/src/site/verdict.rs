//! Is the site up? Pure.

use sitewatch_config::{SiteOptions, TlsVersion, Url, without_query};

use super::{
    attempt::{Attempt, Failure, See},
    expect_headers,
};
use crate::model::{ErrorKind, Outcome, Slot, printable};

/// The most bytes of detail that travel.
const MAX_DETAIL: usize = 256;

/// How a check ended and, if it is not up, why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// How it ended.
    pub(super) outcome: Outcome,
    /// All that was wrong, what decides first. Fit to be stored: [`printable`], at most 256 bytes each.
    pub(super) failures: Vec<Failure>,
}

/// Judges what an attempt brought. Of what is wrong, the first of these decides: no complete answer, then the expectations in
/// the order in which [`expectations`] looks at them. A limit that the user set makes a site that is up degraded.
pub(super) fn judge(url: &Url, options: &SiteOptions, attempt: &Attempt, now: Slot) -> Verdict {
    let mut failures: Vec<Failure> = attempt.failure.iter().cloned().collect();
    expectations(url, options, attempt, now, &mut |_, failure| {
        failures.extend(failure)
    });
    let outcome = match failures.first() {
        None => Outcome::Up,
        Some(failure) => outcome_of(failure.kind),
    };
    let presentable = |failure: Failure| Failure {
        detail: presentable(&failure.detail),
        ..failure
    };
    Verdict {
        outcome,
        failures: failures.into_iter().map(presentable).collect(),
    }
}

/// The verdict on a check that was not made.
pub(super) fn unwell(failure: Failure) -> Verdict {
    Verdict {
        outcome: outcome_of(failure.kind),
        failures: vec![Failure {
            detail: presentable(&failure.detail),
            ..failure
        }],
    }
}

fn outcome_of(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::Missed | ErrorKind::InternalError => Outcome::Unknown,
        ErrorKind::TooSlow => Outcome::Degraded,
        _ => Outcome::Down,
    }
}

/// Looks at all expectations that can be told from what came: each with its words and, if it fails, why.
pub(super) fn expectations(
    url: &Url,
    options: &SiteOptions,
    attempt: &Attempt,
    now: Slot,
    see: See<'_>,
) {
    let expect = &options.expect;
    tls(options, attempt, now, see);
    let Some(status) = attempt.status else { return };
    // With an answer that is cut off, or a redirect that can't be followed, its status is not what failed.
    if attempt.failure.is_some() {
        return;
    }
    let right = expect.expected_status.contains(status);
    see(
        &format_args!("expected_status {}", expect.expected_status),
        (!right).then(|| {
            Failure::new(
                ErrorKind::StatusMismatch,
                format!("status {status}, expected {}", expect.expected_status),
            )
        }),
    );
    if let Some(wanted) = &expect.expect_final_url {
        let is_there = attempt.final_url.as_ref().unwrap_or(url) == wanted;
        let shown = |url: &Url| {
            if options.request.hide_query {
                without_query(url)
            } else {
                url.clone()
            }
        };
        let last = attempt.shown_final_url(options);
        let (last, wanted) = (last.unwrap_or_else(|| shown(url)), shown(wanted));
        see(
            &format_args!("expect_final_url {wanted}"),
            (!is_there).then(|| {
                Failure::new(
                    ErrorKind::RedirectError,
                    format!("redirects end at {last}, expected {wanted}"),
                )
            }),
        );
    }
    expect_headers::look(&expect.expect_headers, &attempt.headers, see);
    let looked = attempt.looked.iter().flat_map(|looked| &looked.seen);
    for (words, failure) in looked {
        see(words, failure.clone());
    }
    slow(options, attempt, see);
}

fn tls(options: &SiteOptions, attempt: &Attempt, now: Slot, see: See<'_>) {
    let (expect, Some(facts)) = (&options.expect, &attempt.tls) else {
        return;
    };
    if expect.min_tls_version > TlsVersion::V1_2
        && let Some(version) = facts.version
    {
        let (found, least) = (version.as_str(), expect.min_tls_version.as_str());
        see(
            &format_args!("min_tls_version {least}"),
            (version < expect.min_tls_version).then(|| {
                Failure::new(
                    ErrorKind::TlsError,
                    format!("TLS {found}, at least {least} expected"),
                )
            }),
        );
    }
    let Some(certificate) = facts.chain.first() else {
        if expect.min_cert_days.is_some() || expect.cert_issuer_matches.is_some() {
            let failure = Failure::new(ErrorKind::CertInvalid, "the certificate can't be read");
            see(&"a certificate", Some(failure));
        }
        return;
    };
    if let Some(days) = expect.min_cert_days {
        let left = (certificate.not_after - now.as_micros() / 1_000_000) as f64 / 86_400.0;
        let date = Slot::nearest_to(certificate.not_after).date();
        see(
            &format_args!("min_cert_days {days}"),
            (left < f64::from(days)).then(|| {
                Failure::new(
                    ErrorKind::CertExpiring,
                    format!("the certificate ends in {left:.1} days, on {date}; at least {days} days expected"),
                )
            }),
        );
    }
    if let Some(pattern) = &expect.cert_issuer_matches {
        let issuer = &certificate.issuer;
        see(
            &format_args!("cert_issuer_matches {}", pattern.as_str()),
            (!pattern.is_match(issuer.as_bytes())).then(|| {
                Failure::new(
                    ErrorKind::CertInvalid,
                    format!("the issuer {issuer} does not match {}", pattern.as_str()),
                )
            }),
        );
    }
}

fn slow(options: &SiteOptions, attempt: &Attempt, see: See<'_>) {
    let (limits, phases) = (&options.expect.limits, &attempt.phases);
    for (name, limit, took) in [
        ("dns", limits.dns, phases.dns_us),
        ("connect", limits.connect, phases.connect_us),
        ("tls", limits.tls, phases.tls_us),
        ("ttfb", limits.ttfb, phases.ttfb_us),
        ("body", limits.body, phases.body_us),
        ("total", limits.total, phases.total_us),
    ] {
        let (Some(limit), Some(took)) = (limit, took) else {
            continue;
        };
        let shown = humantime::format_duration(limit);
        see(
            &format_args!("limits {name} {shown}"),
            (u128::from(took) > limit.as_micros()).then(|| {
                let ms = f64::from(took) / 1000.0;
                Failure::new(
                    ErrorKind::TooSlow,
                    format!("{name} took {ms:.1} ms, at most {shown} allowed"),
                )
            }),
        );
    }
}

fn presentable(detail: &str) -> String {
    let mut text = printable(detail);
    if text.len() > MAX_DETAIL {
        let mark = '…';
        text.truncate(text.floor_char_boundary(MAX_DETAIL - mark.len_utf8()));
        text.push(mark);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use sitewatch_config::Limits;

    use super::*;
    use crate::{
        model::Phases,
        site::attempt::{Certificate, TlsFacts},
    };

    const NOW: Slot = Slot::from_micros(1_700_000_000_000_000);

    fn answered(status: u16) -> Attempt {
        Attempt {
            status: Some(status),
            ..Attempt::default()
        }
    }

    fn judged(options: &SiteOptions, attempt: &Attempt) -> (Outcome, Vec<ErrorKind>) {
        let url = Url::parse("https://a/").unwrap();
        let verdict = judge(&url, options, attempt, NOW);
        (
            verdict.outcome,
            verdict
                .failures
                .iter()
                .map(|failure| failure.kind)
                .collect(),
        )
    }

    #[test]
    fn an_expected_answer_is_up() {
        assert_eq!(
            judged(&SiteOptions::default(), &answered(204)),
            (Outcome::Up, Vec::new())
        );
    }

    #[test]
    fn a_certificate_that_cannot_be_read_does_not_pass_for_one_that_is_valid() {
        let mut options = SiteOptions::default();
        let attempt = Attempt {
            tls: Some(Rc::new(TlsFacts {
                version: Some(TlsVersion::V1_3),
                chain: Vec::new(),
            })),
            ..answered(200)
        };
        assert_eq!(judged(&options, &attempt), (Outcome::Up, Vec::new()));
        options.expect.min_cert_days = Some(10);
        let told = vec![ErrorKind::CertInvalid];
        assert_eq!(judged(&options, &attempt), (Outcome::Down, told));
    }

    #[test]
    fn the_first_fault_decides_and_all_are_told() {
        let mut options = SiteOptions::default();
        options.expect.min_cert_days = Some(10);
        options.expect.limits = Limits {
            total: Some(std::time::Duration::from_millis(5)),
            ..Limits::default()
        };
        let attempt = Attempt {
            tls: Some(Rc::new(TlsFacts {
                version: Some(TlsVersion::V1_2),
                chain: vec![Certificate {
                    subject: "CN=a".to_owned(),
                    issuer: "CN=b".to_owned(),
                    not_before: 0,
                    not_after: 1_700_000_000 + 9 * 86_400,
                }],
            })),
            phases: Phases {
                total_us: Some(5001),
                ..Phases::default()
            },
            ..answered(500)
        };
        let all = vec![
            ErrorKind::CertExpiring,
            ErrorKind::StatusMismatch,
            ErrorKind::TooSlow,
        ];
        assert_eq!(judged(&options, &attempt), (Outcome::Down, all));
        let cut = Attempt {
            failure: Some(Failure::new(ErrorKind::BodyTimeout, "")),
            ..answered(500)
        };
        assert_eq!(
            judged(&SiteOptions::default(), &cut),
            (Outcome::Down, vec![ErrorKind::BodyTimeout])
        );
        let slow = Attempt {
            status: Some(200),
            tls: None,
            ..attempt
        };
        assert_eq!(
            judged(&options, &slow),
            (Outcome::Degraded, vec![ErrorKind::TooSlow])
        );
    }

    #[test]
    fn what_the_node_could_not_tell_is_unknown() {
        for (kind, outcome) in [
            (ErrorKind::Missed, Outcome::Unknown),
            (ErrorKind::InternalError, Outcome::Unknown),
            (ErrorKind::TooSlow, Outcome::Degraded),
            (ErrorKind::DnsError, Outcome::Down),
        ] {
            assert_eq!(unwell(Failure::new(kind, "")).outcome, outcome);
        }
    }

    #[test]
    fn details_are_cut_between_characters() {
        let verdict = unwell(Failure::new(ErrorKind::DnsError, "ü\n".repeat(300)));
        let detail = &verdict.failures[0].detail;
        assert!(detail.len() <= MAX_DETAIL && detail.ends_with('…') && !detail.contains('\n'));
    }
}
