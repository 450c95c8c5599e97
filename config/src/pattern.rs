//! Regular expressions on bodies.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

/// What a compiled pattern may weigh: enough for any sensible check, and harmless ten thousand times over.
const SIZE_LIMIT: usize = 1 << 20;

/// A compiled regular expression, which matches in linear time. Cheap to clone; equal if the texts are.
#[derive(Clone)]
pub struct Pattern(Arc<Regex>);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(text)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .build();
        built
            .map(|regex| Pattern(Arc::new(regex)))
            .map_err(|error| condense(&error))
    }

    /// Whether it matches anywhere in `body`.
    pub fn is_match(&self, body: &[u8]) -> bool {
        self.0.is_match(body)
    }

    /// Where it first matches in `body`, as a range of bytes.
    pub fn find(&self, body: &[u8]) -> Option<std::ops::Range<usize>> {
        self.0.find(body).map(|found| found.range())
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The message has the pattern with a mark below the place, on several lines; its last line says what is wrong.
fn condense(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("too large: more than {limit} bytes when compiled")
        }
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.as_str())
    }
}

/// Compiles each pattern once, however many sites have it.
#[derive(Default)]
pub(crate) struct Patterns(HashMap<String, Result<Pattern, String>>);

impl Patterns {
    pub(crate) fn get(&mut self, text: &str) -> Result<Pattern, String> {
        if !self.0.contains_key(text) {
            self.0.insert(text.to_owned(), Pattern::new(text));
        }
        self.0[text].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles_a_pattern_once() {
        let mut patterns = Patterns::default();
        let (one, two) = (patterns.get("a+").unwrap(), patterns.get("a+").unwrap());
        assert!(Arc::ptr_eq(&one.0, &two.0));
        assert!(one.is_match(b"\xffcaat") && !one.is_match(b"dog"));
        assert_eq!(one, Pattern::new("a+").unwrap());
    }

    #[test]
    fn tells_on_one_line_what_is_wrong() {
        assert_eq!(Pattern::new("(a"), Err("unclosed group".to_owned()));
        assert_eq!(
            Pattern::new(r"(\w{500}){500}"),
            Err("too large: more than 1048576 bytes when compiled".to_owned())
        );
    }
}
