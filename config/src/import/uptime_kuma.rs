//! Reads the JSON backup of [Uptime Kuma](https://github.com/louislam/uptime-kuma).

use std::collections::BTreeMap;
use std::time::Duration;

use config::{Value, ValueKind};

use super::draft::{Draft, INTERVALS, Names, TIMEOUTS, readable_name};
use super::notes::Notes;
use super::request::{self, has_header, to_the_letter};
use super::section::{Section, text_of};
use super::{ImportError, Outcome, gatus_json, input, uptime_kuma_auth, uptime_kuma_keys};
use crate::status::StatusSet;

const REMARKS: &[&str] = &[
    "Uptime Kuma compares text: an expected value 1 is also true of \"1\". `equals: 1` here is true of the number only.",
];

/// Groups within groups are named so deep.
const DEEPEST: usize = 8;

pub(super) fn read(text: &str, notes: &Notes) -> Result<Outcome, ImportError> {
    let mut root = Section::new("", input::json(text)?, notes);
    if !root.has("monitorList") {
        return Err(ImportError::new(
            "no `monitorList`",
            "a JSON backup of Uptime Kuma, from Settings, Backup, Export",
        ));
    }
    let proxies = proxies(&mut root);
    let monitors = root.sections("monitorList");
    root.take("version");
    root.left_out(
        &["notificationList"],
        "no notifications are sent here: ask the stored results, or the metrics",
    );
    root.left_out(
        &[
            "statusPageList",
            "maintenanceList",
            "tagList",
            "dockerHostList",
            "heartbeatList",
        ],
        "no counterpart here",
    );
    root.finish();

    let full_names = full_names(&monitors);
    let mut names = Names::default();
    let drafts = monitors
        .into_iter()
        .zip(full_names)
        .filter_map(|(one, name)| monitor(one, &name, &mut names, &proxies))
        .collect();
    Ok(Outcome {
        drafts,
        remarks: REMARKS,
    })
}

/// The names, with those of the groups before them: `group/name`.
fn full_names(monitors: &[Section<'_>]) -> Vec<String> {
    let by_id: BTreeMap<String, &Section<'_>> = monitors
        .iter()
        .filter_map(|one| Some((text_of(one.peek("id")?)?, one)))
        .collect();
    let own = |one: &Section<'_>| one.peek("name").and_then(text_of).unwrap_or_default();
    let full = |one: &Section<'_>| {
        let mut name = own(one);
        let mut current = one;
        for _ in 0..DEEPEST {
            let parent = current
                .peek("parent")
                .and_then(text_of)
                .and_then(|id| by_id.get(&id));
            let Some(parent) = parent else { break };
            name = format!("{}/{name}", own(parent));
            current = parent;
        }
        readable_name(&name)
    };
    monitors.iter().map(full).collect()
}

fn monitor(
    mut monitor: Section<'_>,
    name: &str,
    names: &mut Names,
    proxies: &BTreeMap<String, Result<String, &'static str>>,
) -> Option<Draft> {
    if name.is_empty() {
        monitor.note("name", "is missing, and the monitor is left out");
        return None;
    }
    // The group is part of the name now.
    monitor.take("name");
    monitor.take("parent");
    monitor.rename(name);
    let leave_out = |monitor: &Section<'_>, why: String| monitor.notes.skip(&monitor.place, why);
    let kind = monitor.text("type").unwrap_or_default();
    if !["http", "keyword", "json-query"].contains(&kind.as_str()) {
        leave_out(
            &monitor,
            format!("type {kind:?} is no check of a URL; http, keyword and json-query are"),
        );
        return None;
    }
    if monitor.flag("active") == Some(false) {
        leave_out(&monitor, "it is paused".to_owned());
        return None;
    }
    if monitor.flag("upsideDown") == Some(true) {
        leave_out(
            &monitor,
            "it is upside down, up when the check fails, which cannot be said here".to_owned(),
        );
        return None;
    }
    let mut draft = Draft::new(name);
    let url = monitor.text("url").unwrap_or_default();
    if let Err(why) = draft.set_url(&url) {
        leave_out(&monitor, format!("its URL {why}"));
        return None;
    }
    draft.name = names.take(name, monitor.notes);
    monitor.rename(&draft.name);
    monitor.notes.enter(&draft.name);
    schedule(&mut monitor, &mut draft);
    request::method(&mut monitor, "method", &mut draft);
    headers(&mut monitor, &mut draft);
    body(&mut monitor, &mut draft);
    uptime_kuma_auth::read(&mut monitor, &mut draft);
    connection(&mut monitor, &mut draft, proxies);
    statuses(&mut monitor, &mut draft);
    keyword(&mut monitor, &mut draft, &kind);
    json_query(&mut monitor, &mut draft, &kind);
    if monitor.flag("expiryNotification") == Some(true) && url.starts_with("https:") {
        draft.set("min_cert_days", 7);
        monitor.note("expiryNotification", "becomes `min_cert_days: 7`: the check fails in the last week, where a notification was sent");
    }
    uptime_kuma_keys::leave_out(&mut monitor);
    monitor.finish();
    Some(draft)
}

