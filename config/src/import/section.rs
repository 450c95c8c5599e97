//! One mapping of the input, of which each key is taken by name.

use config::{Map, Value, ValueKind};

use super::notes::Notes;
use crate::item::kind_of;

/// A mapping. What is left in it at the end is unknown, and noted.
pub(super) struct Section<'n> {
    pub(super) notes: &'n Notes,
    /// The site, module or job, as notes name it; empty for the file itself.
    pub(super) place: String,
    /// The keys that lead here, as `client.tls.`.
    prefix: String,
    table: Map<String, Value>,
}

impl<'n> Section<'n> {
    pub(super) fn new(place: &str, mut table: Map<String, Value>, notes: &'n Notes) -> Self {
        merge(&mut table);
        Section {
            notes,
            place: place.to_owned(),
            prefix: String::new(),
            table,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether something is written at `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table
            .get(key)
            .is_some_and(|value| value.kind != ValueKind::Nil)
    }

    /// Notes that a key is not carried over, or not as it was.
    pub(super) fn note(&self, key: &str, why: impl Into<String>) {
        self.notes
            .key(&self.place, &format!("{}{key}", self.prefix), why);
    }

    /// The value of a key, which stays.
    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        self.table.get(key)
    }

    /// Takes the value of a key out, unless there is none.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.table
            .shift_remove(key)
            .filter(|value| value.kind != ValueKind::Nil)
    }

    /// Takes text, or a number or switch as text. Empty text counts as none.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let value = self.take(key)?;
        match text_of(&value) {
            Some(text) => Some(text).filter(|text| !text.is_empty()),
            None => self.wrong(key, &value, "text"),
        }
    }

    /// Takes text that must be kept to the letter. YAML reads digits without quotes as a number.
    pub(super) fn secret(&mut self, key: &str) -> Option<String> {
        let is_number = |value: &Value| {
            !matches!(
                value.kind,
                ValueKind::String(_) | ValueKind::Table(_) | ValueKind::Array(_)
            )
        };
        if self
            .table
            .get(key)
            .is_some_and(|value| value.kind != ValueKind::Nil && is_number(value))
        {
            self.note(key, "is a number or switch without quotes: see whether it is written here to the letter");
        }
        self.text(key)
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.take(key)?;
        match &value.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            ValueKind::I64(0) => Some(false),
            ValueKind::I64(1) => Some(true),
            ValueKind::String(text) if text == "true" => Some(true),
            ValueKind::String(text) if text == "false" || text.is_empty() => Some(false),
            _ => self.wrong(key, &value, "true or false"),
        }
    }

    pub(super) fn number(&mut self, key: &str) -> Option<f64> {
        let value = self.take(key)?;
        match text_of(&value)
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|number| number.is_finite())
        {
            Some(number) => Some(number),
            None => self.wrong(key, &value, "a number"),
        }
    }

    /// Takes a list of texts; a single one stands for a list.
    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        let values = match self.take(key) {
            None => Vec::new(),
            Some(Value {
                kind: ValueKind::Array(values),
                ..
            }) => values,
            Some(value) => vec![value],
        };
        let text = |value: &Value| text_of(value).or_else(|| self.wrong(key, value, "text"));
        values
            .iter()
            .filter_map(text)
            .filter(|text| !text.is_empty())
            .collect()
    }

    /// Takes a mapping.
    pub(super) fn section(&mut self, key: &str) -> Option<Section<'n>> {
        let value = self.take(key)?;
        let ValueKind::Table(mut table) = value.kind else {
            return self.wrong(key, &value, "a mapping");
        };
        merge(&mut table);
        Some(Section {
            notes: self.notes,
            place: self.place.clone(),
            prefix: format!("{}{key}.", self.prefix),
            table,
        })
    }

    /// Takes a list of mappings.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Section<'n>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let ValueKind::Array(values) = value.kind else {
            self.wrong::<()>(key, &value, "a list");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (n, value) in values.into_iter().enumerate() {
            let key = format!("{key}[{n}]");
            match value.kind {
                ValueKind::Table(mut table) => {
                    merge(&mut table);
                    sections.push(Section {
                        notes: self.notes,
                        place: self.place.clone(),
                        prefix: format!("{}{key}.", self.prefix),
                        table,
                    });
                }
                _ => drop(self.wrong::<()>(&key, &value, "a mapping")),
            }
        }
        sections
    }

    /// From here on this is a place of its own: notes start anew with its name.
    pub(super) fn rename(&mut self, place: &str) {
        place.clone_into(&mut self.place);
        self.prefix.clear();
    }

    /// Takes all entries of a mapping whose keys are the user's own.
    pub(super) fn entries(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.table).into_iter().collect()
    }

    /// The keys that end in `suffix`.
    pub(super) fn keys_ending(&self, suffix: &str) -> Vec<String> {
        self.table
            .keys()
            .filter(|key| key.ends_with(suffix))
            .cloned()
            .collect()
    }

    /// Notes keys that have no counterpart. A switch that is off, and what is empty, asks for nothing.
    pub(super) fn left_out(&mut self, keys: &[&str], why: &str) {
        for key in keys {
            if self
                .take(key)
                .is_some_and(|value| asks_for_something(&value))
            {
                self.note(key, why);
            }
        }
    }

    /// Notes all keys that nobody took.
    pub(super) fn finish(&mut self) {
        for (key, value) in self.entries() {
            if value.kind != ValueKind::Nil {
                self.note(&key, "unknown, so not carried over");
            }
        }
    }

    fn wrong<T>(&self, key: &str, value: &Value, expected: &str) -> Option<T> {
        self.note(
            key,
            format!("is {} where {expected} should be", kind_of(value)),
        );
        None
    }
}

/// Text, or a number or switch as text.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
        number_or_switch => Some(number_or_switch.to_string()),
    }
}

fn asks_for_something(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Nil | ValueKind::Boolean(false) => false,
        ValueKind::String(text) => !text.is_empty(),
        ValueKind::Array(list) => !list.is_empty(),
        ValueKind::Table(table) => !table.is_empty(),
        _ => true,
    }
}

/// Resolves YAML's merge key `<<`, which the parser leaves as it is. Keys of the mapping itself win.
fn merge(table: &mut Map<String, Value>) {
    let Some(merged) = table.shift_remove("<<") else {
        return;
    };
    let tables = match merged.kind {
        ValueKind::Array(tables) => tables,
        _ => vec![merged],
    };
    for one in tables {
        if let ValueKind::Table(mut one) = one.kind {
            merge(&mut one);
            for (key, value) in one {
                table.entry(key).or_insert(value);
            }
        }
    }
}
