//! The URL of a site.

use url::Url;

use crate::item::Item;
use crate::login::{Login, user_info};
use crate::mask::{mask_url, quote, without_query};
use crate::reference;

const LONGEST_URL: usize = 2048;

/// The longest URL that a message holds, in bytes: percent-encoded, as it travels, a URL may be three times as long as it is written.
const LONGEST_ENCODED: usize = 4096;

/// A URL, and how it was written.
pub(crate) struct WrittenUrl {
    /// Without name and password, which stand where those of other sites do: a URL goes into messages, logs and the database.
    pub(crate) parsed: Url,
    /// Those, if they were there.
    pub(crate) login: Option<Login>,
    /// Whether its query or fragment refers to a variable, and so may hold a key.
    pub(crate) has_secret_query: bool,
    text: String,
}

impl WrittenUrl {
    /// Whether options of the site come from its URL.
    pub(crate) fn sets_options(&self) -> bool {
        self.login.is_some() || self.has_secret_query
    }

    /// The name of a site without one: the URL as it was written, but for name and password and, if it is to be hidden, the
    /// query.
    pub(crate) fn default_name(&self, hide_query: bool) -> String {
        match self.login {
            _ if hide_query => without_query(&self.parsed).into(),
            None => self.text.clone(),
            Some(_) => self.parsed.as_str().to_owned(),
        }
    }
}

/// Reads a URL of the settings, in which `${NAME}` stands for a variable. `None` after a problem.
pub(crate) fn read(item: &Item<'_>) -> Option<WrittenUrl> {
    let written = item.text("an http:// or https:// URL")?;
    let filled = reference::fill_in(item, written)?.text;
    match parse(&filled) {
        Ok(url) => Some(WrittenUrl {
            has_secret_query: written
                .find(['?', '#'])
                .is_some_and(|query| written[query..].contains("${")),
            ..url
        }),
        // As it was written: a variable may hold a secret.
        Err(expected) => item.found(quote(&mask_url(written)), expected),
    }
}

/// Reads a URL.
///
/// # Errors
/// What would be right.
pub(crate) fn parse(text: &str) -> Result<WrittenUrl, String> {
    const EXPECTED: &str = "an http:// or https:// URL";
    let text = text.trim();
    if text.len() > LONGEST_URL {
        return Err(format!("a URL of at most {LONGEST_URL} bytes"));
    }
    // `{` is not a character of URLs (RFC 3986, appendix A), so nobody means it as it stands.
    if text.contains("${") {
        return Err(format!(
            "{EXPECTED} without `${{`: only in a settings file ${{NAME}} stands for a variable"
        ));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let guess = format!("https://{}", mask_url(text));
        let is_near = text.contains(['.', ':']) && Url::parse(&guess).is_ok();
        let hint = if is_near {
            format!("; did you mean {guess}?")
        } else {
            String::new()
        };
        return Err(format!("{EXPECTED}{hint}"));
    };
    if !["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return Err(EXPECTED.to_owned());
    }
    if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) {
        return Err(format!("{EXPECTED} with a host"));
    }
    match Url::parse(text) {
        Ok(parsed) if parsed.as_str().len() > LONGEST_ENCODED => Err(format!(
            "a URL of at most {LONGEST_ENCODED} bytes when it is percent-encoded"
        )),
        Ok(parsed) if parsed.has_host() => {
            let login = user_info(&parsed)
                .map(|(username, password)| Login::BasicAuth { username, password });
            Ok(WrittenUrl {
                parsed: without_user_info(parsed),
                login,
                has_secret_query: false,
                text: text.to_owned(),
            })
        }
        Ok(_) => Err(format!("{EXPECTED} with a host")),
        Err(error) => Err(format!("{EXPECTED} ({error})")),
    }
}

/// The URL as it may be shown.
pub(crate) fn without_user_info(mut url: Url) -> Url {
    // Refused only for URLs without a host, which have no user info.
    let (_, _) = (url.set_username(""), url.set_password(None));
    url
}