fn schedule(monitor: &mut Section<'_>, draft: &mut Draft) {
    let seconds = |number: f64| {
        Duration::try_from_secs_f64(number)
            .ok()
            .filter(|time| !time.is_zero())
    };
    let interval = monitor
        .number("interval")
        .and_then(seconds)
        .unwrap_or(Duration::from_secs(60));
    draft.set_duration("interval", interval, INTERVALS, (monitor, "interval"));
    // Before there was a setting, Uptime Kuma waited for eight tenths of the interval.
    let timeout = monitor
        .number("timeout")
        .and_then(seconds)
        .unwrap_or(interval * 4 / 5);
    draft.set_duration("timeout", timeout, TIMEOUTS, (monitor, "timeout"));
    let retries = monitor.number("maxretries").unwrap_or(0.0);
    let delay = monitor
        .number("retryInterval")
        .and_then(seconds)
        .unwrap_or(interval);
    if retries >= 1.0 {
        if retries > 10.0 {
            monitor.note("maxretries", "becomes 10, the most that can be set here");
        }
        draft.set("retries", retries.min(10.0) as u64);
        draft.set_duration(
            "retry_delay",
            delay,
            [Duration::ZERO, INTERVALS[1]],
            (monitor, "retryInterval"),
        );
    }
}

/// The headers are text that holds a JSON object.
fn headers(monitor: &mut Section<'_>, draft: &mut Draft) {
    let Some(text) = monitor.text("headers") else {
        return;
    };
    match input::json(&text) {
        Ok(table) => {
            for (name, value) in table {
                match text_of(&value) {
                    Some(value) => {
                        request::header(monitor, "headers.", (&name, &value), draft, to_the_letter)
                    }
                    None => monitor.note(&format!("headers.{name}"), "has no value that is text"),
                }
            }
        }
        Err(_) => monitor.note("headers", "are no JSON object"),
    }
}

fn body(monitor: &mut Section<'_>, draft: &mut Draft) {
    let encoding = monitor.text("httpBodyEncoding");
    let Some(body) = monitor.text("body") else {
        return;
    };
    draft.set("body", request::without_variables(&body));
    let content_type = match encoding.as_deref() {
        None | Some("json") => "application/json",
        Some("xml") => "text/xml; charset=utf-8",
        Some("form") => "application/x-www-form-urlencoded",
        Some(_) => {
            return monitor.note(
                "httpBodyEncoding",
                "is not known here: see whether the header Content-Type is right",
            );
        }
    };
    if !has_header(draft, "content-type") {
        draft.set_in("headers", "Content-Type", content_type);
    }
}

fn connection(
    monitor: &mut Section<'_>,
    draft: &mut Draft,
    proxies: &BTreeMap<String, Result<String, &'static str>>,
) {
    if monitor.flag("ignoreTls") == Some(true) {
        draft.set_in("tls", "insecure_skip_verify", true);
    }
    match monitor.number("maxredirects") {
        Some(0.0) => draft.set("follow_redirects", false),
        Some(most) if most > 100.0 => {
            monitor.note("maxredirects", "becomes 100, the most that can be set here");
            draft.set("max_redirects", 100);
        }
        Some(most) if most >= 1.0 && most != 10.0 => draft.set("max_redirects", most as u64),
        _ => {}
    }
    match monitor.text("ipFamily").as_deref() {
        Some("ipv4") => draft.set("ip_version", "4"),
        Some("ipv6") => draft.set("ip_version", "6"),
        Some(_) => monitor.note("ipFamily", "is not known here"),
        None => {}
    }
    if let Some(id) = monitor.text("proxyId") {
        match proxies.get(&id) {
            Some(Ok(url)) => draft.set("proxy", url.as_str()),
            Some(Err(why)) => monitor.note("proxyId", *why),
            None => monitor.note(
                "proxyId",
                "the backup has no such proxy: write it to `proxy`",
            ),
        }
    }
}

