//! Keeps secrets out of messages.

use url::Url;

/// What is printed in place of a secret.
pub(crate) const MASK: &str = "***";

/// The longest part of a value that a message repeats.
const LONGEST: usize = 120;

/// Whether a header or an option of this name usually holds a credential.
pub fn is_sensitive(name: &str) -> bool {
    const PARTS: [&str; 10] = [
        "authorization",
        "cookie",
        "token",
        "key",
        "secret",
        "password",
        "passwd",
        "credential",
        "jaas",
        "pem",
    ];
    let name = name.to_ascii_lowercase();
    name == "sasl.oauthbearer.config" || PARTS.iter().any(|part| name.contains(part))
}

/// Returns true for the name of a header, of a request or an answer, that usually holds a credential. Wider than [`is_sensitive`], since the
/// names of headers are free: `x-auth`, `x-session-id`.
pub fn is_sensitive_header(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut parts = ["auth", "session", "passphrase", "jwt", "signature"].iter();
    is_sensitive(name) || parts.any(|part| lower.contains(part))
}

/// Hides the user info of a URL. Works on text that is not a valid URL too, and then rather hides too much.
pub(crate) fn mask_user_info(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(start);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let end = if authority.contains('@') || (authority.contains(':') || start == 0) {
        rest.rfind('@')
    } else {
        None // an `@` in the path, as in https://example.org/@name
    };
    match end {
        Some(end) => format!("{scheme}{MASK}{}", &rest[end..]),
        None => text.to_owned(),
    }
}

/// A URL with its query and fragment hidden, for those that may hold a credential.
pub fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    if url.query().is_some() {
        url.set_query(Some(MASK));
    }
    if url.fragment().is_some() {
        url.set_fragment(Some(MASK));
    }
    url
}

/// Hides user info, query and fragment of a URL. Works on text that is not a valid URL too.
pub fn mask_url(text: &str) -> String {
    let masked = mask_user_info(text);
    match masked.find(['?', '#']) {
        Some(at) => format!("{}{MASK}", &masked[..=at]),
        None => masked,
    }
}

/// Hides the password of a database URL and keeps its user. Works on text that is not a valid URL too.
pub(crate) fn mask_password(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(start);
    let masked = match rest.rfind('@') {
        Some(end) => match rest[..end].find(':') {
            Some(colon) => format!("{scheme}{}:{MASK}{}", &rest[..colon], &rest[end..]),
            None if start == 0 => format!("{MASK}{}", &rest[end..]),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    };
    mask_parameter(&masked)
}

/// Hides `password=…`, in a query or in a list of `key=value` words.
fn mask_parameter(text: &str) -> String {
    let Some(at) = text.to_ascii_lowercase().find("password") else {
        return text.to_owned();
    };
    let value = at + "password".len();
    let rest = text[value..].trim_start();
    if !rest.starts_with('=') {
        return text.to_owned();
    }
    // A quoted word may hold anything, so that everything after it goes.
    let end = if text.contains("://") {
        rest.find('&')
    } else {
        None
    };
    format!(
        "{}={MASK}{}",
        &text[..value],
        end.map_or("", |end| &rest[end..])
    )
}

/// Text in quotes, on one line, cut where it is too long to read.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().min(LONGEST) + 2);
    quoted.push('"');
    for (n, c) in text.chars().enumerate() {
        if n == LONGEST {
            quoted.push('…');
            break;
        }
        if c.is_control() {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_is_hidden_wherever_it_may_be() {
        for (text, masked) in [
            ("https://example.org/", "https://example.org/"),
            ("https://example.org/@name", "https://example.org/@name"),
            ("https://user:pw@example.org/", "https://***@example.org/"),
            ("https://user@example.org/", "https://***@example.org/"),
            ("https://user:p/w@example.org/", "https://***@example.org/"),
            ("https://user:p@w@example.org/", "https://***@example.org/"),
            ("user:pw@example.org", "***@example.org"),
        ] {
            assert_eq!(mask_user_info(text), masked);
        }
    }

    #[test]
    fn query_and_fragment_are_hidden() {
        for (text, masked) in [
            ("https://a/b", "https://a/b"),
            ("https://a/?key=1&b#c", "https://a/?***#***"),
            ("https://a/#token", "https://a/#***"),
        ] {
            assert_eq!(without_query(&Url::parse(text).unwrap()).as_str(), masked);
        }
        for (text, masked) in [
            ("ftp://u:p@a/?key=1#c", "ftp://***@a/?***"),
            ("a.example/#key", "a.example/#***"),
            ("plain", "plain"),
        ] {
            assert_eq!(mask_url(text), masked);
        }
    }

    #[test]
    fn a_database_password_is_hidden_wherever_it_may_be() {
        for (text, masked) in [
            ("postgres://h/db", "postgres://h/db"),
            ("postgres://u:pw@h/db", "postgres://u:***@h/db"),
            ("postgres://u:p@w@h/db", "postgres://u:***@h/db"),
            ("postgres://u:p/w#x?@h/db", "postgres://u:***@h/db"),
            (
                "postgres://h/db?user=u&password=pw&port=1",
                "postgres://h/db?user=u&password=***&port=1",
            ),
            (
                "host=h user=u password='p w' dbname=d",
                "host=h user=u password=***",
            ),
        ] {
            assert_eq!(mask_password(text), masked);
        }
    }
}
