//! What is stored beside a row, for those few that need more than its columns: why it is not up, or what had failed before.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Error, Map, Value, value::RawValue};

use super::printable;

/// What is stored beside a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// In words.
    pub text: String,
    /// What else the message says about it, a JSON object.
    pub facts: Option<String>,
    /// What the site had answered, a JSON object.
    pub capture: Option<String>,
}

impl Detail {
    /// What it takes in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        let part = |part: &Option<String>| part.as_ref().map_or(0, String::len);
        self.text.len() + part(&self.facts) + part(&self.capture)
    }
}

/// The fields of a message that go there, within the bounds of its schema.
pub(super) struct Facts<'a> {
    pub(super) reached: Option<&'a RawValue>,
    pub(super) attempts: i64,
    pub(super) failures: Option<&'a RawValue>,
    pub(super) failed_attempts: Option<&'a RawValue>,
    pub(super) refused: Option<&'a RawValue>,
    pub(super) final_url: Option<&'a RawValue>,
    pub(super) hops: Option<&'a RawValue>,
    pub(super) capture: Option<&'a RawValue>,
}

/// The part of a failed attempt that is put into words.
#[derive(Deserialize)]
struct Failed<'a> {
    #[serde(borrow)]
    error: Cow<'a, str>,
    #[serde(borrow)]
    error_detail: Cow<'a, str>,
}

impl Facts<'_> {
    /// What is stored beside the row. Nothing for a check that was up at once.
    ///
    /// # Errors
    /// What is not what it should be.
    pub(super) fn detail(&self, words: Option<&str>) -> Result<Option<Box<Detail>>, Error> {
        let text = match (words, self.failed_attempts) {
            (Some(words), _) => printable(words),
            (None, Some(failed)) => in_words(failed)?,
            (None, None) => return Ok(None),
        };
        let parts = [
            ("reached", self.reached),
            ("failures", self.failures),
            ("failed_attempts", self.failed_attempts),
            ("refused", self.refused),
            ("final_url", self.final_url),
            ("hops", self.hops),
        ];
        // Views read it as a whole number, however the message writes it.
        let mut facts = Map::from_iter([("attempts".to_owned(), self.attempts.into())]);
        for (name, part) in parts {
            if let Some(part) = part {
                facts.insert(name.to_owned(), serde_json::from_str(part.get())?);
            }
        }
        let capture = self.capture.map(|part| serde_json::from_str(part.get()));
        let capture: Option<Value> = capture.transpose()?;
        Ok(Some(Box::new(Detail {
            text,
            facts: Some(storable(&Value::Object(facts))),
            capture: capture.as_ref().map(storable),
        })))
    }
}

fn in_words(failed: &RawValue) -> Result<String, Error> {
    let failed: Vec<Failed<'_>> = serde_json::from_str(failed.get())?;
    let words = |(n, failed): (usize, &Failed<'_>)| {
        let (error, detail) = (&failed.error, &failed.error_detail);
        format!("attempt {} failed: {error}: {detail}", n + 1)
    };
    let all: Vec<_> = failed.iter().enumerate().map(words).collect();
    // Of ten attempts the first ones tell enough.
    let mut text = all.join("; ");
    text.truncate(text.floor_char_boundary(1024));
    Ok(printable(&text))
}

/// JSON as PostgreSQL's jsonb takes it: without NUL, written out or not.
fn storable(json: &Value) -> String {
    json.to_string().replace("\\u0000", "\\ufffd")
}
