//! Request headers.

use config::ValueKind;

use crate::fields::Fields;
use crate::item::Item;
use crate::mask::{MASK, is_sensitive, quote};

/// What the node works out from the body.
const OWNED: [&str; 2] = ["content-length", "transfer-encoding"];

/// The headers of a site: those of `defaults`, with the site's own in the place of equal names and after them.
/// An empty value takes a header of `defaults` away.
pub(crate) fn read(fields: &Fields<'_>, defaults: &[(String, String)]) -> Vec<(String, String)> {
    let mut headers = defaults.to_vec();
    let mut seen: Vec<(String, Option<&str>)> = Vec::new();
    let written = fields.section("headers");
    for (name, item) in written.entries() {
        let Some(value) = value_of(name, &item) else {
            continue;
        };
        let lower = name.to_ascii_lowercase();
        // A variable may repeat a header of the file, in small letters: it wins.
        if seen
            .iter()
            .any(|(other, origin)| *other == lower && *origin == item.value.origin())
        {
            item.found::<()>(
                "a header that is there twice",
                "one of each name, in capitals or not",
            );
            continue;
        }
        seen.push((lower, item.value.origin()));
        let place = headers
            .iter()
            .position(|(other, _)| other.eq_ignore_ascii_case(name));
        match (place, value) {
            (Some(place), Some(value)) => headers[place] = (name.clone(), value),
            (None, Some(value)) => headers.push((name.clone(), value)),
            (Some(place), None) => drop(headers.remove(place)),
            (None, None) => {}
        }
    }
    headers.shrink_to_fit();
    headers
}

/// `Some(None)` for an empty value, `None` after a problem.
fn value_of(name: &str, item: &Item<'_>) -> Option<Option<String>> {
    if !is_token(name) {
        return item.found(
            format!("the name {}", quote(name)),
            "a header name: letters, digits and dashes",
        );
    }
    if OWNED.contains(&name.to_ascii_lowercase().as_str()) {
        return item.found(
            "a header that follows from the body",
            "none: the node sets it itself",
        );
    }
    let value = match &item.value.kind {
        ValueKind::Nil => return Some(None),
        ValueKind::String(text) => text.trim().to_owned(),
        ValueKind::Table(_) | ValueKind::Array(_) => {
            return item.wrong_type("text, a number, true or false");
        }
        ValueKind::Float(number) => format!("{number:?}"),
        number_or_bool => number_or_bool.to_string(),
    };
    if value
        .chars()
        .all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic())
    {
        return Some(Some(value));
    }
    let found = if is_sensitive(name) {
        MASK.to_owned()
    } else {
        quote(&value)
    };
    item.found(found, "a header value: printable ASCII on one line")
}

/// Whether this is a token as HTTP defines it, of which methods and header names are made.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}
