//! Reads the list of sites and their defaults.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use config::ValueKind;
use url::Url;

use crate::body;
use crate::fields::Fields;
use crate::headers::{self, is_token};
use crate::item::Item;
use crate::mask::{mask_user_info, quote};
use crate::pattern::Patterns;
use crate::site::{Common, Site, without_user_info};
use crate::sources::SiteList;
use crate::status::{StatusSet, parse_range};

const LONGEST_NAME: usize = 512;
const LONGEST_URL: usize = 2048;
const LARGEST_BODY: u64 = 256 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// The total time of a check is stored in microseconds, in 31 bits: 35 minutes.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 60);

pub(crate) fn read(root: &Fields<'_>, lists: &[SiteList], extras: &[String]) -> Vec<Arc<Site>> {
    let written = root.section("defaults");
    let defaults = common(&written, &Common::default());
    written.finish();

    let mut sites = Sites {
        root,
        sites: Vec::new(),
        places: HashMap::new(),
        patterns: Patterns::default(),
    };
    for list in lists {
        let item = Item::new(&list.value, "", list.key, root.report);
        for item in item
            .list("a list of sites, each with at least a `url`")
            .unwrap_or_default()
        {
            sites.add_written(&item, &defaults);
        }
    }
    for text in extras {
        sites.add_extra(text, &defaults);
    }
    sites.sites
}

/// The sites read so far.
struct Sites<'a> {
    root: &'a Fields<'a>,
    sites: Vec<Arc<Site>>,
    /// Where each name was first used.
    places: HashMap<String, String>,
    patterns: Patterns,
}

impl Sites<'_> {
    fn add_written(&mut self, item: &Item<'_>, defaults: &Common) {
        let place = item.key();
        let ValueKind::Table(table) = &item.value.kind else {
            item.wrong_type::<()>("a mapping with at least a `url`");
            return;
        };
        let label = match table.get("name").map(|name| &name.kind) {
            Some(ValueKind::String(name)) if is_readable(name) => {
                format!("{place} ({})", name.trim())
            }
            _ => place.clone(),
        };
        let fields = Fields::of(item.value, label, item.report);
        let name_item = fields.item("name");
        let name = name_item.as_ref().map(name_of);
        let url_item = fields.item("url");
        if url_item.is_none() {
            fields.missing("url", "the URL to check");
        }
        let url = url_item.as_ref().and_then(url_of);
        let common = common(&fields, defaults);
        let body = fields.item("body").and_then(|item| body::read(&item));
        let pattern = fields.item("body_matches").and_then(|item| {
            let text = match &item.value.kind {
                ValueKind::String(text) => text,
                _ => return item.wrong_type("a regular expression, as text in quotes"),
            };
            let pattern = self.patterns.get(text);
            pattern
                .or_else(|why| {
                    item.found(quote(text), format!("a regular expression ({why})"))
                        .ok_or(())
                })
                .ok()
        });
        fields.finish();

        let Some(url) = url else { return };
        let name = match name {
            Some(Some(name)) => name,
            Some(None) => return,
            None => default_name(&url),
        };
        let named = name_item.or(url_item);
        let source = item.value.origin().unwrap_or_default();
        if let Some(first) = self.places.get(&name) {
            if let Some(named) = named {
                named.found::<()>(
                    quote(&name),
                    format!("a name of its own: {first} has this one"),
                );
            }
            return;
        }
        self.places
            .insert(name.clone(), format!("{place} in {source}"));
        let site = Site {
            body,
            body_matches: pattern,
            ..Site::new(name, url.parsed, common)
        };
        self.sites.push(Arc::new(site));
    }

    fn add_extra(&mut self, text: &str, defaults: &Common) {
        let problem = |found: String, expected: String| {
            self.root.report.add(Some(EXTRA), "", found, expected)
        };
        let url = match parse_url(text) {
            Ok(url) => url,
            Err(expected) => return problem(quote(&mask_user_info(text)), expected),
        };
        let name = default_name(&url);
        if let Some(first) = self.places.get(&name) {
            return problem(
                quote(&name),
                format!("a site that is not there yet: {first} has this name"),
            );
        }
        self.places.insert(name.clone(), EXTRA.to_owned());
        self.sites
            .push(Arc::new(Site::new(name, url.parsed, defaults.clone())));
    }
}

