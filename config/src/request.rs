//! What is asked of a site.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::body::{self, Body};
use crate::fields::Fields;
use crate::headers::{self, is_token};
use crate::item::Item;
use crate::login::{self, Login};
use crate::secret::Secret;

/// A request, but for its URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RequestOptions {
    /// The HTTP method, in capitals.
    pub method: String,
    /// The headers, in the order and the case in which they are written; a name may come more than once.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_mapping")]
    pub headers: Vec<(String, Secret)>,
    /// The body.
    #[serde(flatten)]
    pub body: Option<Body>,
    /// Who asks.
    #[serde(flatten)]
    pub login: Option<Login>,
    /// Which versions of HTTP may be spoken.
    pub http_version: HttpVersion,
    /// Whether a connection is kept for the next check.
    pub keep_alive: bool,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// The most redirects that are followed.
    pub max_redirects: u8,
    /// Leaves the query of its URL out wherever the URL is shown or stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hide_query: bool,
}

impl Default for RequestOptions {
    fn default() -> Self {
        RequestOptions {
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
            login: None,
            http_version: HttpVersion::Auto,
            keep_alive: false,
            follow_redirects: true,
            max_redirects: 10,
            hide_query: false,
        }
    }
}

/// Which versions of HTTP may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum HttpVersion {
    /// HTTP/2 where the server offers it over TLS, else HTTP/1.1.
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/1.1 only.
    #[serde(rename = "1.1")]
    One,
    /// HTTP/2 only: by ALPN over TLS, without it at once ("prior knowledge").
    #[serde(rename = "2")]
    Two,
}

/// Several values of one name become a list, as they are written.
fn as_mapping<S: Serializer>(
    headers: &[(String, Secret)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, value)))
}

pub(crate) fn read(fields: &Fields<'_>, base: &RequestOptions) -> RequestOptions {
    let flag = |name, base| {
        fields
            .item(name)
            .and_then(|item| item.flag())
            .unwrap_or(base)
    };
    RequestOptions {
        method: fields
            .item("method")
            .and_then(|item| method(&item))
            .unwrap_or_else(|| base.method.clone()),
        headers: headers::read(fields, &base.headers),
        body: body::read(fields).or_else(|| base.body.clone()),
        login: login::read(fields).or_else(|| base.login.clone()),
        http_version: fields
            .item("http_version")
            .and_then(|item| http_version(&item))
            .unwrap_or(base.http_version),
        keep_alive: flag("keep_alive", base.keep_alive),
        follow_redirects: flag("follow_redirects", base.follow_redirects),
        max_redirects: fields
            .item("max_redirects")
            .and_then(|item| item.whole(0..=100))
            .unwrap_or(base.max_redirects),
        hide_query: flag("hide_query", base.hide_query),
    }
}

fn method(item: &Item<'_>) -> Option<String> {
    let expected = "an HTTP method such as GET or POST";
    let text = item.text(expected)?;
    if is_token(text) {
        Some(text.to_ascii_uppercase())
    } else {
        item.wrong(expected)
    }
}

fn http_version(item: &Item<'_>) -> Option<HttpVersion> {
    match item.scalar().as_deref() {
        Some("auto") => Some(HttpVersion::Auto),
        Some("1.1") => Some(HttpVersion::One),
        Some("2" | "2.0") => Some(HttpVersion::Two),
        _ => item.wrong("one of auto, 1.1, 2"),
    }
}

/// A file whose content belongs to the settings: when it changes, they have changed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileContent {
    /// Where it is.
    pub path: PathBuf,
    /// What it held when the settings were read.
    pub bytes: Vec<u8>,
}

/// Hides the content.
impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.bytes.len())
    }
}

impl Serialize for FileContent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.path.display())
    }
}

/// Reads a file that is part of the settings, of at most `largest` bytes.
pub(crate) fn file_content(item: &Item<'_>, largest: u64) -> Option<FileContent> {
    let path = item.existing_file()?;
    match std::fs::read(&path) {
        Ok(bytes) if bytes.len() as u64 > largest => item.found(
            format!("a file of {} bytes", bytes.len()),
            format!("a file of at most {largest} bytes"),
        ),
        Ok(bytes) => Some(FileContent { path, bytes }),
        Err(error) => item.found(
            format!("a file that cannot be read ({error})"),
            item.a_file(),
        ),
    }
}
