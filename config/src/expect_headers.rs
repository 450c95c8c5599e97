//! What must stand in the headers of an answer.

use config::ValueKind;
use serde::{Serialize, Serializer};

use crate::expect::regex;
use crate::fields::Fields;
use crate::headers::is_token;
use crate::item::Item;
use crate::mask::{MASK, is_sensitive_header, quote};
use crate::pattern::{Pattern, Patterns};

/// What one header must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderRule {
    /// Its name, in small letters.
    pub name: String,
    /// What it must be.
    pub condition: HeaderCondition,
}

/// What a header must be. Of one that comes more than once, one value must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderCondition {
    /// There.
    Present,
    /// Not there.
    Absent,
    /// Exactly this.
    Equals(String),
    /// Something that matches.
    Matches(Pattern),
}

/// As it is written, but for the values of headers that may hold a credential.
pub(crate) fn as_mapping<S: Serializer>(
    rules: &[HeaderRule],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let shown = |rule: &HeaderRule| match &rule.condition {
        HeaderCondition::Equals(_) if is_sensitive_header(&rule.name) => {
            HeaderCondition::Equals(MASK.to_owned())
        }
        other => other.clone(),
    };
    serializer.collect_map(rules.iter().map(|rule| (&rule.name, shown(rule))))
}

/// The rules that are written, if any.
pub(crate) fn read(fields: &Fields<'_>, patterns: &mut Patterns) -> Option<Vec<HeaderRule>> {
    let section = fields.section("expect_headers");
    if !section.is_written() {
        return None;
    }
    let mut rules = Vec::new();
    for (name, item) in section.entries() {
        if !is_token(name) {
            item.found::<()>(
                format!("the name {}", quote(name)),
                "a header name: letters, digits and dashes",
            );
        } else if let Some(condition) = condition(&item, patterns) {
            rules.push(HeaderRule {
                name: name.to_ascii_lowercase(),
                condition,
            });
        }
    }
    Some(rules)
}

fn condition(item: &Item<'_>, patterns: &mut Patterns) -> Option<HeaderCondition> {
    const EXPECTED: &str = "present, absent, { equals: text } or { matches: regular expression }";
    match &item.value.kind {
        ValueKind::String(text) if text == "present" => Some(HeaderCondition::Present),
        ValueKind::String(text) if text == "absent" => Some(HeaderCondition::Absent),
        ValueKind::Table(table) if table.len() == 1 => {
            let fields = Fields::of(item.value, item.key(), item.report);
            let (equals, matches) = (fields.item("equals"), fields.item("matches"));
            fields.finish();
            if let Some(equals) = equals {
                let text = equals.scalar().or_else(|| equals.wrong_type("text"))?;
                return Some(HeaderCondition::Equals(text));
            }
            Some(HeaderCondition::Matches(regex(&matches?, patterns)?))
        }
        ValueKind::String(_) => item.wrong(EXPECTED),
        _ => item.wrong_type(EXPECTED),
    }
}