/// The URL of each proxy by its id, or why a monitor cannot use it.
fn proxies(root: &mut Section<'_>) -> BTreeMap<String, Result<String, &'static str>> {
    let mut proxies = BTreeMap::new();
    for mut proxy in root.sections("proxyList") {
        proxy.left_out(
            &["userId", "default", "createdDate"],
            "Uptime Kuma's own bookkeeping",
        );
        let mut text = |key| proxy.text(key).unwrap_or_default();
        let (id, protocol, host, port) = (text("id"), text("protocol"), text("host"), text("port"));
        let user = proxy.secret("username").unwrap_or_default();
        let password = proxy.secret("password").unwrap_or_default();
        let url = url::Url::parse(&format!("http://{host}:{port}"))
            .ok()
            .and_then(|mut url| {
                if proxy.flag("auth") == Some(true) {
                    url.set_username(&user).ok()?;
                    url.set_password(Some(&password)).ok()?;
                }
                to_the_letter(url.as_str().trim_end_matches('/'))
            });
        let url = match url {
            _ if proxy.flag("active") == Some(false) => Err("the proxy is not in use"),
            _ if protocol != "http" => {
                Err("is no http:// proxy, and connections go through those only")
            }
            Some(url) => Ok(url),
            None => Err("the proxy has no address that can be read"),
        };
        proxy.finish();
        proxies.insert(id, url);
    }
    proxies
}

fn statuses(monitor: &mut Section<'_>, draft: &mut Draft) {
    let texts = monitor.texts("accepted_statuscodes");
    if texts.is_empty() {
        return;
    }
    match texts.join(",").parse::<StatusSet>() {
        Ok(statuses) => draft.set_statuses(&statuses),
        Err(_) => monitor.note(
            "accepted_statuscodes",
            "are no statuses: 200-299, the default, is in force",
        ),
    }
}

fn keyword(monitor: &mut Section<'_>, draft: &mut Draft, kind: &str) {
    let inverted = monitor.flag("invertKeyword") == Some(true);
    if kind != "keyword" {
        return monitor.left_out(&["keyword"], "not in use, by the monitor's type");
    }
    let option = if inverted {
        "body_must_not_match"
    } else {
        "body_matches"
    };
    match monitor.text("keyword") {
        Some(keyword) => {
            request::pattern(monitor, "keyword", option, &regex::escape(&keyword), draft)
        }
        None => monitor.note("keyword", "is missing"),
    }
}

fn json_query(monitor: &mut Section<'_>, draft: &mut Draft, kind: &str) {
    if kind != "json-query" {
        return monitor.left_out(
            &["jsonPath", "jsonPathOperator", "expectedValue"],
            "not in use, by the monitor's type",
        );
    }
    let path = monitor.text("jsonPath").unwrap_or_else(|| "$".to_owned());
    let operator = monitor
        .text("jsonPathOperator")
        .unwrap_or_else(|| "==".to_owned());
    let expected = match monitor.take("expectedValue") {
        Some(Value {
            kind: ValueKind::String(text),
            ..
        }) => text,
        other => other.as_ref().and_then(text_of).unwrap_or_default(),
    };
    // Uptime Kuma's paths are JSONata; only those that name a place are JSONPath too.
    let place = path.strip_prefix('$').unwrap_or(&path);
    let place = if place.is_empty() || place.starts_with(['.', '[']) {
        place.to_owned()
    } else {
        format!(".{place}")
    };
    let is_place = place
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._[]".contains(c));
    let Some(path) = gatus_json::path_of(&place).filter(|_| is_place) else {
        return monitor.note(
            "jsonPath",
            "is an expression of JSONata: write `expect_json` by hand",
        );
    };
    let value = gatus_json::value_of(&expected);
    let comparison = match operator.as_str() {
        "==" => "equals",
        "!=" => "not_equals",
        "<" => "less_than",
        "<=" => "at_most",
        ">" => "greater_than",
        ">=" => "at_least",
        "contains" => "matches",
        _ => return monitor.note("jsonPathOperator", "is not known here"),
    };
    let value = match comparison {
        "matches" => regex::escape(&expected).into(),
        "equals" | "not_equals" => value,
        _ if !value.is_number() => {
            return monitor.note("expectedValue", "only numbers have an order here");
        }
        _ => value,
    };
    if !draft.compare("expect_json", &path, comparison, value) {
        monitor.note("jsonPath", "is there twice");
    }
}
