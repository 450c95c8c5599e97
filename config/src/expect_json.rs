//! What must stand in a body of JSON.

use std::fmt;
use std::hash::{Hash, Hasher};

use config::ValueKind;
use serde::{Serialize, Serializer};
use serde_json_path::JsonPath;

use crate::body::json;
use crate::expect::regex;
use crate::fields::Fields;
use crate::item::Item;
use crate::pattern::{Pattern, Patterns};

/// What the values that a path finds must be. Without any value only [`JsonCondition::Exists`]`(false)` holds.
#[derive(Clone, Debug)]
pub struct JsonRule {
    /// Where to look (RFC 9535).
    pub path: JsonPath,
    /// What every value must be.
    pub conditions: Vec<JsonCondition>,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonCondition {
    /// Equal to this.
    Equals(serde_json::Value),
    /// Something else.
    NotEquals(serde_json::Value),
    /// A smaller number.
    LessThan(f64),
    /// This number or a smaller one.
    AtMost(f64),
    /// A larger number.
    GreaterThan(f64),
    /// This number or a larger one.
    AtLeast(f64),
    /// Text that matches.
    Matches(Pattern),
    /// There, or not there.
    Exists(bool),
}

impl fmt::Display for JsonCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(value) => write!(f, "equals {value}"),
            Self::NotEquals(value) => write!(f, "not_equals {value}"),
            Self::LessThan(number) => write!(f, "less_than {number}"),
            Self::AtMost(number) => write!(f, "at_most {number}"),
            Self::GreaterThan(number) => write!(f, "greater_than {number}"),
            Self::AtLeast(number) => write!(f, "at_least {number}"),
            Self::Matches(pattern) => write!(f, "matches {}", pattern.as_str()),
            Self::Exists(there) => write!(f, "exists {there}"),
        }
    }
}

impl JsonRule {
    fn as_text(&self) -> (String, Vec<String>) {
        let conditions = self.conditions.iter().map(ToString::to_string).collect();
        (self.path.to_string(), conditions)
    }
}

impl PartialEq for JsonRule {
    fn eq(&self, other: &Self) -> bool {
        self.as_text() == other.as_text()
    }
}

impl Eq for JsonRule {}

impl Hash for JsonRule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_text().hash(state);
    }
}

/// As it is written.
pub(crate) fn as_mapping<S: Serializer>(
    rules: &[JsonRule],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let conditions = |rule: &JsonRule| -> Vec<String> { rule.as_text().1 };
    serializer.collect_map(
        rules
            .iter()
            .map(|rule| (rule.path.to_string(), conditions(rule).join(", "))),
    )
}

/// The rules that are written, if any.
pub(crate) fn read(fields: &Fields<'_>, patterns: &mut Patterns) -> Option<Vec<JsonRule>> {
    let section = fields.section("expect_json");
    if !section.is_written() {
        return None;
    }
    let mut rules = Vec::new();
    for (path, item) in section.entries() {
        let path = match JsonPath::parse(path) {
            Ok(path) => path,
            Err(error) => {
                item.found::<()>(
                    "a path that can't be read",
                    format!("a JSONPath such as $.status ({error})"),
                );
                continue;
            }
        };
        if let Some(conditions) = conditions(&item, patterns) {
            rules.push(JsonRule { path, conditions });
        }
    }
    Some(rules)
}

fn conditions(item: &Item<'_>, patterns: &mut Patterns) -> Option<Vec<JsonCondition>> {
    const EXPECTED: &str = "a comparison such as { equals: ok } or { less_than: 500 }";
    let ValueKind::Table(table) = &item.value.kind else {
        return item.wrong_type(EXPECTED);
    };
    if table.is_empty() {
        return item.found("no comparison", EXPECTED);
    }
    let fields = Fields::of(item.value, item.key(), item.report);
    let mut conditions = Vec::new();
    let mut add = |condition: Option<JsonCondition>| conditions.extend(condition);
    let value = |name| fields.item(name).map(|item: Item<'_>| json(item.value));
    let number = |name| fields.item(name).and_then(|item: Item<'_>| item.number());
    add(value("equals").map(JsonCondition::Equals));
    add(value("not_equals").map(JsonCondition::NotEquals));
    add(number("less_than").map(JsonCondition::LessThan));
    add(number("at_most").map(JsonCondition::AtMost));
    add(number("greater_than").map(JsonCondition::GreaterThan));
    add(number("at_least").map(JsonCondition::AtLeast));
    add(fields
        .item("matches")
        .and_then(|item| regex(&item, patterns))
        .map(JsonCondition::Matches));
    add(fields
        .item("exists")
        .and_then(|item| item.flag())
        .map(JsonCondition::Exists));
    fields.finish();
    Some(conditions)
}
