//! Messages at each bound of their schema and one beyond, made from the schema itself: a new field or bound is tried without a word here.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

mod tries;

use serde_json::{Map, Value, json};

use self::tries::tries;

pub const CHECK: &str = include_str!("../../../actors/src/model/message.schema.json");
pub const REVISION: &str = include_str!("../../../actors/src/model/revision.schema.json");

/// A message with one field changed.
pub struct Case {
    /// Which field, and to what.
    pub name: String,
    pub payload: Vec<u8>,
    /// The message as JSON, unless only its text has what is tried.
    pub json: Option<Value>,
    /// Set if it is to be stored.
    pub is_kept: bool,
    /// The site's name.
    pub site: Value,
}

/// A check with each field, up to the deepest one, at `slot`.
pub fn check(slot: &str) -> Value {
    let phases = json!({ "dns_us": 1, "connect_us": 2, "tls_us": 3, "ttfb_us": 4, "body_us": 5, "total_us": 15 });
    let with = |more: Value| {
        let mut all = phases.as_object().unwrap().clone();
        all.extend(more.as_object().unwrap().clone());
        Value::Object(all)
    };
    let fault = json!({ "error": "too_slow", "error_detail": "slow" });
    with(json!({
        "v": 1, "kind": "check", "site": "a", "url": "http://a/", "location": "here", "slot": slot, "lateness_us": 7,
        "outcome": "degraded", "error": "too_slow", "error_detail": "slow", "status": 200, "http_version": "1.1", "remote_ip": "192.0.2.1",
        "body_bytes": 10, "redirects": 1, "attempts": 2, "reached": "body", "final_url": "http://b/",
        "hops": [with(json!({ "url": "http://a/", "status": 302, "remote_ip": "192.0.2.1" }))], "failures": [fault, fault],
        "failed_attempts": [with(json!({ "error": "tls_error", "error_detail": "no", "reached": "tls", "status": 500 }))],
        "refused": ["[::1]:80: refused"], "tls_version": "1.3", "cert_expires_at": "2030-01-01T00:00:00.000000Z", "cert_issuer": "CN=b",
        "body_match": true, "capture": { "headers": [["a", "b"]], "body": "oops", "truncated": false }, "labels": { "env": "prod" },
        "config_hash": "0123456789abcdef"
    }))
}

/// A revision with each field but `cron`.
pub fn revision() -> Value {
    json!({
        "v": 1, "kind": "site", "site": "a", "url": "http://a/", "location": "here", "since": "2026-01-01T00:00:00.000000Z",
        "until": "2026-01-02T00:00:00.000000Z", "interval_us": 60_000_000, "phase_us": 0, "check_limit_us": 10_000_000,
        "config_hash": "0123456789abcdef", "failure_threshold": 3, "success_threshold": 2, "flap_window_us": 1, "group": "g",
        "tags": ["t"], "formerly": ["f"], "sla_target": 99.5, "sla_window_us": 86_400_000_000_i64, "labels": { "env": "prod" },
        "run": "2026-01-01T00:00:00.000000Z"
    })
}

/// A revision with each field of one that has a calendar.
pub fn calendar() -> Value {
    let mut message = revision();
    for field in ["interval_us", "phase_us", "until"] {
        message.as_object_mut().unwrap().remove(field);
    }
    message["cron"] = "*/5 * * * * UTC".into();
    message
}

/// All cases of a schema, upon `base`, which has each of its fields but `absent`.
pub fn cases(schema: &str, base: &Value, absent: &[&str]) -> Vec<Case> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let mut maker = Maker {
        schema: &schema,
        base,
        absent,
        cases: Vec::new(),
    };
    maker.walk(&schema, String::new());
    maker.texts();
    maker.cases
}

struct Maker<'a> {
    schema: &'a Value,
    base: &'a Value,
    absent: &'a [&'a str],
    cases: Vec<Case>,
}

