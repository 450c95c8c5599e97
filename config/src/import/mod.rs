//! Makes a settings file from another monitor's configuration.
//!
//! Each format has a reader, which takes the keys of the input one by one and puts what they ask for into
//! [`draft::Draft`]s; `write` prints those. A key that nobody takes, and one that asks for something that a site
//! here cannot do, becomes a line of [`Imported::left_out`]: an import never drops anything in silence.
//! Secrets go into the settings as they stand, and never into a line or an error.

mod blackbox;
mod blackbox_module;
mod blackbox_target;
mod draft;
mod duration;
mod gatus;
mod gatus_client;
mod gatus_condition;
mod gatus_json;
mod gatus_value;
mod input;
mod notes;
mod request;
mod section;
mod uptime_kuma;
mod uptime_kuma_auth;
mod uptime_kuma_keys;
mod url_config;
mod write;

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use draft::Draft;
use notes::Notes;

/// Whose configuration is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    /// The `config.yaml` of Gatus.
    Gatus,
    /// The `blackbox.yml` of Prometheus' blackbox_exporter, a Prometheus configuration whose scrape jobs probe
    /// through one, or both, as one document or as several.
    Blackbox,
    /// The JSON backup of Uptime Kuma.
    UptimeKuma,
    /// The `url_config.yaml` of the project that this one comes from.
    UrlConfig,
}

impl ImportFormat {
    /// All formats, by the name that the command line has for each.
    pub const ALL: [(&'static str, ImportFormat); 4] = [
        ("gatus", ImportFormat::Gatus),
        ("blackbox", ImportFormat::Blackbox),
        ("uptime-kuma", ImportFormat::UptimeKuma),
        ("url_config", ImportFormat::UrlConfig),
    ];
}

impl FromStr for ImportFormat {
    type Err = ImportError;

    fn from_str(text: &str) -> Result<Self, ImportError> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known.map(|(_, format)| *format).ok_or_else(|| {
            ImportError::new("an unknown format", &Self::ALL.map(|(n, _)| n).join(", "))
        })
    }
}

impl fmt::Display for ImportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, format)| format == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// What an import gives.
#[derive(Clone, PartialEq, Eq)]
pub struct Imported {
    /// A settings file. It holds the secrets of the input.
    pub yaml: String,
    /// What was not carried over, or not as it was: a line each, with the site or module, the key, and why.
    /// No line holds a secret.
    pub left_out: Vec<String>,
    /// How many sites the file has.
    pub sites: usize,
}

/// Leaves the YAML out: it may hold secrets.
impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imported")
            .field("sites", &self.sites)
            .field("left_out", &self.left_out)
            .finish_non_exhaustive()
    }
}

/// Why a text is not a configuration of the format it was said to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// What stands there, without secrets.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl ImportError {
    fn new(found: &str, expected: &str) -> Self {
        ImportError {
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}; expected {}", self.found, self.expected)
    }
}

impl Error for ImportError {}

/// What a reader makes of a text.
struct Outcome {
    drafts: Vec<Draft>,
    /// Lines for the top of the file: how the two monitors differ, where no single key is to blame.
    remarks: &'static [&'static str],
}

/// Makes a settings file from `text`, another monitor's configuration. Reads no other file.
///
/// # Errors
/// The text is not of this format at all. Whatever a single site asks for is never an error: what cannot be
/// carried over is listed.
pub fn import(format: ImportFormat, text: &str) -> Result<Imported, ImportError> {
    let notes = Notes::default();
    let text = text.trim_start_matches('\u{feff}');
    let mut outcome = match format {
        ImportFormat::Gatus => gatus::read(text, &notes),
        ImportFormat::Blackbox => blackbox::read(text, &notes),
        ImportFormat::UptimeKuma => uptime_kuma::read(text, &notes),
        ImportFormat::UrlConfig => url_config::read(text, &notes),
    }?;
    for draft in &mut outcome.drafts {
        draft.settle(&notes);
        draft.allow_private_host(&notes);
    }
    Ok(Imported {
        yaml: write::settings(format, &outcome),
        left_out: notes.lines(),
        sites: outcome
            .drafts
            .iter()
            .filter(|draft| draft.is_complete)
            .count(),
    })
}
