//! What a site is to people, as it is announced.

use serde::{Deserialize, Serialize};

use super::{
    DeadReason,
    revision::{fits, no_sense},
};

/// The longest name, group or tag, in bytes.
const MAX_WORD: usize = 512;

/// The most tags, and the most former names.
const MAX_WORDS: usize = 64;

/// What a site is to people. In the message its fields are left out where there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Words by which it is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The names that it had before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<String>,
    /// The uptime that is to be reached, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla_target: Option<f64>,
    /// Over how long, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla_window_us: Option<i64>,
}

impl About {
    /// Whether the database takes it.
    ///
    /// # Errors
    /// The reason for which the message becomes a dead letter.
    pub(super) fn check(&self) -> Result<(), (DeadReason, String)> {
        let words = [
            ("group", self.group.as_slice()),
            ("tags", &self.tags),
            ("formerly", &self.formerly),
        ];
        for (field, words) in words {
            for word in words {
                fits(field, word, MAX_WORD)?;
            }
            if words.len() > MAX_WORDS {
                return no_sense(format_args!(
                    "{field} has {} words, at most {MAX_WORDS} are stored",
                    words.len()
                ));
            }
        }
        let sense = |target: f64| target > 0.0 && target < 100.0;
        if !self.sla_target.is_none_or(sense)
            || self.sla_window_us.is_some_and(|window| window <= 0)
        {
            return no_sense(format_args!(
                "sla_target is {:?} and sla_window_us {:?}: the target is more than 0 and less than 100, the window more than 0",
                self.sla_target, self.sla_window_us
            ));
        }
        Ok(())
    }
}
