//! A site as it will be written.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use url::{Host, Url};

use super::duration;
use super::notes::Notes;
use super::section::Section;
use crate::status::StatusSet;

/// The times that a site here may have.
pub(super) const INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(86_400)];
pub(super) const TIMEOUTS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(30 * 60)];

/// The options of a site, by our names.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) url: String,
    /// Whether it can be checked as it is. What cannot is written as a comment.
    pub(super) is_complete: bool,
    pub(super) options: Map<String, Json>,
}

impl Draft {
    pub(super) fn new(name: &str) -> Self {
        Draft {
            name: name.to_owned(),
            url: "https://CHANGE.ME/".to_owned(),
            is_complete: false,
            options: Map::new(),
        }
    }

    pub(super) fn set(&mut self, option: &str, value: impl Into<Json>) {
        self.options.insert(option.to_owned(), value.into());
    }

    /// Sets an option of a group, such as `cert` of `tls`.
    pub(super) fn set_in(&mut self, group: &str, option: &str, value: impl Into<Json>) {
        let entry = self.options.entry(group);
        if let Json::Object(options) = entry.or_insert_with(|| Json::Object(Map::new())) {
            options.insert(option.to_owned(), value.into());
        }
    }

    /// Sets a switch, unless it stands as it does by default.
    pub(super) fn switch(&mut self, option: &str, value: Option<bool>, default: bool) {
        if let Some(value) = value.filter(|value| *value != default) {
            self.set(option, value);
        }
    }

    /// Adds a regular expression to `body_matches` or `body_must_not_match`.
    pub(super) fn add_pattern(&mut self, option: &str, pattern: String) {
        let all = match self.options.shift_remove(option) {
            None => Json::String(pattern),
            Some(Json::Array(mut list)) => {
                list.push(pattern.into());
                Json::Array(list)
            }
            Some(one) => Json::Array(vec![one, pattern.into()]),
        };
        self.set(option, all);
    }

    /// Adds a comparison to `expect_json` or `expect_headers`. False if there is another one already.
    #[must_use]
    pub(super) fn compare(
        &mut self,
        option: &str,
        at: &str,
        comparison: &str,
        value: Json,
    ) -> bool {
        let Json::Object(all) = self
            .options
            .entry(option)
            .or_insert_with(|| Json::Object(Map::new()))
        else {
            return false;
        };
        let one = all.entry(at).or_insert_with(|| Json::Object(Map::new()));
        match one {
            Json::Object(one) => match one.get(comparison) {
                Some(known) => *known == value,
                None => {
                    one.insert(comparison.to_owned(), value);
                    true
                }
            },
            _ => false,
        }
    }

    /// Sets a duration, brought into the range that it may have here.
    pub(super) fn set_duration(
        &mut self,
        option: &str,
        value: Duration,
        range: [Duration; 2],
        from: (&Section<'_>, &str),
    ) {
        let [least, most] = range;
        let possible = value.clamp(least, most);
        if possible != value {
            let (section, key) = from;
            let (value, possible) = (duration::written(value), duration::written(possible));
            section.note(
                key,
                format!("{value} becomes {possible}, the nearest that can be set here"),
            );
        }
        self.set(option, duration::written(possible));
    }

    /// Sets the statuses that are right, unless they are those of the default.
    pub(super) fn set_statuses(&mut self, statuses: &StatusSet) {
        if *statuses == StatusSet::default() {
            return;
        }
        let mut written: Vec<Json> = Vec::new();
        for &(first, last) in statuses.ranges() {
            written.push(match (first, last) {
                _ if first == last => first.into(),
                _ if first % 100 == 0 && last == first + 99 => format!("{}xx", first / 100).into(),
                _ => format!("{first}-{last}").into(),
            });
        }
        match &mut *written {
            [one] => self.set("expected_status", one.take()),
            _ => self.set("expected_status", written),
        }
    }

    /// Sets the URL if a site may have it.
    pub(super) fn set_url(&mut self, text: &str) -> Result<(), &'static str> {
        let url = Url::parse(text).map_err(|_| "is no URL")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("is no http:// or https:// URL, and nothing else is checked here");
        }
        if !url.has_host() || text.len() > 2048 {
            return Err("is no URL that can be checked here");
        }
        text.clone_into(&mut self.url);
        self.is_complete = true;
        Ok(())
    }

    /// Takes out what would make the settings file invalid, where the input is invalid itself.
    pub(super) fn settle(&mut self, notes: &Notes) {
        for group in [
            &["basic_auth", "bearer_token", "oauth2"][..],
            &["body", "json", "body_file"],
        ] {
            let mut written = group
                .iter()
                .filter(|option| self.options.contains_key(**option));
            let kept = written.next();
            let others: Vec<&str> = written.copied().collect();
            for option in others {
                self.options.shift_remove(option);
                let kept = kept.copied().unwrap_or_default();
                notes.key(
                    &self.name,
                    option,
                    format!("not beside `{kept}`, which is kept"),
                );
            }
        }
        if let Some(Json::Object(tls)) = self.options.get_mut("tls") {
            for (one, other) in [("cert", "key"), ("key", "cert")] {
                if tls.contains_key(one) && !tls.contains_key(other) {
                    tls.shift_remove(one);
                    notes.key(
                        &self.name,
                        &format!("tls.{one}"),
                        format!("cannot be without `tls.{other}`"),
                    );
                }
            }
            if tls.is_empty() {
                self.options.shift_remove("tls");
            }
        }
    }

    /// Other monitors connect to any address. Here a host that is certainly private needs to be allowed.
    pub(super) fn allow_private_host(&mut self, notes: &Notes) {
        let is_private = Url::parse(&self.url).is_ok_and(|url| is_private(&url));
        if is_private && self.is_complete && !self.options.contains_key("allow_private") {
            self.set("allow_private", true);
            notes.key(
                &self.name,
                "url",
                "is at a private address, so `allow_private: true` is added: see that this is meant",
            );
        }
    }
}

fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private(),
        Some(Host::Ipv6(ip)) => match ip.to_canonical() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
        },
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let private = [".localhost", ".local", ".internal", ".lan", ".home.arpa"];
            // A name without a dot is one of a container, or of the own network.
            !name.contains('.') || private.iter().any(|suffix| name.ends_with(suffix))
        }
        None => false,
    }
}

/// Hands out names. The name is the key of a site's history, so that no two may have the same one.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// The name that is wanted, or that with the first number that is free.
    pub(super) fn take(&mut self, wanted: &str, notes: &Notes) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted} ({number})");
            number += 1;
        }
        if name != wanted {
            notes.key(
                &name,
                "name",
                format!("\"{wanted}\" is taken by a site before it"),
            );
        }
        name
    }
}

/// A name as a site may have it: on one line, without spaces around it, not too long.
pub(super) fn readable_name(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut name = line.trim();
    while name.len() > 512 {
        let mut end = 512;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name = name[..end].trim_end();
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_certainly_private() {
        for (url, expected) in [
            ("http://localhost:8080/", true),
            ("http://10.1.2.3/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:192.168.0.1]/", true),
            ("http://backend/health", true),
            ("http://db.svc.cluster.local/", true),
            ("https://example.org/", false),
            ("http://8.8.8.8/", false),
            ("http://169.254.169.254/", false),
        ] {
            assert_eq!(is_private(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn what_excludes_each_other_is_settled() {
        let (notes, mut draft) = (Notes::default(), Draft::new("a"));
        draft.set("oauth2", "x");
        draft.set("bearer_token", "x");
        draft.set_in("tls", "cert", "x");
        draft.settle(&notes);
        assert_eq!(draft.options.keys().collect::<Vec<_>>(), ["bearer_token"]);
        assert_eq!(
            notes.lines(),
            [
                "a: oauth2: not beside `bearer_token`, which is kept",
                "a: tls.cert: cannot be without `tls.key`"
            ]
        );
    }

    #[test]
    fn equal_names_get_a_number_that_is_free() {
        let (notes, mut names) = (Notes::default(), Names::default());
        let taken = ["a", "a (2)", "a", "b", "a"].map(|wanted| names.take(wanted, &notes));
        assert_eq!(taken, ["a", "a (2)", "a (3)", "b", "a (4)"]);
        assert_eq!(notes.lines().len(), 2);
    }

    #[test]
    fn statuses_are_written_as_people_do() {
        for (text, expected) in [
            ("200", "200"),
            ("100-199,500-599", r#"["1xx","5xx"]"#),
            ("200-399", r#""200-399""#),
            ("200-299", "null"),
        ] {
            let mut draft = Draft::new("a");
            draft.set_statuses(&text.parse().unwrap());
            assert_eq!(
                draft
                    .options
                    .get("expected_status")
                    .unwrap_or(&Json::Null)
                    .to_string(),
                expected
            );
        }
    }
}
