//! Is the site up? Pure.

use sitewatch_config::Site;

use super::attempt::{Attempt, Failure};
use crate::model::{ErrorKind, Outcome};

/// The most bytes of detail that travel.
const MAX_DETAIL: usize = 256;

/// How a check ended and, if it is not up, why.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    /// How it ended.
    pub(super) outcome: Outcome,
    /// Why, fit to be stored: no control characters, at most 256 bytes.
    pub(super) failure: Option<Failure>,
}

/// Judges what the exchange with `site` brought. The first of these decides: no complete answer, another status than
/// expected, a body without the pattern.
pub(super) fn judge(site: &Site, attempt: &Attempt) -> Verdict {
    let failure = attempt
        .failure
        .clone()
        .or_else(|| wrong_status(site, attempt))
        .or_else(|| wrong_body(site, attempt));
    match failure {
        None => Verdict {
            outcome: Outcome::Up,
            failure: None,
        },
        Some(failure) => unwell(failure),
    }
}

/// The verdict on a check that failed in this way.
pub(super) fn unwell(failure: Failure) -> Verdict {
    let outcome = match failure.kind {
        ErrorKind::Missed | ErrorKind::InternalError => Outcome::Unknown,
        _ => Outcome::Down,
    };
    Verdict {
        outcome,
        failure: Some(Failure {
            detail: presentable(&failure.detail),
            ..failure
        }),
    }
}

fn wrong_status(site: &Site, attempt: &Attempt) -> Option<Failure> {
    let status = attempt
        .status
        .filter(|status| !site.expected_status.contains(*status))?;
    Some(Failure::new(
        ErrorKind::StatusMismatch,
        format!("status {status}, expected {}", site.expected_status),
    ))
}

fn wrong_body(site: &Site, attempt: &Attempt) -> Option<Failure> {
    let pattern = site
        .body_matches
        .as_ref()
        .filter(|_| attempt.body_match == Some(false))?;
    let read = attempt.body_bytes.unwrap_or_default();
    Some(Failure::new(
        ErrorKind::BodyMismatch,
        format!(
            "nothing in {read} bytes of body matches {}",
            pattern.as_str()
        ),
    ))
}

fn presentable(detail: &str) -> String {
    let mut text: String = detail
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.len() > MAX_DETAIL {
        let mark = '…';
        text.truncate(text.floor_char_boundary(MAX_DETAIL - mark.len_utf8()));
        text.push(mark);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Attempt {
        Attempt {
            status: Some(status),
            ..Attempt::default()
        }
    }

    #[test]
    fn an_expected_answer_is_up() {
        assert_eq!(
            judge(&Site::for_testing("http://a/"), &answered(204)).outcome,
            Outcome::Up
        );
    }

    #[test]
    fn the_first_fault_decides() {
        let site = Site::for_testing("http://a/");
        let kind = |attempt: &Attempt| judge(&site, attempt).failure.map(|failure| failure.kind);
        assert_eq!(kind(&answered(500)), Some(ErrorKind::StatusMismatch));
        let cut = Attempt {
            failure: Some(Failure::new(ErrorKind::BodyTimeout, "")),
            ..answered(500)
        };
        assert_eq!(kind(&cut), Some(ErrorKind::BodyTimeout));
    }

    #[test]
    fn what_the_node_could_not_tell_is_unknown() {
        assert_eq!(
            unwell(Failure::new(ErrorKind::Missed, "")).outcome,
            Outcome::Unknown
        );
        assert_eq!(
            unwell(Failure::new(ErrorKind::InternalError, "")).outcome,
            Outcome::Unknown
        );
        assert_eq!(
            unwell(Failure::new(ErrorKind::DnsError, "")).outcome,
            Outcome::Down
        );
    }

    #[test]
    fn details_are_cut_between_characters() {
        let verdict = unwell(Failure::new(ErrorKind::DnsError, "ü\n".repeat(300)));
        let detail = verdict.failure.unwrap().detail;
        assert!(detail.len() <= MAX_DETAIL && detail.ends_with('…') && !detail.contains('\n'));
    }
}
