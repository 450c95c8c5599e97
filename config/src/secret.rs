//! Text that must not be printed.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::mask::MASK;

/// A secret. It prints and serializes as `***`; only [`Secret::reveal`] gives the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret {
    text: String,
    /// Set if a reference led to it: then it is a credential, whatever the setting is called.
    is_referenced: bool,
}

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret {
            text: text.into(),
            is_referenced: false,
        }
    }

    /// Wraps a text to which `${NAME}`, `file:PATH` or a variable of the environment led.
    pub(crate) fn referenced(text: impl Into<String>) -> Self {
        Secret {
            text: text.into(),
            is_referenced: true,
        }
    }

    /// Returns true if `${NAME}`, `file:PATH` or a variable of the environment led to it.
    pub fn is_referenced(&self) -> bool {
        self.is_referenced
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}
