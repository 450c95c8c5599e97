//! A result as a line, for pipes and files.

use super::feed::StoredCheck;
use sitewatch_actors::model::printable;

/// Six fields with tabs between: slot, outcome, site, status, total time, error with its detail. What is absent is `-`.
pub(super) fn line(result: &StoredCheck) -> String {
    let status = result
        .status
        .map_or_else(absent, |status| status.to_string());
    let total = result
        .total_ms
        .map_or_else(absent, |total| format!("{total:.1} ms"));
    format!(
        "{}\t{}\t{}\t{status}\t{total}\t{}\n",
        result.slot,
        result.outcome,
        printable(&result.site),
        what(result).unwrap_or_else(absent)
    )
}

fn absent() -> String {
    "-".to_owned()
}

/// The error and its detail, if there was one.
pub(super) fn what(result: &StoredCheck) -> Option<String> {
    let error = result.error.as_ref()?;
    let detail = result
        .detail
        .as_deref()
        .map(|detail| format!(": {}", printable(detail)));
    Some(format!("{error}{}", detail.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use sitewatch_actors::model::Slot;

    use super::*;

    #[test]
    fn a_line_has_six_fields_whatever_a_site_is_called() {
        let up = StoredCheck {
            site: "a\tb\nc".to_owned(),
            location: "here".to_owned(),
            slot: Slot::from_micros(1_700_000_000_000_000),
            outcome: "up".to_owned(),
            error: None,
            status: Some(200),
            total_ms: Some(12.34),
            detail: None,
        };
        assert_eq!(
            line(&up),
            "2023-11-14T22:13:20.000000Z\tup\ta\\u{9}b\\u{a}c\t200\t12.3 ms\t-\n"
        );
        let down = StoredCheck {
            outcome: "down".to_owned(),
            error: Some("connect_refused".to_owned()),
            detail: Some("no\none".to_owned()),
            status: None,
            total_ms: None,
            ..up
        };
        assert!(line(&down).ends_with("\t-\t-\tconnect_refused: no\\u{a}one\n"));
    }
}