impl Maker<'_> {
    /// A part of the schema with what it refers to.
    fn resolved(&self, part: &Value) -> Map<String, Value> {
        let mut words = match part["$ref"].as_str() {
            None => Map::new(),
            Some(reference) => self.resolved(self.schema.pointer(&reference[1..]).unwrap()),
        };
        for (word, value) in part.as_object().unwrap() {
            match (words.get_mut(word), value) {
                (Some(Value::Object(before)), Value::Object(more)) => before.extend(more.clone()),
                _ => drop(words.insert(word.clone(), value.clone())),
            }
        }
        words
    }

    fn walk(&mut self, part: &Value, place: String) {
        let words = self.resolved(part);
        let is_there = self.base.pointer(&place).is_some();
        if !is_there && self.absent.iter().any(|it| place == format!("/{it}")) {
            return;
        }
        assert!(is_there, "the message of the test lacks {place}");
        if !place.is_empty() {
            for (value, is_kept) in tries(&words, self.base.pointer(&place).unwrap()) {
                // A consumer passes over words of a later version, which the schema of today can't know.
                let is_later = value == "gremlins" && words.contains_key("enum");
                let is_passed_over = is_later && !["/outcome", "/error"].contains(&&*place);
                self.change(&place, value, is_kept || is_passed_over);
                if let Some(case) = self.cases.last_mut().filter(|_| is_passed_over) {
                    case.json = None;
                }
            }
        }
        for name in words
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let mut message = self.base.clone();
            let object = message
                .pointer_mut(&place)
                .unwrap()
                .as_object_mut()
                .unwrap();
            object.remove(name.as_str().unwrap());
            self.add(format!("{place} without {name}"), message, false);
        }
        for (name, part) in words
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            self.walk(part, format!("{place}/{name}"));
        }
        if let Some(item) = words.get("items") {
            self.walk(item, format!("{place}/0"));
        }
        if let (Some(names), Some(value)) = (
            words.get("propertyNames"),
            words.get("additionalProperties"),
        ) {
            self.walk(value, format!("{place}/env"));
            for (name, is_kept) in tries(&self.resolved(names), &json!("env")) {
                if let Value::String(name) = name {
                    self.change(&place, json!({ name: "x" }), is_kept);
                }
            }
        }
    }

    /// Instants have a meaning beyond their own bounds: a slot of long ago is set aside, too.
    fn change(&mut self, place: &str, value: Value, is_kept: bool) {
        let mut message = self.base.clone();
        *message.pointer_mut(place).unwrap() = value.clone();
        let mut told = value.to_string();
        if told.len() > 60 {
            told = format!(
                "{} … of {} bytes",
                told.chars().take(40).collect::<String>(),
                told.len()
            );
        }
        let is_slot = place == "/slot"
            && value.as_str().is_none_or(|text| {
                !self.base["slot"]
                    .as_str()
                    .unwrap()
                    .starts_with(text.trim_end_matches('Z'))
            });
        if is_kept {
            make_sense(&mut message, place);
        }
        self.add(format!("{place} = {told}"), message, is_kept && !is_slot);
    }

    /// A name by which the case is found again.
    fn own_name(&self) -> String {
        let has_calendar = self.base.get("cron").is_some();
        let (n, kind) = (self.cases.len(), &self.base["kind"]);
        format!("case {n} of {kind}, calendar: {has_calendar}")
    }

    fn add(&mut self, name: String, mut message: Value, is_kept: bool) {
        if !name.starts_with("/site ") && message.get("site").is_some() {
            message["site"] = self.own_name().into();
        }
        self.cases.push(Case {
            name,
            payload: message.to_string().into_bytes(),
            site: message["site"].clone(),
            json: Some(message),
            is_kept,
        });
    }

    /// What only the text of a message can hold.
    fn texts(&mut self) {
        let deep = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let number = if self.base["kind"] == "check" {
            "lateness_us"
        } else {
            "flap_window_us"
        };
        let written = |value: &str| (number.to_owned(), value.to_owned());
        for ((field, value), is_kept) in [
            (written("1.0"), true),
            (written("1e3"), true),
            (written("-0"), true),
            (written("-0.0"), true),
            (written("1e-300000"), true),
            (written("1e400"), false),
            (written("0x1"), false),
            (written("NaN"), false),
            (written("1.5"), false),
            (written("9223372036854775808"), false),
            (written("-9223372036854775809"), false),
            (
                (
                    "later".to_owned(),
                    r#"{"a": [1, null, "x", {}], "a": 2}"#.to_owned(),
                ),
                true,
            ),
            (("later".to_owned(), deep(100)), true),
            (("later".to_owned(), deep(20_000)), false),
            (("later".to_owned(), r#""\ud800""#.to_owned()), false),
            (("url".to_owned(), r#""http://\udc00/""#.to_owned()), false),
            (
                ("url".to_owned(), "\"a\", \"url\": \"b\"".to_owned()),
                false,
            ),
            (
                ("labels".to_owned(), r#"{"a": "b", "a": "c"}"#.to_owned()),
                true,
            ),
        ] {
            let mut message = self.base.clone();
            message["site"] = self.own_name().into();
            message[&field] = "HERE".into();
            let text = message.to_string().replace("\"HERE\"", &value);
            let shown: String = value.chars().take(40).collect();
            self.cases.push(Case {
                name: format!("{field}: {shown}"),
                payload: text.into_bytes(),
                json: None,
                is_kept,
                site: message["site"].clone(),
            });
        }
    }
}

/// Beside a bound of a field there are some of several fields together: here they are kept.
fn make_sense(message: &mut Value, place: &str) {
    let Some(interval) = message["interval_us"].as_f64().map(|it| it as i64) else {
        return;
    };
    let mut interval = interval;
    match place {
        "/since" => drop(message.as_object_mut().unwrap().remove("until")),
        "/until" => {
            message["since"] = "1970-01-01T00:00:00.000000Z".into();
        }
        "/phase_us" => {
            let phase = message["phase_us"].as_f64().unwrap() as i64;
            interval = 86_400_000_000;
            message["interval_us"] = interval.into();
            message["since"] = instant(phase).into();
            message.as_object_mut().unwrap().remove("until");
            return;
        }
        _ => {}
    }
    let since = micros(message["since"].as_str().unwrap());
    message["phase_us"] = since.rem_euclid(interval).into();
}

fn micros(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

fn instant(micros: i64) -> String {
    format!("{:.6}", jiff::Timestamp::from_microsecond(micros).unwrap())
}
