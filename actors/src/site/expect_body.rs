//! Is the body as expected? Pure.

use serde_json::Value;
use sitewatch_config::{Expectations, JsonCondition, JsonRule, Pattern};

use super::{
    attempt::{Failure, Looked},
    excerpt::excerpt,
};
use crate::model::ErrorKind;

/// Looks at everything that is expected of the body. May take long: see [`super::body_pool`].
pub(super) fn look(expect: &Expectations, body: &[u8]) -> Looked {
    let mut looked = Looked {
        seen: Vec::new(),
        matches: true,
    };
    for pattern in &expect.body_matches {
        let is_match = pattern.is_match(body);
        looked.matches &= is_match;
        let failure = (!is_match).then(|| unmatched(pattern, body));
        let words = format!("body_matches {}", pattern.as_str());
        looked.seen.push((words, failure));
    }
    for pattern in &expect.body_must_not_match {
        let text = pattern.as_str();
        let failure = pattern.find(body).map(|found| {
            let at = found.start;
            Failure::new(
                ErrorKind::BodyForbiddenMatch,
                format!(
                    "the body matches {text} at byte {at}: {}",
                    excerpt(&body[found])
                ),
            )
        });
        looked
            .seen
            .push((format!("body_must_not_match {text}"), failure));
    }
    json(&expect.expect_json, body, &mut looked.seen);
    looked
}

fn unmatched(pattern: &Pattern, body: &[u8]) -> Failure {
    let begins = if body.is_empty() {
        "the body is empty".to_owned()
    } else {
        format!("the body begins with {}", excerpt(body))
    };
    let (bytes, text) = (body.len(), pattern.as_str());
    Failure::new(
        ErrorKind::BodyMismatch,
        format!("nothing in {bytes} bytes of body matches {text}; {begins}"),
    )
}

fn json(rules: &[JsonRule], body: &[u8], seen: &mut Vec<(String, Option<Failure>)>) {
    if rules.is_empty() {
        return;
    }
    let parsed: Result<Value, String> =
        serde_json::from_slice(body).map_err(|error| error.to_string());
    for rule in rules {
        for condition in &rule.conditions {
            let failure = match &parsed {
                Err(why) => Some(format!(
                    "the body is not JSON ({why}); it begins with {}",
                    excerpt(body)
                )),
                Ok(document) => unmet(rule, condition, document),
            };
            seen.push((
                format!("expect_json {} {condition}", rule.path),
                failure.map(|detail| Failure::new(ErrorKind::BodyMismatch, detail)),
            ));
        }
    }
}

/// Why a condition does not hold, if so.
fn unmet(rule: &JsonRule, condition: &JsonCondition, document: &Value) -> Option<String> {
    let found = rule.path.query(document).all();
    let path = &rule.path;
    if let JsonCondition::Exists(wanted) = condition {
        return match (found.first(), wanted) {
            (None, true) => Some(format!("{path} finds nothing")),
            (Some(value), false) => Some(format!("{path} is there: {}", shown(value))),
            _ => None,
        };
    }
    if found.is_empty() {
        return Some(format!("{path} finds nothing; expected: {condition}"));
    }
    let wrong = found.into_iter().find(|value| !holds(condition, value))?;
    Some(format!("{path} is {}; expected: {condition}", shown(wrong)))
}

fn holds(condition: &JsonCondition, value: &Value) -> bool {
    let number = |compare: &dyn Fn(f64) -> bool| value.as_f64().is_some_and(compare);
    match condition {
        JsonCondition::Equals(wanted) => equal(wanted, value),
        JsonCondition::NotEquals(wanted) => !equal(wanted, value),
        JsonCondition::LessThan(limit) => number(&|found| found < *limit),
        JsonCondition::AtMost(limit) => number(&|found| found <= *limit),
        JsonCondition::GreaterThan(limit) => number(&|found| found > *limit),
        JsonCondition::AtLeast(limit) => number(&|found| found >= *limit),
        JsonCondition::Matches(pattern) => value
            .as_str()
            .is_some_and(|text| pattern.is_match(text.as_bytes())),
        JsonCondition::Exists(wanted) => *wanted,
    }
}

/// Numbers are equal by their value: 1 and 1.0.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 80 {
        return text;
    }
    format!("{}…", &text[..text.floor_char_boundary(80)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Condition by condition: `true` where it holds. `$.n` is 2, `$.list` is [1, 2], `$.s` is "abc".
    #[test]
    fn each_comparison_holds_and_fails() {
        let body = br#"{"n": 2, "list": [1, 2], "s": "abc", "o": {"a": null}}"#;
        let check = |path: &str, condition: JsonCondition| {
            let rule = JsonRule {
                path: path.parse().unwrap(),
                conditions: vec![condition],
            };
            let mut seen = Vec::new();
            json(&[rule], body, &mut seen);
            seen.iter().all(|(_, failure)| failure.is_none())
        };
        use JsonCondition as C;
        let pattern = |text| C::Matches(sitewatch_config::Pattern::new(text).unwrap());
        for (path, condition, result) in [
            ("$.n", C::Equals(2.into()), true),
            ("$.n", C::Equals(2.0.into()), true),
            ("$.n", C::Equals("2".into()), false),
            ("$.n", C::NotEquals(2.into()), false),
            ("$.x", C::NotEquals(2.into()), false),
            ("$.n", C::LessThan(2.0), false),
            ("$.n", C::AtMost(2.0), true),
            ("$.n", C::GreaterThan(1.5), true),
            ("$.n", C::AtLeast(2.5), false),
            ("$.s", C::LessThan(9.0), false),
            ("$.list[*]", C::AtLeast(1.0), true),
            ("$.list[*]", C::AtLeast(2.0), false),
            ("$.s", pattern("^a"), true),
            ("$.n", pattern("2"), false),
            ("$.o", C::Exists(true), true),
            ("$.o.a", C::Exists(true), true),
            ("$.x", C::Exists(true), false),
            ("$.x", C::Exists(false), true),
            ("$.list[?@ > 1]", C::Equals(2.into()), true),
        ] {
            let words = format!("{path} {condition}");
            assert_eq!(check(path, condition), result, "{words}");
        }
    }

    #[test]
    fn what_is_no_json_is_told() {
        let rule = JsonRule {
            path: "$.a".parse().unwrap(),
            conditions: vec![JsonCondition::Exists(true)],
        };
        let mut seen = Vec::new();
        json(&[rule], b"<html>", &mut seen);
        let failure = seen.remove(0).1.unwrap();
        assert!(failure.detail.starts_with("the body is not JSON"));
    }
}
