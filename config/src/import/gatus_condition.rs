//! What a Gatus condition asks of the answer.

use std::time::Duration;

use serde_json::Value as Json;

use super::draft::Draft;
use super::duration;
use super::gatus_json;
use super::gatus_value::{
    Comparison, Operand, Operator, comparison, has_variable, is_placeholder, operand, regex_of,
    with_variables,
};
use super::section::Section;
use crate::pattern::Pattern;
use crate::status::StatusSet;

/// Reads the conditions of one endpoint.
pub(super) struct Conditions<'a, 'n> {
    pub(super) section: &'a Section<'n>,
    pub(super) draft: &'a mut Draft,
    /// The statuses that all conditions so far allow.
    statuses: Vec<u16>,
    total: Option<Duration>,
    cert_days: u64,
}

impl<'a, 'n> Conditions<'a, 'n> {
    pub(super) fn new(section: &'a Section<'n>, draft: &'a mut Draft) -> Self {
        Conditions {
            section,
            draft,
            statuses: (100..=999).collect(),
            total: None,
            cert_days: 0,
        }
    }

    /// Carries over one condition. Notes name its left side only: the right one may be a secret.
    pub(super) fn read(&mut self, number: usize, condition: &str) {
        let Some(parted) = comparison(&with_variables(condition)) else {
            return self
                .section
                .note(&format!("conditions[{number}]"), "is no comparison");
        };
        let shown = if is_placeholder(&parted.left) {
            &parted.left
        } else {
            "…"
        };
        let key = format!("conditions[{number}] {shown} {}", parted.operator.sign());
        if has_variable(condition) {
            self.section.note(&key, "a variable is not replaced here");
        } else if let Err(why) = self.carry_over(&parted, &key) {
            self.section.note(&key, why);
        }
    }

    /// Writes what all conditions ask for together.
    pub(super) fn finish(self) {
        let ranges: Vec<(u16, u16)> = self
            .statuses
            .iter()
            .map(|status| (*status, *status))
            .collect();
        if ranges.is_empty() {
            self.section
                .note("conditions", "no status fulfils them all");
        } else {
            self.draft.set_statuses(&StatusSet::from_ranges(ranges));
        }
        if let Some(total) = self.total {
            self.draft
                .set_in("limits", "total", duration::written(total));
        }
        if self.cert_days > 0 {
            self.draft.set("min_cert_days", self.cert_days);
        }
    }