/// Whether a name helps to find a site in a message.
fn is_readable(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= 80 && !name.contains(char::is_control)
}

/// The source of sites from the command line.
const EXTRA: &str = "--site";

/// What `defaults` and a site may both say.
fn common(fields: &Fields<'_>, base: &Common) -> Common {
    let flag = |name, base| {
        fields
            .item(name)
            .and_then(|item| item.flag())
            .unwrap_or(base)
    };
    let duration = |name, range, base| {
        fields
            .item(name)
            .and_then(|item| item.duration(range))
            .unwrap_or(base)
    };
    let status = fields
        .item("expected_status")
        .and_then(|item| status_of(&item));
    let max_body = fields
        .item("max_body_bytes")
        .and_then(|item| item.whole(1..=LARGEST_BODY));
    Common {
        interval: duration("interval", Duration::from_secs(1)..=DAY, base.interval),
        timeout: duration(
            "timeout",
            Duration::from_millis(1)..=LONGEST_TIMEOUT,
            base.timeout,
        ),
        method: fields
            .item("method")
            .and_then(|item| method(&item))
            .unwrap_or_else(|| base.method.clone()),
        headers: headers::read(fields, &base.headers),
        expected_status: status.unwrap_or_else(|| base.expected_status.clone()),
        allow_private: flag("allow_private", base.allow_private),
        follow_redirects: flag("follow_redirects", base.follow_redirects),
        max_redirects: fields
            .item("max_redirects")
            .and_then(|item| item.whole(0..=100))
            .unwrap_or(base.max_redirects),
        max_body_bytes: max_body.unwrap_or(base.max_body_bytes),
    }
}

fn name_of(item: &Item<'_>) -> Option<String> {
    let text = item.text("a name")?;
    if text.len() > LONGEST_NAME {
        return item.wrong(format!("a name of at most {LONGEST_NAME} bytes"));
    }
    Some(text.to_owned())
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

fn status_of(item: &Item<'_>) -> Option<StatusSet> {
    const EXPECTED: &str = "a status such as 200, 200-299 or 2xx, or a list of these";
    let one = |item: &Item<'_>| match &item.value.kind {
        ValueKind::I64(number) => parse_range(&number.to_string())
            .or_else(|_| item.wrong(EXPECTED).ok_or(()))
            .ok(),
        ValueKind::String(text) => parse_range(text)
            .or_else(|_| item.wrong(EXPECTED).ok_or(()))
            .ok(),
        _ => item.wrong_type(EXPECTED),
    };
    match &item.value.kind {
        ValueKind::Array(list) if list.is_empty() => item.found("an empty list", EXPECTED),
        ValueKind::Array(_) => {
            let ranges: Vec<Option<_>> = item.list(EXPECTED)?.iter().map(one).collect();
            ranges
                .into_iter()
                .collect::<Option<Vec<_>>>()
                .map(StatusSet::from_ranges)
        }
        ValueKind::String(text) if text.contains(',') => text
            .parse()
            .or_else(|_| item.wrong(EXPECTED).ok_or(()))
            .ok(),
        _ => one(item).map(|range| StatusSet::from_ranges(vec![range])),
    }
}

/// A URL, and how it was written.
struct WrittenUrl {
    parsed: Url,
    text: String,
}

fn url_of(item: &Item<'_>) -> Option<WrittenUrl> {
    let text = item.text("an http:// or https:// URL")?;
    parse_url(text)
        .map_err(|expected| item.wrong::<()>(expected))
        .ok()
}

fn parse_url(text: &str) -> Result<WrittenUrl, String> {
    const EXPECTED: &str = "an http:// or https:// URL";
    let text = text.trim();
    if text.len() > LONGEST_URL {
        return Err(format!("a URL of at most {LONGEST_URL} bytes"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let guess = format!("https://{}", mask_user_info(text));
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
        Ok(parsed) if parsed.has_host() => Ok(WrittenUrl {
            parsed,
            text: text.to_owned(),
        }),
        Ok(_) => Err(format!("{EXPECTED} with a host")),
        Err(error) => Err(format!("{EXPECTED} ({error})")),
    }
}

/// The URL as it was written, without user info: the name goes into messages, logs and the database.
fn default_name(url: &WrittenUrl) -> String {
    if url.parsed.username().is_empty() && url.parsed.password().is_none() {
        return url.text.clone();
    }
    without_user_info(&url.parsed).into()
}
