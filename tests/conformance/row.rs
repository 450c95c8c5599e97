//! One row of the table: a server's behaviour, a site's settings, and what the check must make of them.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use sitewatch_actors::{
    metrics::Metrics,
    site::{Checked, Parts, Surroundings},
};
use sitewatch_config::{Site, Sources, load_any};

use super::memory;

/// What a check may hold in memory beside the body that it may keep.
const BESIDE_THE_BODY: usize = 64 * 1024;
/// What the first check of a site over TLS makes for all that follow, and for other sites.
const TLS_CLIENT: usize = 2 * 1024;
/// The largest record of TLS: how much of the next one has come beside the one that is read is up to the server and the
/// kernel. Seen with HTTP/2 on a busy machine: 2 kB above the rest.
const TLS_RECORD: usize = 16 * 1024;
/// The most tries of a row where nothing but time was wrong: a busy machine may be slow at any moment.
const TRIES: usize = 4;
/// How much later than its timeout a check may end.
const LATE: Duration = Duration::from_millis(50);

/// Where checks are made from.
pub(crate) fn surroundings() -> Surroundings {
    let log = slog::Logger::root(slog::Discard, slog::o!());
    Surroundings::new("here".to_owned(), (100, 100), Metrics::new().unwrap(), log)
}

/// The site that these settings describe, read as a node reads them.
pub(crate) fn site(url: &str, settings: &str) -> Arc<Site> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sitewatch.yaml");
    let text = format!(
        "defaults: {{ timeout: 300ms, allow_private: true, max_body_bytes: 10000 }}\nsites:\n  - {{ name: row, url: '{url}', {settings} }}\n"
    );
    fs::write(&file, text).unwrap();
    let sources = Sources {
        config: Some(file),
        isolated: true,
        env: [("TOKEN".to_owned(), "from-env".to_owned())].into(),
        working_dir: folder.path().to_owned(),
        ..Sources::default()
    };
    let settings = load_any(&sources).unwrap_or_else(|problems| panic!("{settings}: {problems}"));
    settings.sites[0].clone()
}

/// One check of a site that has one part.
pub(crate) async fn check(site: &Site, around: &Surroundings) -> Checked {
    let mut all = Parts::of(site)
        .check(site, around.clock.now(), around)
        .await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// What the table says of one behaviour.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) url: String,
    pub(crate) settings: String,
    /// `up`, or the error kind of a site that is down.
    pub(crate) result: &'a str,
    /// What `error_detail` must say.
    pub(crate) words: &'a str,
    /// Fields of the message that must be there, with their values as JSON where these are told: `status=200`.
    pub(crate) fields: &'a [&'a str],
}

/// Makes the check of each row; panics with all rows that are not as they must be.
pub(crate) async fn check_all(rows: Vec<Row<'_>>) {
    let around = surroundings();
    // What a thread makes once is not the check's.
    let warm = site("http://127.0.0.1:1/", "");
    check(&warm, &around).await;
    let mut wrong = Vec::new();
    let count = rows.len();
    for row in rows {
        let site = site(&row.url, &row.settings);
        for tries_left in (0..TRIES).rev() {
            let (before, begun) = (memory::watch(), Instant::now());
            let checked = check(&site, &around).await;
            let (took, peak) = (begun.elapsed(), memory::peak_since(before));
            let message = serde_json::to_value(&checked.result).unwrap();
            if tries_left > 0 && too_late(&row, &site, &message, took) {
                continue;
            }
            let found = problems(&row, &site, &message, took, peak);
            wrong.extend(
                found
                    .iter()
                    .map(|problem| format!("{}: {problem}\n    {message}", row.name)),
            );
            break;
        }
    }
    assert!(wrong.is_empty(), "of {count} rows\n{}", wrong.join("\n"));
}

/// Returns true if the check ended later than it should, or if a time-out cut it off before the row's result.
fn too_late(row: &Row<'_>, site: &Site, message: &Value, took: Duration) -> bool {
    let result = message["error"].as_str().unwrap_or("up");
    took > allowed(site) || (result.ends_with("_timeout") && result != row.result)
}

/// The longest that a check of this site may take.
fn allowed(site: &Site) -> Duration {
    let schedule = &site.options.schedule;
    let retries = u32::from(schedule.retries);
    (schedule.timeout + LATE + schedule.retry_delay * retries.min(1)) * (retries + 1)
}

fn problems(
    row: &Row<'_>,
    site: &Site,
    message: &Value,
    took: Duration,
    peak: usize,
) -> Vec<String> {
    let mut problems = Vec::new();
    let result = message["error"].as_str().unwrap_or("up");
    if result != row.result {
        problems.push(format!("{result}, not {}", row.result));
    }
    let outcome = match row.result {
        "up" => "up",
        "too_slow" => "degraded",
        "internal_error" => "unknown",
        _ => "down",
    };
    if message["outcome"] != outcome {
        problems.push(format!("outcome is not {outcome}"));
    }
    let detail = message["error_detail"].as_str().unwrap_or_default();
    if !detail.contains(row.words) {
        problems.push(format!("the detail does not say {:?}", row.words));
    }
    if detail.len() > 256 || detail.contains(char::is_control) {
        problems.push("the detail is not fit to be stored".to_owned());
    }
    if message.to_string().contains("\\u0000") {
        problems.push("there is a NUL in the message".to_owned());
    }
    for field in row.fields {
        let right = match field.split_once('=') {
            Some((name, value)) => message[name] == serde_json::from_str::<Value>(value).unwrap(),
            None => !message[*field].is_null(),
        };
        if !right {
            problems.push(format!("the field {field} is not there"));
        }
    }
    let allowed = allowed(site);
    if took > allowed {
        problems.push(format!("took {took:?} of {allowed:?}"));
    }
    let client = if site.url.scheme() == "https" {
        TLS_CLIENT + TLS_RECORD
    } else {
        0
    };
    let most = site.options.expect.max_body_bytes + BESIDE_THE_BODY + client;
    if peak > most {
        problems.push(format!("held {peak} bytes, {most} are allowed"));
    }
    problems
}