    fn carry_over(&mut self, parted: &Comparison, key: &str) -> Result<(), &'static str> {
        let Comparison {
            left,
            operator,
            right,
        } = parted;
        if is_placeholder(right) {
            return Err("two parts of the answer cannot be compared with each other");
        }
        let (function, inner) = match left.split_once('(') {
            Some((function, rest)) => (function, rest.strip_suffix(')').unwrap_or(rest).trim()),
            None => ("", left.as_str()),
        };
        // Names are written in capitals or not; what follows them, a path or a header, is not Gatus' own.
        let end = inner.find(']').map_or(inner.len(), |end| end + 1);
        let (placeholder, rest) = inner.split_at(end);
        match (function, placeholder.to_ascii_uppercase().as_str(), rest) {
            ("", "[STATUS]", "") => self.status(*operator, right),
            ("", "[RESPONSE_TIME]", "") => self.response_time(*operator, right, key),
            ("", "[CERTIFICATE_EXPIRATION]", "") => self.certificate(*operator, right, key),
            ("", "[CONNECTED]", "") => connected(*operator, right),
            ("", "[BODY]", "") => self.body(*operator, right),
            ("", "[HEADER]", name) => self.header(name, *operator, right),
            ("has", "[HEADER]", name) => self.has_header(name, *operator, right),
            ("" | "len" | "has", "[BODY]", path) => {
                let path = gatus_json::path_of(path).ok_or("is no path that can be read")?;
                match function {
                    "has" => gatus_json::has(self.draft, &path, *operator, right),
                    "len" => {
                        gatus_json::len(self.draft, &path, *operator, right)?;
                        self.section.note(
                            key,
                            "counts the elements of a list; Gatus counts the letters of a text too",
                        );
                        Ok(())
                    }
                    _ => gatus_json::value(self.draft, &path, *operator, right),
                }
            }
            ("", "[IP]", _) => Err(
                "the address cannot be compared: `resolve` and `allow_networks` say which are right",
            ),
            ("", "[DOMAIN_EXPIRATION]", _) => Err("domains are not looked up"),
            ("", "[CONTEXT]" | "[DNS_RCODE]", _) => Err("an HTTP check on its own has none"),
            ("age", ..) => Err("the age of what a server says is not known here"),
            _ => Err("is not known here"),
        }
    }

    fn status(&mut self, operator: Operator, right: &str) -> Result<(), &'static str> {
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| "is compared with something that is no status")
        };
        let allows: Box<dyn Fn(u16) -> bool> = match operand(right) {
            Operand::Text(text) => {
                let number = number(text)?;
                Box::new(move |status| operator.holds(u64::from(status), number))
            }
            Operand::Any(choices) if matches!(operator, Operator::Equal | Operator::NotEqual) => {
                let choices = choices
                    .into_iter()
                    .map(number)
                    .collect::<Result<Vec<_>, _>>()?;
                Box::new(move |status| {
                    choices.contains(&status.into()) == (operator == Operator::Equal)
                })
            }
            Operand::Pattern(pattern)
                if matches!(operator, Operator::Equal | Operator::NotEqual) =>
            {
                let regex = regex_of(pattern, "")
                    .and_then(|text| Pattern::new(&text).ok())
                    .ok_or(UNREADABLE)?;
                Box::new(move |status| {
                    regex.is_match(status.to_string().as_bytes()) == (operator == Operator::Equal)
                })
            }
            _ => return Err(UNREADABLE),
        };
        self.statuses.retain(|status| allows(*status));
        Ok(())
    }

    fn response_time(
        &mut self,
        operator: Operator,
        right: &str,
        key: &str,
    ) -> Result<(), &'static str> {
        if !matches!(operator, Operator::Less | Operator::AtMost) {
            return Err("a check can be too slow, not too quick");
        }
        let limit = right
            .parse()
            .ok()
            .map(Duration::from_millis)
            .or_else(|| duration::parse(right));
        let limit = limit
            .filter(|limit| !limit.is_zero())
            .ok_or("is compared with something that is no time")?;
        self.total = Some(self.total.map_or(limit, |other| other.min(limit)));
        self.section.note(
            key,
            "becomes `limits.total`: over it a check is degraded here, not down",
        );
        Ok(())
    }

    fn certificate(
        &mut self,
        operator: Operator,
        right: &str,
        key: &str,
    ) -> Result<(), &'static str> {
        if !matches!(operator, Operator::Greater | Operator::AtLeast) {
            return Err("a certificate can be valid for too short a time, not for too long");
        }
        let least = right
            .parse()
            .ok()
            .map(Duration::from_millis)
            .or_else(|| duration::parse(right));
        let least = least.ok_or("is compared with something that is no time")?;
        let days = least.as_secs().div_ceil(86_400);
        if !least.as_secs().is_multiple_of(86_400) {
            self.section.note(key, format!("becomes {days} whole days"));
        }
        self.cert_days = self.cert_days.max(days);
        Ok(())
    }

    fn body(&mut self, operator: Operator, right: &str) -> Result<(), &'static str> {
        let option = match operator {
            Operator::Equal => "body_matches",
            Operator::NotEqual => "body_must_not_match",
            _ => return Err("the whole body has no order"),
        };
        // Gatus leaves out the white space around a body.
        let whole = |text: &str| format!(r"^\s*{}\s*$", regex::escape(text));
        let pattern = match operand(right) {
            Operand::Text(text) => whole(text),
            Operand::Pattern(pattern) => regex_of(pattern, r"\s*").ok_or(UNREADABLE)?,
            Operand::Any(choices) => {
                let choices: Vec<String> = choices.into_iter().map(regex::escape).collect();
                format!(r"^\s*(?:{})\s*$", choices.join("|"))
            }
        };
        Pattern::new(&pattern).map_err(|_| "makes too large a regular expression")?;
        // `pat(*)` is true of every body.
        if !pattern.is_empty() || operator == Operator::NotEqual {
            self.draft.add_pattern(option, pattern);
        }
        Ok(())
    }

    fn header(&mut self, name: &str, operator: Operator, right: &str) -> Result<(), &'static str> {
        let name = name
            .strip_prefix('.')
            .ok_or("names no header")?
            .to_ascii_lowercase();
        let (comparison, value) = match (operator, operand(right)) {
            (Operator::Equal, Operand::Text(text)) => ("equals", text.to_owned()),
            (Operator::Equal, Operand::Pattern(pattern)) => {
                ("matches", regex_of(pattern, "").ok_or(UNREADABLE)?)
            }
            (Operator::Equal, Operand::Any(choices)) => {
                let choices: Vec<String> = choices.into_iter().map(regex::escape).collect();
                ("matches", format!("^(?:{})$", choices.join("|")))
            }
            _ => return Err("a header can be equal to a text or match one, nothing else"),
        };
        let is_free = self
            .draft
            .compare("expect_headers", &name, comparison, value.into());
        if is_free {
            Ok(())
        } else {
            Err("the header is compared by a condition before it")
        }
    }

    fn has_header(
        &mut self,
        name: &str,
        operator: Operator,
        right: &str,
    ) -> Result<(), &'static str> {
        let name = name
            .strip_prefix('.')
            .ok_or("names no header")?
            .to_ascii_lowercase();
        let expected = match (operator, right) {
            (Operator::Equal, "true") | (Operator::NotEqual, "false") => "present",
            (Operator::Equal, "false") | (Operator::NotEqual, "true") => "absent",
            _ => return Err("is neither true nor false"),
        };
        let known = self
            .draft
            .options
            .get("expect_headers")
            .and_then(|all| all.get(&name));
        match (known, expected) {
            // What is compared is there.
            (Some(Json::Object(_)), "present") => Ok(()),
            (Some(_), _) => Err("the header is compared by a condition before it"),
            (None, _) => {
                self.draft.set_in("expect_headers", &name, expected);
                Ok(())
            }
        }
    }
}

const UNREADABLE: &str = "a pattern with [ ] or \\ cannot be written";

/// A check that does not connect is never up.
fn connected(operator: Operator, right: &str) -> Result<(), &'static str> {
    match (operator, right) {
        (Operator::Equal, "true") | (Operator::NotEqual, "false") => Ok(()),
        _ => Err("a check that cannot connect is always down"),
    }
}
