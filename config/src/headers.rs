//! Request headers.

use config::ValueKind;

use crate::fields::Fields;
use crate::item::Item;
use crate::mask::{MASK, quote};
use crate::origin::{COMMAND_LINE, Origin};
use crate::reference;
use crate::secret::Secret;

/// What the node works out from the body, and how it sends that.
const OWNED: [&str; 3] = ["content-length", "transfer-encoding", "expect"];

/// What the node sends by itself unless it is written.
const OWN: [&str; 4] = ["user-agent", "accept", "accept-encoding", "content-type"];

/// The headers of a site: those of `defaults`, with the site's own in the place of equal names and after them.
/// An empty value takes a header of `defaults` away; of one that the node sends by itself it is kept, and means: none.
pub(crate) fn read(fields: &Fields<'_>, defaults: &[(String, Secret)]) -> Vec<(String, Secret)> {
    let mut headers = defaults.to_vec();
    let mut seen: Vec<(String, Option<&str>)> = Vec::new();
    let written = fields.section("headers");
    for (name, item) in written.entries() {
        let Some(values) = values_of(name, &item) else {
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
                "one of each name, in capitals or not; several values are a list",
            );
            continue;
        }
        seen.push((lower.clone(), item.value.origin()));
        let same = |(other, _): &(String, Secret)| other.eq_ignore_ascii_case(name);
        let place = headers.iter().position(same).unwrap_or(headers.len());
        headers.retain(|header| !same(header));
        let none = values.is_empty() && OWN.contains(&lower.as_str());
        let values = values
            .into_iter()
            .chain(none.then(|| Secret::new("")))
            .map(|value| (name.clone(), value));
        headers.splice(place..place, values);
    }
    headers.shrink_to_fit();
    headers
}

/// The values of one name: none for an empty one. `None` after a problem.
fn values_of(name: &str, item: &Item<'_>) -> Option<Vec<Secret>> {
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
    match &item.value.kind {
        ValueKind::Nil => Some(Vec::new()),
        ValueKind::String(text) if text.trim().is_empty() => Some(Vec::new()),
        ValueKind::Array(_) => item
            .list("a list of values")?
            .iter()
            .map(|item| value_of(item))
            .collect(),
        _ => Some(vec![value_of(item)?]),
    }
}

/// Returns true for a value from a variable of the environment, as in `SITEWATCH__DEFAULTS__HEADERS__X_KEY`.
fn is_from_environment(item: &Item<'_>) -> bool {
    let origin = item.value.origin().map(Origin::decode);
    matches!(origin, Some(Origin::Variable { source, .. }) if source != COMMAND_LINE)
}

fn value_of(item: &Item<'_>) -> Option<Secret> {
    let value = match &item.value.kind {
        ValueKind::String(_) => reference::follow(item, "a header value")?,
        _ => reference::Referenced {
            text: item
                .scalar()
                .or_else(|| item.wrong_type("text, a number, true or false, or a list of these"))?,
            is_secret: false,
        },
    };
    if value
        .text
        .chars()
        .all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic())
    {
        return Some(if value.is_secret || is_from_environment(item) {
            Secret::referenced(value.text)
        } else {
            Secret::new(value.text)
        });
    }
    // Any header may hold a credential, whatever its name says.
    item.found(
        format!("{MASK}, in which a character is not printable ASCII"),
        "a header value: printable ASCII on one line",
    )
}

/// Whether this is a token as HTTP defines it, of which methods and header names are made.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}
