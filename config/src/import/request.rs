//! What all monitors say about a request: headers, methods, credentials, proxies.

use config::ValueKind;
use serde_json::Value as Json;

use super::draft::Draft;
use super::section::{Section, text_of};
use crate::headers::is_token;
use crate::pattern::Pattern;

/// How text of the input reads here, where `${NAME}` and `file:` have a meaning; `None` if it cannot be written.
pub(super) type Reading = fn(&str) -> Option<String>;

/// The reading of text that has no variables in the other monitor.
pub(super) fn to_the_letter(text: &str) -> Option<String> {
    (!text.starts_with("file:")).then(|| without_variables(text))
}

/// Text in which `${` stands for itself.
pub(super) fn without_variables(text: &str) -> String {
    text.replace("${", "$${")
}

/// Why a [`Reading`] finds none.
pub(super) const LIKE_A_FILE: &str = "begins with `file:`, which would name a file here";

/// Takes a secret out of a section, as it is to be written.
pub(super) fn secret(section: &mut Section<'_>, key: &str, reading: Reading) -> Option<String> {
    let written = reading(&section.secret(key)?);
    if written.is_none() {
        section.note(key, LIKE_A_FILE);
    }
    written
}

/// A secret, or the file that holds it, as `password` and `password_file`.
pub(super) fn secret_or_file(
    section: &mut Section<'_>,
    key: &str,
    reading: Reading,
) -> Option<String> {
    let file = section.text(&format!("{key}_file"));
    secret(section, key, reading).or_else(|| file.map(|path| format!("file:{path}")))
}

/// Takes the headers of `key`.
pub(super) fn headers(section: &mut Section<'_>, key: &str, draft: &mut Draft, reading: Reading) {
    let Some(mut headers) = section.section(key) else {
        return;
    };
    for (name, value) in headers.entries() {
        match text_of(&value) {
            Some(text) => {
                if matches!(value.kind, ValueKind::Float(_)) {
                    headers.note(
                        &name,
                        "is a number without quotes: see whether it is written here to the letter",
                    );
                }
                header(&headers, "", (&name, &text), draft, reading);
            }
            None => headers.note(&name, "has no value that is text"),
        }
    }
}

/// Sets one header, if a request here may have it. `prefix` is what notes put before its name.
pub(super) fn header(
    section: &Section<'_>,
    prefix: &str,
    (name, value): (&str, &str),
    draft: &mut Draft,
    reading: Reading,
) {
    let is_printable = value
        .chars()
        .all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic());
    let why = if ["content-length", "transfer-encoding"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
    {
        "follows from the body"
    } else if has_header(draft, name) {
        "is there twice"
    } else if !is_token(name) || value.trim().is_empty() || !is_printable {
        "is no header that can be sent: printable ASCII on one line"
    } else {
        match reading(value) {
            Some(value) => return draft.set_in("headers", name, value),
            None => LIKE_A_FILE,
        }
    };
    section.note(&format!("{prefix}{name}"), why);
}

/// Whether a header of this name is set, in capitals or not.
pub(super) fn has_header(draft: &Draft, name: &str) -> bool {
    let headers = draft.options.get("headers").and_then(Json::as_object);
    headers.is_some_and(|headers| headers.keys().any(|known| known.eq_ignore_ascii_case(name)))
}

/// Takes the method.
pub(super) fn method(section: &mut Section<'_>, key: &str, draft: &mut Draft) {
    let Some(method) = section
        .text(key)
        .map(|text| text.trim().to_ascii_uppercase())
    else {
        return;
    };
    if !is_token(&method) {
        section.note(key, "is no HTTP method");
    } else if method != "GET" {
        draft.set("method", method);
    }
}

/// Takes the URL of a proxy.
pub(super) fn proxy(section: &mut Section<'_>, key: &str, draft: &mut Draft, reading: Reading) {
    let Some(url) = section.text(key) else {
        return;
    };
    if !url.to_ascii_lowercase().starts_with("http://") && !url.starts_with('$') {
        section.note(
            key,
            "is no http:// proxy, and connections go through those only",
        );
    } else if let Some(url) = reading(&url) {
        draft.set("proxy", url);
    }
}

/// Adds a regular expression, if it is one here too.
pub(super) fn pattern(
    section: &Section<'_>,
    key: &str,
    option: &str,
    text: &str,
    draft: &mut Draft,
) {
    match Pattern::new(text) {
        Ok(_) => draft.add_pattern(option, text.to_owned()),
        Err(why) => section.note(key, format!("is no regular expression here ({why})")),
    }
}
