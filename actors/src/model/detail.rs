//! What is stored beside a row, for those few that need more than its columns: why it is not up, or what had failed before.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::printable;

/// The most that a message's part may have that is stored as it came, in bytes of JSON: a capture of 64 KiB of control
/// characters, each of which JSON writes with six bytes, and headers.
const MAX_PART: usize = 512 << 10;

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

/// The fields of a message that go there, as they came.
pub(super) struct Facts<'a> {
    pub(super) reached: Option<&'a RawValue>,
    pub(super) attempts: Option<&'a RawValue>,
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
    /// What does not fit, or is not what it should be.
    pub(super) fn detail(&self, words: Option<&str>) -> Result<Option<Box<Detail>>, String> {
        let text = match (words, self.failed_attempts) {
            (Some(words), _) => printable(words),
            (None, Some(failed)) => in_words(failed)?,
            (None, None) => return Ok(None),
        };
        let parts = [
            ("reached", self.reached),
            ("attempts", self.attempts),
            ("failures", self.failures),
            ("failed_attempts", self.failed_attempts),
            ("refused", self.refused),
            ("final_url", self.final_url),
            ("hops", self.hops),
        ];
        let mut facts = String::from("{");
        for (name, part) in parts {
            if let Some(part) = part {
                let comma = if facts.len() > 1 { "," } else { "" };
                facts += &format!("{comma}\"{name}\":{}", part.get());
            }
        }
        facts.push('}');
        let capture = self.capture.map(|capture| storable(capture.get()));
        for part in std::iter::once(&facts).chain(&capture) {
            if part.len() > MAX_PART {
                return Err(format!(
                    "a part has {} bytes, at most {MAX_PART} are stored",
                    part.len()
                ));
            }
        }
        Ok(Some(Box::new(Detail {
            text,
            facts: (facts.len() > 2).then(|| storable(&facts)),
            capture,
        })))
    }
}

fn in_words(failed: &RawValue) -> Result<String, String> {
    let failed: Vec<Failed<'_>> = serde_json::from_str(failed.get())
        .map_err(|error| format!("failed_attempts can't be read: {error}"))?;
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

/// PostgreSQL's jsonb takes no NUL, written out or not.
fn storable(json: &str) -> String {
    json.replace("\\u0000", "\\ufffd")
}
