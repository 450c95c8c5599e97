//! What is sent with a request.

use std::fmt;

use config::{Value, ValueKind};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::fields::Fields;
use crate::item::Item;
use crate::mask::{MASK, is_sensitive};
use crate::reference;
use crate::request::file_content;

/// The largest body that is sent.
const LARGEST: u64 = 16 << 20;

/// The body of a request. It prints its size only, since it may hold a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Body {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// How it was written, from which its content type follows.
    pub form: BodyForm,
    /// Set for a body that only the site's own origin may get: a part of it came from a reference, a key in it is that of a credential
    /// (`password`, `api_key`), or it is a file, into which nobody has looked.
    pub is_private: bool,
}

/// How a body was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyForm {
    /// As text.
    Text,
    /// As a file.
    File,
    /// As a value that is sent as JSON.
    Json,
    /// As a mapping that is sent as a form.
    Form,
}

impl BodyForm {
    const ALL: [(&'static str, Self); 4] = [
        ("body", Self::Text),
        ("json", Self::Json),
        ("form", Self::Form),
        ("body_file", Self::File),
    ];

    /// The content type that goes with it unless the headers name one.
    pub fn content_type(self) -> Option<&'static str> {
        match self {
            Self::Text | Self::File => None,
            Self::Json => Some("application/json"),
            Self::Form => Some("application/x-www-form-urlencoded"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "body",
            Self::File => "body_file",
            Self::Json => "json",
            Self::Form => "form",
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Body {{ bytes: {MASK} ({}), form: {:?} }}",
            self.bytes.len(),
            self.form
        )
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let hidden = format!("{MASK} ({} bytes)", self.bytes.len());
        map.serialize_entry(self.form.name(), &hidden)?;
        map.end()
    }
}

/// The body that is written, if any.
pub(crate) fn read(fields: &Fields<'_>) -> Option<Body> {
    let written: Vec<(Item<'_>, BodyForm)> = BodyForm::ALL
        .into_iter()
        .filter_map(|(name, form)| Some((fields.item(name)?, form)))
        .collect();
    if let [_, (second, _), ..] = &*written {
        return second.found(
            "a second body",
            "only one of body, json, form and body_file",
        );
    }
    let (item, form) = written.into_iter().next()?;
    match form {
        BodyForm::Text => text_or_json(&item),
        BodyForm::Json => json_body(&item),
        BodyForm::Form => form_body(&item),
        BodyForm::File => Some(Body {
            bytes: file_content(&item, LARGEST)?.bytes,
            form,
            is_private: true,
        }),
    }
}

fn text_or_json(item: &Item<'_>) -> Option<Body> {
    match &item.value.kind {
        ValueKind::String(text) => {
            let filled = reference::fill_in(item, text)?;
            Some(Body {
                bytes: filled.text.into_bytes(),
                form: BodyForm::Text,
                is_private: filled.is_secret,
            })
        }
        ValueKind::Table(_) | ValueKind::Array(_) => json_body(item),
        _ => item.wrong_type("text, or a mapping or list, which is sent as JSON"),
    }
}

fn json_body(item: &Item<'_>) -> Option<Body> {
    let mut value = json(item.value);
    let mut is_private = has_sensitive_key(&value);
    let mut fill_in = |text: &str| {
        let filled = reference::fill_in(item, text)?;
        is_private |= filled.is_secret;
        Some(filled.text)
    };
    change_texts(&mut value, &mut fill_in)?;
    Some(Body {
        bytes: value.to_string().into_bytes(),
        form: BodyForm::Json,
        is_private,
    })
}

/// Looks for a key of a credential in `value`, at any depth.
fn has_sensitive_key(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(map) => map
            .iter()
            .any(|(key, value)| is_sensitive(key) || has_sensitive_key(value)),
        serde_json::Value::Array(list) => list.iter().any(has_sensitive_key),
        _ => false,
    }
}

/// Changes all texts in `value`, keys left out. `None` as soon as one can't be.
pub(crate) fn change_texts(
    value: &mut serde_json::Value,
    change: &mut dyn FnMut(&str) -> Option<String>,
) -> Option<()> {
    match value {
        serde_json::Value::String(text) => *text = change(text)?,
        serde_json::Value::Array(list) => {
            for value in list {
                change_texts(value, change)?;
            }
        }
        serde_json::Value::Object(map) => {
            for value in map.values_mut() {
                change_texts(value, change)?;
            }
        }
        _ => {}
    }
    Some(())
}

fn form_body(item: &Item<'_>) -> Option<Body> {
    const EXPECTED: &str = "a mapping of names to texts, numbers or lists of these";
    let ValueKind::Table(table) = &item.value.kind else {
        return item.wrong_type(EXPECTED);
    };
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let mut is_private = table.keys().any(|name| is_sensitive(name));
    for (name, value) in table {
        let values = match &value.kind {
            ValueKind::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        for value in values {
            match json(value) {
                serde_json::Value::String(text) => {
                    let filled = reference::fill_in(item, &text)?;
                    is_private |= filled.is_secret;
                    form.append_pair(name, &filled.text)
                }
                other @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
                    form.append_pair(name, &other.to_string())
                }
                _ => return item.wrong_type(EXPECTED),
            };
        }
    }
    Some(Body {
        bytes: form.finish().into_bytes(),
        form: BodyForm::Form,
        is_private,
    })
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
