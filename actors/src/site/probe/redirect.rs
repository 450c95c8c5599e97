//! Where an answer leads. Pure.

use sitewatch_config::{RequestOptions, Url, mask_url, without_query};

use super::super::attempt::Failure;
use crate::model::ErrorKind;

/// The longest place that is gone to, in bytes: each hop is kept, and twice as long as the longest URL of a site is enough.
const LONGEST: usize = 4096;

/// What is asked of one hop.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    /// Where.
    pub(super) url: Url,
    /// The method, in capitals.
    pub(super) method: String,
    /// Whether the body is sent.
    pub(super) with_body: bool,
    /// True until a redirect leads to another origin, and not again after one leads back (as in the Fetch standard; curl sends
    /// credentials again). Only at the own origin does the node send credentials and private bodies, and show queries.
    pub(super) at_own_origin: bool,
}

impl Ask {
    /// Returns the URL as it is shown and stored: a query or fragment that another origin wrote may be a credential.
    pub(super) fn shown(&self, options: &RequestOptions) -> Url {
        if self.at_own_origin && !options.hide_query {
            self.url.clone()
        } else {
            without_query(&self.url)
        }
    }
}

/// What to ask next, if `status` with `location` redirects. After 303 every method but HEAD, after 301 and 302 POST, becomes
/// GET without a body (RFC 9110, 15.4; what browsers and curl do).
///
/// # Errors
/// If it leads where it can't be followed, or where a private body would have to be sent to another origin.
pub(super) fn next(
    ask: &Ask,
    options: &RequestOptions,
    status: u16,
    location: Option<&[u8]>,
) -> Result<Option<Ask>, Failure> {
    let (true, Some(location)) = (matches!(status, 301 | 302 | 303 | 307 | 308), location) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(location);
    let joined = ask.url.join(&text);
    let at_own_origin = ask.at_own_origin
        && joined
            .as_ref()
            .is_ok_and(|url| url.origin() == ask.url.origin());
    let fail = |why: &str| {
        let shown = if at_own_origin && !options.hide_query {
            text.chars().take(100).collect()
        } else {
            mask_url(&text).chars().take(100).collect::<String>()
        };
        Failure::new(
            ErrorKind::RedirectError,
            format!("status {status} leads to {shown:?}: {why}"),
        )
    };
    let too_long = || fail(&format!("it is longer than {LONGEST} bytes"));
    if location.len() > LONGEST {
        return Err(too_long());
    }
    let mut url = joined.map_err(|error| fail(&error.to_string()))?;
    // Percent-encoded, a place is up to three times as long.
    if url.as_str().len() > LONGEST {
        return Err(too_long());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fail("only http and https are followed"));
    }
    if !url.has_host() {
        return Err(fail("there is no host in it"));
    }
    // Name and password in a redirect are the other side's; they are not sent. (Refused only for URLs without a host.)
    let (_, _) = (url.set_username(""), url.set_password(None));
    let to_get = status == 303 && ask.method != "HEAD"
        || matches!(status, 301 | 302) && ask.method == "POST";
    let with_body = ask.with_body && !to_get;
    let body_is_private = options.body.as_ref().is_some_and(|body| body.is_private);
    if with_body && body_is_private && !at_own_origin {
        return Err(fail(
            "the body is not sent to another origin, since it is a file or holds a secret; let url name that place, or \
             follow_redirects: false",
        ));
    }
    Ok(Some(Ask {
        url,
        method: if to_get {
            "GET".to_owned()
        } else {
            ask.method.clone()
        },
        with_body,
        at_own_origin,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(method: &str) -> Ask {
        Ask {
            url: Url::parse("https://user:pw@a.example/dir/page?q=1").unwrap(),
            method: method.to_owned(),
            with_body: true,
            at_own_origin: true,
        }
    }

    fn next(ask: &Ask, status: u16, location: Option<&[u8]>) -> Result<Option<Ask>, Failure> {
        super::next(ask, &RequestOptions::default(), status, location)
    }

    fn follow(method: &str, status: u16, location: &str) -> Ask {
        next(&ask(method), status, Some(location.as_bytes()))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn the_method_after_each_status() {
        for (method, status, then, with_body) in [
            ("GET", 301, "GET", true),
            ("POST", 301, "GET", false),
            ("PUT", 301, "PUT", true),
            ("HEAD", 301, "HEAD", true),
            ("POST", 302, "GET", false),
            ("DELETE", 302, "DELETE", true),
            ("PUT", 303, "GET", false),
            ("HEAD", 303, "HEAD", true),
            ("POST", 303, "GET", false),
            ("POST", 307, "POST", true),
            ("POST", 308, "POST", true),
        ] {
            let next = follow(method, status, "/next");
            assert_eq!(
                (next.method.as_str(), next.with_body),
                (then, with_body),
                "{method} {status}"
            );
        }
    }

    #[test]
    fn locations_are_read_as_browsers_do() {
        for (location, url) in [
            ("next", "https://a.example/dir/next"),
            ("/next", "https://a.example/next"),
            ("?x", "https://a.example/dir/page?x"),
            ("//b.example/x", "https://b.example/x"),
            ("http://b.example", "http://b.example/"),
            ("https://u:p@b.example/", "https://b.example/"),
            ("HTTPS://B.EXAMPLE/ü", "https://b.example/%C3%BC"),
        ] {
            let mut found = follow("GET", 302, location).url;
            let (_, _) = (found.set_username(""), found.set_password(None));
            assert_eq!(found.as_str(), url, "{location}");
        }
        for location in [
            "ftp://b/",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "http://",
            "http://[::1",
            "data:,x",
        ] {
            let failure = next(&ask("GET"), 302, Some(location.as_bytes())).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::RedirectError, "{location}");
        }
        assert_eq!(next(&ask("GET"), 302, None), Ok(None));
        assert_eq!(next(&ask("GET"), 304, Some(b"/x")), Ok(None));
    }

    #[test]
    fn credentials_stay_at_their_origin_and_do_not_come_back() {
        assert!(follow("GET", 302, "/x").at_own_origin);
        for other in [
            "https://b.example/",
            "http://a.example/",
            "https://a.example:8443/",
        ] {
            let away = follow("GET", 302, other);
            assert!(!away.at_own_origin, "{other}");
            let back = next(&away, 302, Some(b"https://a.example/"))
                .unwrap()
                .unwrap();
            assert!(!back.at_own_origin, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_location_panics_or_leads_out_of_http(status in 300u16..400, location in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some(next)) = next(&ask("POST"), status, Some(&location)) {
                prop_assert!(matches!(next.url.scheme(), "http" | "https") && next.url.has_host());
                prop_assert!(next.url.username().is_empty() && next.url.password().is_none());
                prop_assert!(!next.at_own_origin || next.url.origin() == ask("POST").url.origin());
            }
        }
    }
}
