//! Reads one settings file: YAML, TOML or JSON, told apart by the extension.

use std::error::Error;
use std::fs;
use std::path::Path;

use config::{ConfigError, FileFormat, Format, Map, Value};

use crate::origin::Origin;
use crate::report::Report;

/// Reads the file at `shown`, a path as the user wrote it. `None` after a problem.
pub(crate) fn read(shown: &Path, report: &Report) -> Option<Map<String, Value>> {
    let origin = Origin::File(&shown.to_string_lossy()).encode();
    let problem = |found: String, expected: &str| report.add(Some(&origin), "", found, expected);

    let format = match shown.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => FileFormat::Yaml,
        Some("toml") => FileFormat::Toml,
        Some("json") => FileFormat::Json,
        _ => {
            let found = if report.working_dir().join(shown).exists() {
                "a name of unknown kind"
            } else {
                "no such file"
            };
            problem(
                found.to_owned(),
                "a file that ends in .yaml, .yml, .toml or .json",
            );
            return None;
        }
    };
    let path = report.working_dir().join(shown);
    if path.is_dir() {
        problem("a directory".to_owned(), "a settings file");
        return None;
    }
    let text = match fs::read(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                problem(
                    "bytes that are not UTF-8".to_owned(),
                    "a text file in UTF-8",
                );
                return None;
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            problem("no such file".to_owned(), "a settings file");
            return None;
        }
        Err(error) => {
            problem(
                format!("a file that cannot be read ({error})"),
                "a readable settings file",
            );
            return None;
        }
    };
    match format.parse(Some(&origin), text.trim_start_matches('\u{feff}')) {
        Ok(table) => Some(table),
        Err(error) => {
            let (found, expected) = describe(format, &*error);
            problem(found, expected);
            None
        }
    }
}

/// The parser's own message, without the piece of the file that some parsers repeat: it may hold a secret.
pub(crate) fn describe(
    format: FileFormat,
    error: &(dyn Error + Send + Sync + 'static),
) -> (String, &'static str) {
    // The only error of the crate itself: something else than a mapping. Its text repeats what it is.
    if error.is::<ConfigError>() || error.is::<Box<ConfigError>>() {
        return (
            "no mapping at the top".to_owned(),
            "sections such as `kafka:` and `sites:`",
        );
    }
    let text = error.to_string();
    let is_excerpt = |line: &str| {
        line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit())
            .starts_with('|')
    };
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_excerpt(line));
    let message = lines.collect::<Vec<_>>().join(": ");
    let expected = match format {
        FileFormat::Toml => "valid TOML",
        FileFormat::Json => "valid JSON",
        _ => "valid YAML",
    };
    (format!("a syntax error ({message})"), expected)
}
