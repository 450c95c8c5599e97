//! Reads the `config.yaml` of [Gatus](https://github.com/TwiN/gatus).

use std::time::Duration;

use super::draft::{Draft, INTERVALS, Names, readable_name};
use super::gatus_client;
use super::gatus_condition::Conditions;
use super::gatus_value::{has_variable, in_a_body, secret, with_variables};
use super::notes::Notes;
use super::section::Section;
use super::{ImportError, Outcome, duration, input, request};

const REMARKS: &[&str] = &[
    "Gatus compares text: its `[BODY].id == 1` is also true of \"1\". `equals: 1` here is true of the number only.",
];

/// What Gatus has beside the endpoints.
const NO_ALERTS: &str = "no alerts are sent here: ask the view incidents, or the metrics";
const WINDOWS: &str = "windows are kept in the database: sitewatch-node maintenance add";
const NOT_HERE: &str = "no counterpart here";

pub(super) fn read(text: &str, notes: &Notes) -> Result<Outcome, ImportError> {
    let table = match &*input::documents(text) {
        [] => input::yaml(text)?,
        [one] => input::yaml(one)?,
        _ => {
            return Err(ImportError::new(
                "several YAML documents",
                "one, as Gatus reads it",
            ));
        }
    };
    let mut root = Section::new("", table, notes);
    // `services` is the name that endpoints had before Gatus 4.
    let mut endpoints = root.sections("endpoints");
    endpoints.append(&mut root.sections("services"));
    let mut external = root.sections("external-endpoints");
    let mut suites = root.sections("suites");
    if endpoints.is_empty() && external.is_empty() && suites.is_empty() {
        return Err(ImportError::new(
            "no endpoints",
            "Gatus' configuration, with a list `endpoints:`",
        ));
    }
    root.left_out(&["alerting"], NO_ALERTS);
    root.left_out(
        &[
            "storage",
            "web",
            "ui",
            "metrics",
            "security",
            "connectivity",
            "remote",
            "tunneling",
            "announcements",
            "concurrency",
            "debug",
            "disable-monitoring-lock",
            "skip-invalid-config-update",
        ],
        NOT_HERE,
    );
    root.left_out(&["maintenance"], WINDOWS);
    root.finish();

    let mut names = Names::default();
    let drafts = endpoints
        .into_iter()
        .filter_map(|one| endpoint(one, &mut names))
        .collect();

    for one in &mut external {
        let name =
            Name::read(one).map_or_else(|| "external-endpoints".to_owned(), |name| name.full());
        notes.skip(
            &name,
            "an external endpoint is told its status by others and checks nothing",
        );
    }
    for suite in &mut suites {
        let name = Name::read(suite).map_or_else(|| "suites".to_owned(), |name| name.full());
        notes.skip(
            &name,
            "a suite is several requests in a row; a site here is one",
        );
    }
    Ok(Outcome {
        drafts,
        remarks: REMARKS,
    })
}

/// The name of an endpoint, and of its group.
struct Name {
    group: Option<String>,
    own: String,
}

impl Name {
    fn read(endpoint: &mut Section<'_>) -> Option<Name> {
        Some(Name {
            group: endpoint.text("group"),
            own: endpoint.text("name")?,
        })
    }

    /// `group/name`, since names alone are unique within their group only.
    fn full(&self) -> String {
        let full = match &self.group {
            Some(group) => format!("{group}/{}", self.own),
            None => self.own.clone(),
        };
        readable_name(&with_variables(&full))
    }
}

fn endpoint(mut endpoint: Section<'_>, names: &mut Names) -> Option<Draft> {
    let Some(parts) = Name::read(&mut endpoint) else {
        endpoint.note("name", "is missing, and the endpoint is left out");
        return None;
    };
    let name = parts.full();
    endpoint.rename(&name);
    if endpoint.flag("enabled") == Some(false) {
        endpoint.notes.skip(&name, "it is not enabled");
        return None;
    }
    if endpoint.has("dns") || endpoint.has("ssh") {
        endpoint.notes.skip(
            &name,
            "it is no HTTP check, and nothing else is checked here",
        );
        return None;
    }
    let mut draft = Draft::new(&name);
    url(&mut endpoint, &mut draft)?;
    draft.name = names.take(&name, endpoint.notes);
    endpoint.rename(&draft.name);
    endpoint.notes.enter(&draft.name);
    if let Some(group) = &parts.group {
        draft.set("group", with_variables(group));
    }
    interval(&mut endpoint, &mut draft);
    gatus_client::read(&mut endpoint, &mut draft);
    request::method(&mut endpoint, "method", &mut draft);
    request::headers(&mut endpoint, "headers", &mut draft, secret);
    body(&mut endpoint, &mut draft, &parts);
    let conditions = endpoint.texts("conditions");
    let mut reader = Conditions::new(&endpoint, &mut draft);
    for (number, condition) in conditions.iter().enumerate() {
        reader.read(number, condition);
    }
    reader.finish();
    endpoint.left_out(&["alerts"], NO_ALERTS);
    endpoint.left_out(&["maintenance-windows"], WINDOWS);
    endpoint.left_out(
        &["ui", "extra-labels", "store", "always-run", "depends-on"],
        NOT_HERE,
    );
    endpoint.finish();
    Some(draft)
}

/// `None` if this is no HTTP endpoint.
fn url(endpoint: &mut Section<'_>, draft: &mut Draft) -> Option<()> {
    let place = endpoint.place.clone();
    let Some(url) = endpoint.text("url") else {
        endpoint.notes.skip(&place, "it has no URL");
        return None;
    };
    if has_variable(&url) {
        endpoint.note("url", "a variable is not replaced in a URL: the site is written as a comment, to be completed");
        draft.url = with_variables(&url);
        return Some(());
    }
    if let Err(why) = draft.set_url(&with_variables(&url)) {
        endpoint.notes.skip(&place, format!("its URL {why}"));
        return None;
    }
    Some(())
}

fn interval(endpoint: &mut Section<'_>, draft: &mut Draft) {
    let written = endpoint.text("interval");
    let interval = written.as_deref().and_then(duration::parse);
    if written.is_some() && interval.is_none() {
        endpoint.note(
            "interval",
            "is no duration: 60s, Gatus' default, is written",
        );
    }
    let interval = interval
        .filter(|interval| !interval.is_zero())
        .unwrap_or(Duration::from_secs(60));
    draft.set_duration("interval", interval, INTERVALS, (endpoint, "interval"));
}

fn body(endpoint: &mut Section<'_>, draft: &mut Draft, name: &Name) {
    let is_graphql = endpoint.flag("graphql") == Some(true);
    let Some(body) = endpoint.text("body") else {
        if is_graphql {
            endpoint.note("graphql", "has no body");
        }
        return;
    };
    if body.contains("[RANDOM_STRING_") {
        endpoint.note("body", "[RANDOM_STRING_…] is sent as it stands");
    }
    // Gatus fills these in for each request; here they are the same for all.
    let body = in_a_body(&body)
        .replace("[ENDPOINT_NAME]", &name.own)
        .replace(
            "[ENDPOINT_GROUP]",
            name.group.as_deref().unwrap_or_default(),
        )
        .replace("[ENDPOINT_URL]", &draft.url);
    if is_graphql {
        // The body is the query, and the query is sent in an object of its own.
        draft.set_in("json", "query", body);
    } else {
        draft.set("body", body);
    }
}
