//! What is sent with a request.

use std::fmt;

use config::{Value, ValueKind};

use crate::item::Item;
use crate::mask::MASK;

/// The body of a request. It prints its size only, since it may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Whether it was written as a mapping or list and is sent as JSON.
    pub is_json: bool,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Body {{ bytes: {MASK} ({}), is_json: {} }}",
            self.bytes.len(),
            self.is_json
        )
    }
}

pub(crate) fn read(item: &Item<'_>) -> Option<Body> {
    match &item.value.kind {
        ValueKind::String(text) => Some(Body {
            bytes: text.as_bytes().to_vec(),
            is_json: false,
        }),
        ValueKind::Table(_) | ValueKind::Array(_) => {
            let bytes = json(item.value).to_string().into_bytes();
            Some(Body {
                bytes,
                is_json: true,
            })
        }
        _ => item.wrong_type("text, or a mapping or list, which is sent as JSON"),
    }
}

/// A value of the settings as JSON.
pub(crate) fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Nil => serde_json::Value::Null,
        ValueKind::Boolean(flag) => (*flag).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::U64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Array(list) => list.iter().map(json).collect(),
        ValueKind::Table(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), json(value)))
            .collect(),
        // No parser gives these.
        other @ (ValueKind::I128(_) | ValueKind::U128(_)) => other.to_string().into(),
    }
}
