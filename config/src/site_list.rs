//! Lists of sites from more files: `include`, and `target_files` as Prometheus' file_sd has them.

use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};
use serde::Deserialize;

use crate::fields::Fields;
use crate::file;
use crate::item::Item;
use crate::origin::Origin;
use crate::report::Report;

/// The sites of one file.
pub(crate) struct SiteList {
    /// `sites`, `schedule` as in the original project, or `targets`.
    pub(crate) key: &'static str,
    pub(crate) value: Value,
    /// What the file says for all of its own sites.
    pub(crate) defaults: Option<Value>,
}

impl SiteList {
    pub(crate) fn has_entries(&self) -> bool {
        !matches!(&self.value.kind, ValueKind::Array(list) if list.is_empty())
    }
}

/// Takes the lists of sites out of a file's settings.
pub(crate) fn take_lists(table: &mut Map<String, Value>, report: &Report) -> Vec<SiteList> {
    let mut lists = Vec::new();
    for key in ["sites", "schedule"] {
        if let Some(value) = table
            .shift_remove(key)
            .filter(|value| value.kind != ValueKind::Nil)
        {
            lists.push(SiteList {
                key,
                value,
                defaults: None,
            });
        }
    }
    if let [_, schedule] = &*lists {
        let item = Item::new(&schedule.value, "", schedule.key, report);
        item.found::<()>("`schedule` beside `sites`", "only one of them");
    }
    lists
}

/// Reads the files that `include` and `target_files` name. Also gives all files that were read.
pub(crate) fn more(root: &Fields<'_>) -> (Vec<SiteList>, Vec<PathBuf>) {
    let (mut lists, mut files) = (Vec::new(), Vec::new());
    for item in [root.item("include")].into_iter().flatten() {
        for shown in matching(&item) {
            files.push(root.report.working_dir().join(&shown));
            lists.extend(included(&shown, root.report));
        }
    }
    for item in [root.item("target_files")].into_iter().flatten() {
        for shown in matching(&item) {
            files.push(root.report.working_dir().join(&shown));
            lists.extend(targets(&shown, root.report));
        }
    }
    (lists, files)
}

/// The files that the item's patterns match, in the order of their names. A pattern with no match is no mistake, a name
/// without one is.
fn matching(item: &Item<'_>) -> Vec<PathBuf> {
    let expected = "paths or patterns such as sites.d/*.yaml";
    let mut found = Vec::new();
    for text in item.texts(expected).unwrap_or_default() {
        let pattern = item.folder().join(&text);
        match glob::glob(&pattern.to_string_lossy()) {
            Ok(paths) => {
                let before = found.len();
                found.extend(paths.flatten().map(|path| shorten(path, item.report)));
                if found.len() == before && !text.contains(['*', '?', '[']) {
                    item.found::<()>(format!("{text:?} (no such file)"), item.a_file());
                }
            }
            Err(error) => {
                item.found::<()>(format!("{text:?} ({error})"), expected);
            }
        }
    }
    found
}

/// The path as people would write it.
fn shorten(path: PathBuf, report: &Report) -> PathBuf {
    path.strip_prefix(report.working_dir())
        .map(Path::to_owned)
        .unwrap_or(path)
}

/// The sites of a settings file that is included, with the defaults that it has for them.
fn included(shown: &Path, report: &Report) -> Vec<SiteList> {
    let Some(mut table) = file::read(shown, report) else {
        return Vec::new();
    };
    let defaults = table.shift_remove("defaults");
    let mut lists = take_lists(&mut table, report);
    for list in &mut lists {
        list.defaults.clone_from(&defaults);
    }
    for (name, value) in &table {
        Item::new(value, "", name.as_str(), report).found::<()>(
            format!("the key {name}"),
            "only `sites` and `defaults` in a file that is included",
        );
    }
    lists
}

/// One group of targets.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

/// The targets of a file in Prometheus' form. A target without a scheme is asked by http, as Prometheus does.
fn targets(shown: &Path, report: &Report) -> Option<SiteList> {
    let origin = Origin::File(&shown.to_string_lossy()).encode();
    let problem = |found: String| {
        let expected =
            r#"a list such as [{"targets": ["https://example.org"], "labels": {"env": "prod"}}]"#;
        report.add(Some(&origin), "", found, expected);
    };
    let text = match std::fs::read_to_string(report.working_dir().join(shown)) {
        Ok(text) => text,
        Err(error) => {
            problem(format!("a file that cannot be read ({error})"));
            return None;
        }
    };
    let groups: Vec<Group> = match serde_json::from_str(&text) {
        Ok(groups) => groups,
        Err(error) => {
            problem(format!("a syntax error ({error})"));
            return None;
        }
    };
    let value = |kind: ValueKind| Value::new(Some(&origin), kind);
    let mut sites = Vec::new();
    for group in groups {
        let mut shared = Map::<String, Value>::new();
        let mut labels = Map::<String, Value>::new();
        for (name, text) in group.labels {
            match name.as_str() {
                "__scrape_interval__" => shared.insert("interval".to_owned(), value(text.into())),
                "__scrape_timeout__" => shared.insert("timeout".to_owned(), value(text.into())),
                _ => labels.insert(name, value(text.into())),
            };
        }
        if !labels.is_empty() {
            shared.insert("labels".to_owned(), value(ValueKind::Table(labels)));
        }
        for target in group.targets {
            let url = if target.contains("://") {
                target
            } else {
                format!("http://{target}")
            };
            let mut site = Map::<String, Value>::new();
            site.insert("url".to_owned(), value(url.into()));
            site.extend(shared.clone());
            sites.push(value(ValueKind::Table(site)));
        }
    }
    Some(SiteList {
        key: "targets",
        value: value(ValueKind::Array(sites)),
        defaults: None,
    })
}
