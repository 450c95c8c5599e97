//! One monitored site.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use url::Url;

use crate::mask::without_query;
use crate::options::{SiteOptions, keyed};

/// A monitored URL with its settings. Its key is the name.
#[derive(Clone, PartialEq)]
pub struct Site {
    /// The unique name; the URL unless set.
    pub name: Arc<str>,
    /// The names that it had before, under which its history is kept. Few sites have some, so they take one word.
    formerly: Option<Arc<Vec<String>>>,
    /// What is requested: http or https, with a host, without name and password.
    pub url: Url,
    /// Everything else, shared by all sites that say the same.
    pub options: Arc<SiteOptions>,
    revision: u64,
}

impl Site {
    pub(crate) fn new(name: &str, url: Url, options: &SharedOptions) -> Self {
        let mut hasher = keyed();
        // The hash travels: what is hidden has no part in it.
        let shown = shown(&url, &options.options);
        for text in [name, shown.as_str()] {
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        }
        hasher.write(&options.revision.to_le_bytes());
        Site {
            name: name.into(),
            formerly: None,
            url,
            options: Arc::clone(&options.options),
            revision: hasher.finish(),
        }
    }

    /// A site with the built-in defaults, named after its URL, that may be at a private address.
    ///
    /// # Panics
    /// If `url` is not a URL: for tests, where it is written by hand.
    pub fn for_testing(url: &str) -> Site {
        let mut options = SiteOptions::default();
        options.connection.guard.allow_private = true;
        Self::with_options(url, url, options)
    }

    /// A site of this name, URL and options.
    pub fn of(name: &str, url: Url, options: SiteOptions) -> Site {
        Site::new(name, url, &SharedOptions::new(options))
    }

    /// Its URL as it is shown and stored: without the query, if that is to be hidden.
    pub fn shown_url(&self) -> Url {
        shown(&self.url, &self.options)
    }

    /// The same site, with the names that it had before.
    pub(crate) fn known_as(mut self, names: Vec<String>) -> Site {
        self.formerly = (!names.is_empty()).then(|| Arc::new(names));
        self
    }

    /// The names that it had before, under which its history is kept.
    pub fn formerly(&self) -> &[String] {
        self.formerly.as_deref().map_or(&[], Vec::as_slice)
    }

    /// A site of another name and URL that shares the options of this one.
    pub fn another(&self, name: &str, url: Url) -> Site {
        let shared = SharedOptions {
            options: Arc::clone(&self.options),
            revision: self.options.revision(),
        };
        Site::new(name, url, &shared)
    }

    /// As [`Site::of`], with the URL as text.
    ///
    /// # Panics
    /// If `url` is not a URL: for tests, where it is written by hand.
    pub fn with_options(name: &str, url: &str, options: SiteOptions) -> Site {
        let Ok(parsed) = Url::parse(url) else {
            panic!("a URL written for a test is valid: {url}")
        };
        Site::of(name, parsed, options)
    }

    /// A short name of exactly what is checked and how, secrets left out: 16 hexadecimal digits, the same on every node and in every
    /// build.
    pub fn config_hash(&self) -> String {
        format!("{:016x}", self.revision)
    }
}

/// As [`Site::shown_url`].
fn shown(url: &Url, options: &SiteOptions) -> Url {
    if options.request.hide_query {
        without_query(url)
    } else {
        url.clone()
    }
}

/// Options that several sites have, with what is worked out once for all of them.
#[derive(Clone)]
pub(crate) struct SharedOptions {
    pub(crate) options: Arc<SiteOptions>,
    revision: u64,
}

impl SharedOptions {
    pub(crate) fn new(options: SiteOptions) -> Self {
        SharedOptions {
            revision: options.revision(),
            options: Arc::new(options),
        }
    }
}

/// The options hide their secrets.
impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("name", &self.name)
            .field("url", &self.shown_url().as_str())
            .field("options", &self.options)
            .finish()
    }
}
