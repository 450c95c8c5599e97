//! Reads the `url_config.yaml` of the original project: a list `schedule:` of URLs with options.
//!
//! The loader reads such a file as it is; an import is for those who want to write on in the new form.

use super::draft::{Draft, Names, readable_name};
use super::notes::Notes;
use super::request::to_the_letter;
use super::section::Section;
use super::{ImportError, Outcome, input, request};
use crate::body::{change_texts, json};
use crate::site_url::without_user_info;

/// The options that mean the same here.
const SAME: [&str; 8] = [
    "interval",
    "timeout",
    "expected_status",
    "allow_private",
    "follow_redirects",
    "max_redirects",
    "max_body_bytes",
    "body_matches",
];

pub(super) fn read(text: &str, notes: &Notes) -> Result<Outcome, ImportError> {
    let mut root = Section::new("", input::yaml(text)?, notes);
    if !root.has("schedule") {
        return Err(ImportError::new(
            "no `schedule`",
            "the original project's file, with a list `schedule:`",
        ));
    }
    let entries = root.sections("schedule");
    root.finish();
    let mut names = Names::default();
    let drafts = entries
        .into_iter()
        .filter_map(|one| site(one, &mut names))
        .collect();
    Ok(Outcome {
        drafts,
        remarks: &[],
    })
}

fn site(mut site: Section<'_>, names: &mut Names) -> Option<Draft> {
    let url = site.text("url").unwrap_or_default();
    let mut draft = Draft::new("");
    if let Err(why) = draft.set_url(&url) {
        site.note("url", format!("{why}: the site is left out"));
        return None;
    }
    let written = site.text("name");
    let shown = url::Url::parse(&url)
        .ok()
        .filter(|url| !url.username().is_empty() || url.password().is_some());
    // A name goes into logs and the database, so that it never has the user info of a URL.
    let name = written
        .or_else(|| shown.map(|url| without_user_info(url).into()))
        .unwrap_or(url);
    draft.name = names.take(&readable_name(&name), site.notes);
    site.rename(&draft.name);
    site.notes.enter(&draft.name);
    request::method(&mut site, "method", &mut draft);
    request::headers(&mut site, "headers", &mut draft, to_the_letter);
    if let Some(body) = site.take("body") {
        let mut body = json(&body);
        // Its texts say `${` here as they did there.
        change_texts(&mut body, &mut |text| {
            Some(request::without_variables(text))
        });
        draft.set("body", body);
    }
    for option in SAME {
        if let Some(value) = site.take(option) {
            draft.set(option, json(&value));
        }
    }
    for old in ["regexp", "regex"] {
        if let Some(text) = site.text(old) {
            request::pattern(&site, old, "body_matches", &text, &mut draft);
        }
    }
    site.finish();
    Some(draft)
}
