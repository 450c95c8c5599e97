//! What is wrong with the settings, in words for the person who wrote them.

use std::error::Error;
use std::fmt;

/// One mistake: where it is, what stands there, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, `environment`, `.env` or `--site`.
    pub source: String,
    /// The setting in the file, such as `sites[3] (front page).timeout`, or the environment variable.
    /// Empty where the source as a whole is meant.
    pub key: String,
    /// What stands there, quoted, without secrets.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "found {}; expected {}", self.found, self.expected)
    }
}

impl Error for Problem {}

/// All mistakes of one attempt to load the settings. Its text has a line that counts them, then a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(
    /// In the order in which they were met.
    pub Vec<Problem>,
);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 problem in the settings:")?,
            n => write!(f, "{n} problems in the settings:")?,
        }
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl Error for Problems {}
