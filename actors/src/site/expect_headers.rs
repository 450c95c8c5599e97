//! Are the headers as expected? Pure.

use sitewatch_config::{HeaderCondition, HeaderRule, is_sensitive_header};

use super::{
    attempt::{Failure, See},
    excerpt::excerpt,
};
use crate::model::ErrorKind;

/// Looks at each rule. `headers` have their names in small letters.
pub(super) fn look(rules: &[HeaderRule], headers: &[(String, Vec<u8>)], see: See<'_>) {
    for rule in rules {
        let name = rule.name.as_str();
        let values: Vec<&[u8]> = headers
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value.as_slice())
            .collect();
        let fail = |what: &str| {
            let found = match values.first() {
                None => format!("the header {name} is absent"),
                Some(_) if is_sensitive_header(name) => format!("{name} has another value"),
                Some(value) => format!("{name}: {}", excerpt(value)),
            };
            Some(Failure::new(
                ErrorKind::HeaderMismatch,
                format!("{found}; {what}"),
            ))
        };
        let any = |holds: &dyn Fn(&[u8]) -> bool| values.iter().any(|value| holds(value));
        match &rule.condition {
            HeaderCondition::Present => see(
                &format_args!("expect_headers {name} present"),
                if values.is_empty() {
                    fail("it must be there")
                } else {
                    None
                },
            ),
            HeaderCondition::Absent => see(
                &format_args!("expect_headers {name} absent"),
                if values.is_empty() {
                    None
                } else {
                    fail("it must not be there")
                },
            ),
            HeaderCondition::Equals(text) => {
                let shown = if is_sensitive_header(name) {
                    "***"
                } else {
                    text
                };
                see(
                    &format_args!("expect_headers {name} equals {shown}"),
                    if any(&|value| value == text.as_bytes()) {
                        None
                    } else {
                        fail(&format!("it must be {shown}"))
                    },
                );
            }
            HeaderCondition::Matches(pattern) => see(
                &format_args!("expect_headers {name} matches {}", pattern.as_str()),
                if any(&|value| pattern.is_match(value)) {
                    None
                } else {
                    fail(&format!("it must match {}", pattern.as_str()))
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use sitewatch_config::Pattern;

    use super::*;

    #[test]
    fn each_condition_holds_and_fails() {
        let headers = [("a", "one"), ("a", "two"), ("b", "x")]
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let holds = |name: &str, condition| {
            let mut failed = None;
            let rules = [HeaderRule {
                name: name.to_owned(),
                condition,
            }];
            look(&rules, &headers, &mut |_, failure| failed = failure);
            failed.is_none()
        };
        assert!(holds("a", HeaderCondition::Present) && !holds("c", HeaderCondition::Present));
        assert!(holds("c", HeaderCondition::Absent) && !holds("a", HeaderCondition::Absent));
        assert!(
            holds("a", HeaderCondition::Equals("two".to_owned()))
                && !holds("a", HeaderCondition::Equals("three".to_owned()))
        );
        let pattern = |text| HeaderCondition::Matches(Pattern::new(text).unwrap());
        assert!(
            holds("a", pattern("^t")) && !holds("b", pattern("^t")) && !holds("c", pattern(""))
        );
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let headers = [("set-cookie".to_owned(), b"session=CANARY".to_vec())];
        let rules = [HeaderRule {
            name: "set-cookie".to_owned(),
            condition: HeaderCondition::Matches(Pattern::new("Secure").unwrap()),
        }];
        let mut told = String::new();
        look(&rules, &headers, &mut |_, failure| {
            told = failure.unwrap().detail
        });
        assert_eq!(told, "set-cookie has another value; it must match Secure");
        let rules = [HeaderRule {
            name: "x-auth".to_owned(),
            condition: HeaderCondition::Equals("CANARY".to_owned()),
        }];
        look(&rules, &headers, &mut |what, failure| {
            told = format!("{what}; {}", failure.unwrap().detail)
        });
        assert!(
            told.contains("equals ***") && !told.contains("CANARY"),
            "{told}"
        );
    }
}
