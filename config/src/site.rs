//! One monitored site.

use std::fmt;
use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use url::Url;

use crate::body::Body;
use crate::mask::MASK;
use crate::pattern::Pattern;
use crate::status::StatusSet;

/// A monitored URL with its settings. Its key is the name.
#[derive(Clone, PartialEq)]
pub struct Site {
    /// The unique name; the URL without its user info unless set.
    pub name: String,
    /// What is requested: http or https, with a host.
    pub url: Url,
    /// The time from one check to the next.
    pub interval: Duration,
    /// How long an attempt may take, body included.
    pub timeout: Duration,
    /// The HTTP method, in capitals.
    pub method: String,
    /// The request headers, in the order and the case in which they are written.
    pub headers: Vec<(String, String)>,
    /// The request body.
    pub body: Option<Body>,
    /// What the answer's body must match.
    pub body_matches: Option<Pattern>,
    /// The statuses that are right.
    pub expected_status: StatusSet,
    /// Whether the site may be at a private address.
    pub allow_private: bool,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// The most redirects that are followed.
    pub max_redirects: u8,
    /// The largest body that is read.
    pub max_body_bytes: usize,
}

/// What a site has in common with others: everything that `defaults` may set.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) method: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) expected_status: StatusSet,
    pub(crate) allow_private: bool,
    pub(crate) follow_redirects: bool,
    pub(crate) max_redirects: u8,
    pub(crate) max_body_bytes: usize,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            method: "GET".to_owned(),
            headers: Vec::new(),
            expected_status: StatusSet::default(),
            allow_private: false,
            follow_redirects: true,
            max_redirects: 10,
            max_body_bytes: 1 << 20,
        }
    }
}

impl Site {
    pub(crate) fn new(name: String, url: Url, common: Common) -> Self {
        Site {
            name,
            url,
            interval: common.interval,
            timeout: common.timeout,
            method: common.method,
            headers: common.headers,
            body: None,
            body_matches: None,
            expected_status: common.expected_status,
            allow_private: common.allow_private,
            follow_redirects: common.follow_redirects,
            max_redirects: common.max_redirects,
            max_body_bytes: common.max_body_bytes,
        }
    }

    /// A site with the built-in defaults, named after its URL, that may be at a private address.
    ///
    /// # Panics
    /// If `url` is not a URL: for tests, where it is written by hand.
    pub fn for_testing(url: &str) -> Site {
        let parsed = Url::parse(url);
        let Ok(parsed) = parsed else {
            panic!("a URL written for a test is valid: {url}")
        };
        Site {
            allow_private: true,
            ..Site::new(url.to_owned(), parsed, Common::default())
        }
    }

    /// A short name of exactly these settings: 16 hexadecimal digits, the same on every node and in every build.
    pub fn config_hash(&self) -> String {
        // The destructuring makes the compiler ask for each new field. A new field is hashed after the others.
        let Site {
            name,
            url,
            interval,
            timeout,
            method,
            headers,
            body,
            body_matches,
            expected_status,
            allow_private,
            follow_redirects,
            max_redirects,
            max_body_bytes,
        } = self;
        let mut hash = Hash(SipHasher13::new_with_keys(
            0x7369_7465_7761_7463,
            0x682d_636f_6e66_6967,
        ));
        hash.bytes(name.as_bytes());
        hash.bytes(url.as_str().as_bytes());
        hash.bytes(&interval.as_nanos().to_le_bytes());
        hash.bytes(&timeout.as_nanos().to_le_bytes());
        hash.bytes(method.as_bytes());
        hash.number(headers.len() as u64);
        for (name, value) in headers {
            hash.bytes(name.as_bytes());
            hash.bytes(value.as_bytes());
        }
        hash.number(u64::from(body.is_some()));
        if let Some(Body { bytes, is_json }) = body {
            hash.bytes(bytes);
            hash.number(u64::from(*is_json));
        }
        hash.number(u64::from(body_matches.is_some()));
        hash.bytes(body_matches.as_ref().map_or("", Pattern::as_str).as_bytes());
        hash.number(expected_status.ranges().len() as u64);
        for (first, last) in expected_status.ranges() {
            hash.number(u64::from(*first));
            hash.number(u64::from(*last));
        }
        hash.number(u64::from(*allow_private));
        hash.number(u64::from(*follow_redirects));
        hash.number(u64::from(*max_redirects));
        hash.number(*max_body_bytes as u64);
        format!("{:016x}", hash.0.finish())
    }
}

/// Bytes with their length before them, so that no two settings read alike.
struct Hash(SipHasher13);

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.write(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }
}

/// Hides header values, the body and the URL's user info.
impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, _)| (name.as_str(), MASK))
            .collect();
        f.debug_struct("Site")
            .field("name", &self.name)
            .field("url", &without_user_info(&self.url).as_str())
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("method", &self.method)
            .field("headers", &headers)
            .field("body", &self.body)
            .field("body_matches", &self.body_matches)
            .field("expected_status", &self.expected_status)
            .field("allow_private", &self.allow_private)
            .field("follow_redirects", &self.follow_redirects)
            .field("max_redirects", &self.max_redirects)
            .field("max_body_bytes", &self.max_body_bytes)
            .finish()
    }
}

/// The URL as it may be shown.
pub(crate) fn without_user_info(url: &Url) -> Url {
    let mut url = url.clone();
    // These fail for URLs without a host only, which have no user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}
