//! Values that refer to where a secret is kept: `${NAME}` for a variable, `file:PATH` for a file.

use std::fs;

use config::ValueKind;

use crate::item::{Item, missing};
use crate::secret::Secret;

/// The largest file that a value may refer to, in bytes.
const LARGEST_FILE: u64 = 64 << 10;

/// A text after its references were followed.
pub(crate) struct Referenced {
    pub(crate) text: String,
    /// Whether a part of it came from a variable or a file, so that it counts as a secret.
    pub(crate) is_secret: bool,
}

/// Follows the references in a text. `None` after a problem.
pub(crate) fn follow(item: &Item<'_>, expected: &str) -> Option<Referenced> {
    let ValueKind::String(text) = &item.value.kind else {
        return item.wrong_type(format!("{expected} (as text, in quotes)"));
    };
    let text = text.trim();
    match text.strip_prefix("file:") {
        Some(path) => file(item, path),
        None => fill_in(item, text),
    }
}

/// A secret: the text itself, spaces and all, or what a reference leads to. `None` after a problem.
pub(crate) fn secret(item: &Item<'_>, what: &str) -> Option<Secret> {
    let ValueKind::String(text) = &item.value.kind else {
        return item.wrong_type(format!("{what}, as text in quotes"));
    };
    let found = match text.trim().strip_prefix("file:") {
        Some(path) => file(item, path)?,
        None => fill_in(item, text)?,
    };
    if found.text.is_empty() || found.text.contains('\0') {
        item.found("nothing, or a zero byte", format!("{what}, not empty"))
    } else {
        Some(Secret::new(found.text))
    }
}

fn file(item: &Item<'_>, shown: &str) -> Option<Referenced> {
    let path = item.folder().join(shown);
    if let Some(why) = missing(&path) {
        return item.found(format!("file:{shown} ({why})"), item.a_file());
    }
    if path
        .metadata()
        .is_ok_and(|found| found.len() > LARGEST_FILE)
    {
        return item.found(
            format!("file:{shown}, which is larger than {LARGEST_FILE} bytes"),
            "a file with the secret and nothing else",
        );
    }
    match fs::read_to_string(&path) {
        Ok(text) => Some(Referenced {
            text: text.trim_end_matches(['\r', '\n']).to_owned(),
            is_secret: true,
        }),
        Err(error) => item.found(
            format!("file:{shown} ({error})"),
            "a readable text file in UTF-8",
        ),
    }
}

/// Puts the values of variables into a text that stands in the value `item`. `None` after a problem.
pub(crate) fn fill_in(item: &Item<'_>, text: &str) -> Option<Referenced> {
    let (mut out, mut rest, mut is_secret) = (String::with_capacity(text.len()), text, false);
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return item.found(
                "`${` without `}`",
                "${NAME} for a variable, or $${ for itself",
            );
        };
        let name = &rest[at + 2..at + end];
        let Some(value) = item.report.variable(name) else {
            return item.found(
                format!("${{{name}}}, which is not set"),
                "the name of a variable of the environment or of .env",
            );
        };
        out.push_str(&value);
        is_secret = true;
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Some(Referenced {
        text: out,
        is_secret,
    })
}
