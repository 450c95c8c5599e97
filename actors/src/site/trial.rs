//! A check under way, and the result in which it ends.

use std::{net::IpAddr, sync::Arc, time::Duration};

use sitewatch_config::{Site, is_sensitive_header};

use super::{
    attempt::{Attempt, Failure},
    fit::fit,
    gate::Pass,
    surroundings::Surroundings,
    verdict::{self, Verdict},
};
use crate::model::{
    Capture, CheckResult, ErrorKind, FailedAttempt, Fault, MESSAGE_VERSION, Outcome, Reached, Slot,
};

/// A check with all that it brought.
pub struct Checked {
    /// What is published.
    pub result: CheckResult,
    /// The last attempt.
    pub attempt: Attempt,
}

/// A check under way: what had failed before its last attempt.
#[derive(Clone)]
pub(super) struct Trial<'a> {
    pub(super) site: &'a Site,
    slot: Slot,
    pub(super) around: &'a Surroundings,
    lateness_us: i64,
    failed: Vec<FailedAttempt>,
}

impl<'a> Trial<'a> {
    /// A check that begins now, or began `before` now.
    pub(super) fn new(
        site: &'a Site,
        slot: Slot,
        around: &'a Surroundings,
        before: Duration,
    ) -> Self {
        let before = i64::try_from(before.as_micros()).unwrap_or(i64::MAX);
        Self {
            site,
            slot,
            around,
            lateness_us: around.clock.now().micros_since(slot).saturating_sub(before),
            failed: Vec::new(),
        }
    }

    /// The verdict on the last attempt; `None` if there is to be another one.
    pub(super) fn judge(&mut self, attempt: &Attempt) -> Option<Verdict> {
        let Site { url, options, .. } = self.site;
        let verdict = verdict::judge(url, options, attempt, self.around.clock.now());
        let is_last = self.failed.len() >= usize::from(options.schedule.retries);
        if verdict.outcome != Outcome::Down || is_last {
            return Some(verdict);
        }
        self.failed.push(failed_attempt(attempt, verdict));
        None
    }

    /// Waits for the next attempt, and for a place for it: who waits holds up nobody.
    pub(super) async fn wait_for_retry(&self) -> Pass<'a> {
        tokio::time::sleep(self.site.options.schedule.retry_delay).await;
        self.around.gate.enter_for(self.site).await
    }

    /// The result with the last attempt.
    pub(super) fn report(
        self,
        mut attempt: Attempt,
        verdict: Verdict,
        address: Option<IpAddr>,
    ) -> Checked {
        let Trial {
            site,
            slot,
            around,
            lateness_us,
            failed: failed_attempts,
        } = self;
        let options = &site.options;
        let made = attempt.phases.total_us.is_some();
        let capture = (verdict.outcome != Outcome::Up
            && options.capture_bytes > 0
            && attempt.status.is_some())
        .then(|| capture(&attempt, options.capture_bytes));
        let read = attempt.reached == Reached::End && !options.expect.body_matches.is_empty();
        let body_match = read.then(|| attempt.looked.as_ref().is_some_and(|it| it.matches));
        let certificate = attempt.tls.as_ref().and_then(|tls| tls.chain.first());
        let mut failures: Vec<Fault> = verdict.failures.into_iter().map(fault).collect();
        let first = failures.first().cloned();
        if failures.len() < 2 {
            failures.clear();
        }
        let (error, error_detail) = first.map(|fault| (fault.error, fault.error_detail)).unzip();
        let mut result = CheckResult {
            v: MESSAGE_VERSION,
            site: name(site, address),
            url: site.shown_url().into(),
            location: around.location.clone(),
            slot,
            lateness_us,
            outcome: verdict.outcome,
            error,
            error_detail,
            status: attempt.status,
            http_version: attempt.http_version,
            remote_ip: attempt.remote_ip,
            phases: attempt.phases,
            body_bytes: attempt.body_bytes,
            redirects: made.then(|| u8::try_from(attempt.hops.len()).unwrap_or(u8::MAX)),
            attempts: u8::try_from(failed_attempts.len() + usize::from(made)).unwrap_or(u8::MAX),
            reached: (made && attempt.reached != Reached::End).then_some(attempt.reached),
            final_url: attempt.shown_final_url(options).map(Into::into),
            hops: std::mem::take(&mut attempt.hops),
            failures,
            failed_attempts,
            refused: attempt.refused.clone(),
            tls_version: attempt
                .tls
                .as_ref()
                .and_then(|tls| Some(tls.version?.as_str())),
            cert_expires_at: certificate.map(|it| Slot::nearest_to(it.not_after)),
            cert_issuer: certificate.map(|certificate| certificate.issuer.clone()),
            body_match,
            capture,
            labels: options.labels.clone(),
            config_hash: site.config_hash(),
        };
        fit(&mut result);
        Checked { result, attempt }
    }
}

fn fault(failure: Failure) -> Fault {
    Fault {
        error: failure.kind,
        error_detail: failure.detail,
    }
}

fn failed_attempt(attempt: &Attempt, verdict: Verdict) -> FailedAttempt {
    let first = verdict.failures.into_iter().next();
    FailedAttempt {
        // A verdict of `down` has a failure.
        fault: fault(first.unwrap_or_else(|| Failure::new(ErrorKind::InternalError, ""))),
        reached: attempt.reached,
        status: attempt.status,
        phases: attempt.phases,
    }
}

/// The result of a check that was not made, or not to its end.
pub(super) fn unwell(
    site: &Site,
    slot: Slot,
    kind: ErrorKind,
    detail: &str,
    around: &Surroundings,
    address: Option<IpAddr>,
) -> CheckResult {
    let verdict = verdict::unwell(Failure::new(kind, detail));
    let trial = Trial::new(site, slot, around, Duration::ZERO);
    trial.report(Attempt::default(), verdict, address).result
}

/// The name of a site or, where each of its addresses is a site of its own, of that.
pub(super) fn name(site: &Site, address: Option<IpAddr>) -> Arc<str> {
    match address {
        None => Arc::clone(&site.name),
        Some(address) => format!("{}@{address}", site.name).into(),
    }
}

fn capture(attempt: &Attempt, most: usize) -> Capture {
    let header = |(name, value): &(String, Vec<u8>)| {
        let value = if is_sensitive_header(name) {
            "***".to_owned()
        } else {
            text(value)
        };
        (name.clone(), value)
    };
    let end = attempt.body.len().min(most);
    Capture {
        headers: attempt.headers.iter().map(header).collect(),
        body: text(&attempt.body[..end]),
        truncated: attempt.body_bytes.unwrap_or_default() > end as u64,
    }
}

/// What can be shown and stored: PostgreSQL's text has no NUL.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}
