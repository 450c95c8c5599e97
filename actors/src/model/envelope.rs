//! Reads the few fields that tell why a message is not a check of this version: its version, its kind, and words that a later version
//! may have added.

use serde::Deserialize;
use serde_json::Value;

use super::{
    ErrorKind, Outcome,
    message::{CHECK, MESSAGE_VERSION},
};

/// The fields that a message of another version or kind may differ in.
#[derive(Deserialize)]
pub(super) struct Envelope {
    v: Option<Value>,
    kind: Option<String>,
    outcome: Option<Value>,
    error: Option<Value>,
}

impl Envelope {
    /// Returns the version, if it is not this program's.
    pub(super) fn other_version(&self) -> Option<&Value> {
        self.v
            .as_ref()
            .filter(|version| **version != MESSAGE_VERSION)
    }

    /// Returns the kind, if the message is not a check.
    pub(super) fn other_kind(&self) -> Option<&str> {
        self.kind.as_deref().filter(|kind| *kind != CHECK)
    }

    /// Returns the field and its word, if the word is not in this program's list: a later version may have added it.
    pub(super) fn unknown_word(&self) -> Option<(&'static str, &str)> {
        let outcome = self.outcome.as_ref().and_then(Value::as_str);
        let outcome = outcome.filter(|word| Outcome::ALL.iter().all(|it| it.as_str() != *word));
        let error = self.error.as_ref().and_then(Value::as_str);
        let error = error.filter(|word| ErrorKind::ALL.iter().all(|it| it.as_str() != *word));
        let of = |field, word: Option<_>| word.map(|word| (field, word));
        of("outcome", outcome).or(of("error", error))
    }
}
