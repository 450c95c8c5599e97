//! What is read of a message that is no whole check: is it of another kind, of another version, or has it a word that is new?

use serde::Deserialize;
use serde_json::Value;

use super::{
    ErrorKind, Outcome,
    message::{CHECK, MESSAGE_VERSION},
};

/// The fields by which a message of another producer is known.
#[derive(Deserialize)]
pub(super) struct Envelope {
    v: Option<Value>,
    kind: Option<String>,
    outcome: Option<Value>,
    error: Option<Value>,
}

impl Envelope {
    /// The version, if it is not this program's.
    pub(super) fn other_version(&self) -> Option<&Value> {
        self.v
            .as_ref()
            .filter(|version| **version != MESSAGE_VERSION)
    }

    /// The kind, if it is no check.
    pub(super) fn other_kind(&self) -> Option<&str> {
        self.kind.as_deref().filter(|kind| *kind != CHECK)
    }

    /// The field with a word that this program does not know: a later one has added it to the list.
    pub(super) fn unknown_word(&self) -> Option<(&'static str, &str)> {
        let outcome = self.outcome.as_ref().and_then(Value::as_str);
        let outcome = outcome.filter(|word| Outcome::ALL.iter().all(|it| it.as_str() != *word));
        let error = self.error.as_ref().and_then(Value::as_str);
        let error = error.filter(|word| ErrorKind::ALL.iter().all(|it| it.as_str() != *word));
        let of = |field, word: Option<_>| word.map(|word| (field, word));
        of("outcome", outcome).or(of("error", error))
    }
}
