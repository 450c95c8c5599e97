//! A table of settings.

use std::cell::RefCell;

use config::{Map, Value, ValueKind};

use crate::item::Item;
use crate::origin::{Origin, origin_of};
use crate::report::Report;
use crate::suggest::nearest;

/// A table, of which each key is asked for by name; [`Fields::finish`] reports the keys nobody asked for.
pub(crate) struct Fields<'a> {
    pub(crate) report: &'a Report,
    key: String,
    table: Option<&'a Map<String, Value>>,
    origin: Option<&'a str>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn root(value: &'a Value, report: &'a Report) -> Self {
        Self::of(value, String::new(), report)
    }

    pub(crate) fn of(value: &'a Value, key: String, report: &'a Report) -> Self {
        let table = match &value.kind {
            ValueKind::Table(table) => Some(table),
            _ => None,
        };
        Fields {
            report,
            key,
            table,
            origin: origin_of(value),
            known: RefCell::default(),
        }
    }

    /// Allows a key that is read elsewhere.
    pub(crate) fn know(&self, name: &'static str) {
        self.known.borrow_mut().push(name);
    }

    /// Whether something is written at `section.name`.
    pub(crate) fn has(&self, section: &str, name: &str) -> bool {
        let within = self.table.and_then(|table| table.get(section));
        matches!(within.map(|value| &value.kind), Some(ValueKind::Table(table))
            if table.get(name).is_some_and(|value| value.kind != ValueKind::Nil))
    }

    /// The value of a key, unless it is left out or empty.
    pub(crate) fn item(&'a self, name: &'static str) -> Option<Item<'a>> {
        self.know(name);
        let value = self.table?.get(name)?;
        (value.kind != ValueKind::Nil).then(|| Item::new(value, &self.key, name, self.report))
    }

    /// The table of a key, as good as empty if it is left out.
    pub(crate) fn section(&'a self, name: &'static str) -> Fields<'a> {
        let section = self.item(name).and_then(|item| match item.value.kind {
            ValueKind::Table(_) => Some(Fields::of(item.value, item.key(), self.report)),
            _ => item.wrong_type("a mapping"),
        });
        section.unwrap_or_else(|| {
            let key = Item::new(&EMPTY, &self.key, name, self.report).key();
            Fields {
                report: self.report,
                key,
                table: None,
                origin: None,
                known: RefCell::default(),
            }
        })
    }

    pub(crate) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// All entries, of a table whose keys are the user's own.
    pub(crate) fn entries(&'a self) -> impl Iterator<Item = (&'a String, Item<'a>)> {
        let entry = |(name, value): (&'a String, &'a Value)| {
            (
                name,
                Item::new(value, &self.key, name.as_str(), self.report),
            )
        };
        self.table.into_iter().flatten().map(entry)
    }

    /// Where a key is written here, if it is: its place and its origin.
    pub(crate) fn place_of(&self, name: &str) -> Option<(String, &str)> {
        let value = self.table?.get(name)?;
        let key = Item::new(value, &self.key, name, self.report).key();
        Some((key, origin_of(value)?))
    }

    /// Notes that a key is missing.
    pub(crate) fn missing(&self, name: &str, expected: impl Into<String>) {
        let key = Item::new(&EMPTY, &self.key, name, self.report).key();
        // A variable is to blame for what it says only, not for what is left out beside it.
        let origin = self
            .origin
            .filter(|origin| matches!(Origin::decode(origin), Origin::File(_)));
        self.report.add(origin, &key, "nothing", expected);
    }

    /// Reports the keys nobody asked for.
    pub(crate) fn finish(&self) {
        let mut known = self.known.borrow_mut();
        known.sort_unstable();
        for (name, item) in self
            .entries()
            .filter(|(name, _)| !known.contains(&name.as_str()))
        {
            let expected = match nearest(name, &known) {
                Some(meant) => format!("{meant} (did you mean that?)"),
                None => format!("one of {}", known.join(", ")),
            };
            item.found::<()>(format!("the unknown key {name}"), expected);
        }
    }
}

static EMPTY: std::sync::LazyLock<Value> =
    std::sync::LazyLock::new(|| Value::new(None, ValueKind::Nil));
