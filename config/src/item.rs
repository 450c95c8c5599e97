//! One value: read as what it should be, or noted as a problem, after which the caller keeps its default.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Value, ValueKind};

use crate::mask::{mask_user_info, quote};
use crate::origin::{Origin, origin_of};
use crate::report::Report;

/// One value and its place in the settings.
pub(crate) struct Item<'a> {
    pub(crate) value: &'a Value,
    pub(crate) report: &'a Report,
    parent: &'a str,
    name: Cow<'a, str>,
}

impl<'a> Item<'a> {
    pub(crate) fn new(
        value: &'a Value,
        parent: &'a str,
        name: impl Into<Cow<'a, str>>,
        report: &'a Report,
    ) -> Self {
        Item {
            value,
            report,
            parent,
            name: name.into(),
        }
    }

    pub(crate) fn key(&self) -> String {
        match (self.parent, &*self.name) {
            ("", name) => name.to_owned(),
            (parent, name) if name.starts_with('[') => format!("{parent}{name}"),
            (parent, name) => format!("{parent}.{name}"),
        }
    }

    /// Notes that this value is wrong. Always `None`, so that a reader can end with it.
    pub(crate) fn wrong<T>(&self, expected: impl Into<String>) -> Option<T> {
        self.found(self.shown(), expected)
    }

    /// As [`Item::wrong`], with words of its own for what stands there.
    pub(crate) fn found<T>(
        &self,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Option<T> {
        self.report
            .add(origin_of(self.value), &self.key(), found, expected);
        None
    }

    /// Notes that this value is of the wrong type. Tells the type only, since the value may be a secret.
    pub(crate) fn wrong_type<T>(&self, expected: impl Into<String>) -> Option<T> {
        self.found(kind_of(self.value), expected)
    }

    fn shown(&self) -> String {
        match &self.value.kind {
            ValueKind::String(text) => quote(&mask_user_info(text)),
            ValueKind::Float(number) => format!("{number:?}"),
            ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => {
                kind_of(self.value).to_owned()
            }
            number_or_bool => number_or_bool.to_string(),
        }
    }

    /// Variables hold text only, so that text stands for numbers and switches there.
    fn variable_text(&self) -> Option<&'a str> {
        match (&self.value.kind, self.value.origin().map(Origin::decode)) {
            (ValueKind::String(text), Some(Origin::Variable { .. })) => Some(text.trim()),
            _ => None,
        }
    }

    /// Text on one line, not empty.
    pub(crate) fn text(&self, expected: &str) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) if text.trim().is_empty() => self.wrong(expected),
            ValueKind::String(text) if text.chars().any(char::is_control) => self.wrong(format!(
                "{expected} (without line breaks and other control characters)"
            )),
            ValueKind::String(text) => Some(text.trim()),
            _ => self.wrong_type(format!("{expected} (as text, in quotes)")),
        }
    }

    /// A text, number or switch, as text.
    pub(crate) fn scalar(&self) -> Option<String> {
        match &self.value.kind {
            ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
            ValueKind::String(text) => Some(text.trim().to_owned()),
            ValueKind::Float(number) => Some(format!("{number:?}")),
            number_or_bool => Some(number_or_bool.to_string()),
        }
    }

    /// One text or a list of them. In a variable commas stand between them.
    pub(crate) fn texts(&self, expected: &str) -> Option<Vec<String>> {
        if let Some(text) = self.variable_text() {
            let words = text.split(',').map(str::trim);
            return Some(
                words
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect(),
            );
        }
        match &self.value.kind {
            ValueKind::Array(_) => self
                .list(expected)?
                .iter()
                .map(|item| item.text(expected).map(str::to_owned))
                .collect(),
            _ => Some(vec![self.text(expected)?.to_owned()]),
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        let number = match &self.value.kind {
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::U64(number) => Some(*number as f64),
            ValueKind::Float(number) => Some(*number),
            _ => None,
        };
        number.or_else(|| self.wrong("a number"))
    }

    pub(crate) fn whole<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let number = match &self.value.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::U64(number) => Some(*number),
            _ => self.variable_text().and_then(|text| text.parse().ok()),
        };
        match number
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
        {
            Some(number) => Some(number),
            None => self.wrong(format!(
                "a whole number from {} to {}",
                range.start(),
                range.end()
            )),
        }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        if let ValueKind::Boolean(flag) = self.value.kind {
            return Some(flag);
        }
        match self.variable_text().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "1") => Some(true),
            Some("false" | "no" | "off" | "0") => Some(false),
            _ => self.wrong("true or false"),
        }
    }

    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let ValueKind::String(text) = &self.value.kind else {
            return self.wrong("a duration such as 500ms, 10s or 1m");
        };
        let Ok(duration) = humantime::parse_duration(text.trim()) else {
            return self.wrong("a duration such as 500ms, 10s or 1m");
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let (least, most) = (
            humantime::format_duration(*range.start()),
            humantime::format_duration(*range.end()),
        );
        self.wrong(format!("a duration from {least} to {most}"))
    }

    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let chosen = match &self.value.kind {
            ValueKind::String(text) => choices
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text.trim())),
            _ => None,
        };
        match chosen {
            Some((_, value)) => Some(*value),
            None => {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                self.wrong(format!("one of {}", names.join(", ")))
            }
        }
    }

    /// The folder at which relative paths start.
    pub(crate) fn folder(&self) -> PathBuf {
        let origin = origin_of(self.value).map(Origin::decode);
        origin.map_or_else(
            || self.report.working_dir().to_owned(),
            |origin| origin.folder(self.report.working_dir()),
        )
    }

    pub(crate) fn path(&self) -> Option<PathBuf> {
        Some(self.folder().join(self.text("a path")?))
    }

    /// A path at which there is a file.
    pub(crate) fn existing_file(&self) -> Option<PathBuf> {
        let path = self.path()?;
        match missing(&path) {
            Some(why) => self.found(format!("{} ({why})", self.shown()), self.a_file()),
            None => Some(path),
        }
    }

    /// What is expected where a file is missing.
    pub(crate) fn a_file(&self) -> &'static str {
        match origin_of(self.value).map(Origin::decode) {
            Some(Origin::File(_)) => {
                "a file (a relative path starts at the folder of the settings file)"
            }
            _ => "a file (a relative path starts at the working directory)",
        }
    }

    pub(crate) fn list(&self, expected: &str) -> Option<Vec<Item<'a>>> {
        let ValueKind::Array(values) = &self.value.kind else {
            return self.wrong_type(expected);
        };
        let (parent, report) = (self.parent, self.report);
        let item = |(n, value)| Item {
            value,
            report,
            parent,
            name: format!("{}[{n}]", self.name).into(),
        };
        Some(values.iter().enumerate().map(item).collect())
    }
}

/// Why there is no file at `path`, if so.
pub(crate) fn missing(path: &Path) -> Option<&'static str> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Some("a directory"),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Some("permission denied")
        }
        Err(_) => Some("no such file"),
    }
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match &value.kind {
        ValueKind::Nil => "nothing",
        ValueKind::Table(_) => "a mapping",
        ValueKind::Array(_) => "a list",
        ValueKind::String(_) => "text",
        ValueKind::Boolean(_) => "a boolean",
        _ => "a number",
    }
}
