//! The command `validate`: what the settings say, where it was written, and what a reload of them would do.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf, time::SystemTime};

use sitewatch_actors::{database, kafka};
use sitewatch_config::{Role, Settings, Site, Sources, diff_sites, explain_site, load, load_any};

use crate::exit::Failure;
use crate::output::print;

/// Reads the settings and reports every mistake.
pub(crate) fn validate(sources: &Sources, role: Option<Role>) -> Result<(), Failure> {
    let settings = read(sources, role)?;
    let files: Vec<_> = settings
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let sites = sites(settings.sites.len());
    let from = if files.is_empty() {
        ", and no settings file (none is named, and there is no sitewatch.yaml here)".to_owned()
    } else {
        format!(" from {}", files.join(", "))
    };
    let mut text = format!("settings are valid: {sites}{from}\n");
    for warning in settings.warnings(SystemTime::now()) {
        let _ = writeln!(text, "warning: {warning}");
    }
    for unused in &settings.unused {
        let _ = writeln!(text, "note: {unused}");
    }
    print(&text)
}

fn sites(count: usize) -> String {
    match count {
        1 => "1 site".to_owned(),
        count => format!("{count} sites"),
    }
}

fn read(sources: &Sources, role: Option<Role>) -> Result<Settings, Failure> {
    let settings = role
        .map_or_else(|| load_any(sources), |role| load(role, sources))
        .map_err(Failure::config)?;
    kafka::try_out(&settings.kafka).map_err(Failure::config)?;
    database::try_out(&settings.postgres)
        .map_err(|problem| Failure::config(format!("postgres.url: {problem}")))?;
    Ok(settings)
}

/// Shows what is in force for one site, and where each of it was written.
pub(crate) fn explain(sources: &Sources, name: &str) -> Result<(), Failure> {
    let Some(explanation) = explain_site(sources, name).map_err(Failure::config)? else {
        return Err(Failure::config(format!(
            "no site of the settings files is named {name:?}"
        )));
    };
    let rows = &explanation.rows;
    let widest =
        |cell: &dyn Fn(usize) -> usize| (0..rows.len()).map(cell).max().unwrap_or_default();
    let key = widest(&|n| rows[n].key.len());
    let value = widest(&|n| rows[n].value.chars().count()).min(48);
    let site = &explanation.site;
    let mut text = format!("{}: {}\n", site.name, site.shown_url());
    for row in rows {
        let _ = writeln!(
            text,
            "  {:<key$}  {:<value$}  {}",
            row.key, row.value, row.origin
        );
    }
    print(&text)
}

/// Shows what a reload from the settings file `old` to these would start, stop and replace.
pub(crate) fn diff(sources: &Sources, old: PathBuf, role: Option<Role>) -> Result<(), Failure> {
    let new = read(sources, role)?;
    let mut before = sources.clone();
    before.config = Some(old);
    let old = read(&before, role)?;
    let changes = diff_sites(&old.sites, &new.sites);
    let mut text = String::new();
    for site in &changes.start {
        let _ = writeln!(text, "+ {}", site.name);
    }
    for name in &changes.stop {
        let _ = writeln!(text, "- {name}");
    }
    for (before, site) in &changes.replace {
        let _ = writeln!(text, "~ {}: {}", site.name, changed(before, site));
    }
    for (section, is_other) in [
        ("node", old.node != new.node),
        ("kafka", old.kafka != new.kafka),
        ("postgres", old.postgres != new.postgres),
    ] {
        if is_other {
            let _ = writeln!(text, "~ section {section}");
        }
    }
    let _ = writeln!(
        text,
        "{} would start, {} stop, {} be replaced; {} stay as they are",
        sites(changes.start.len()),
        changes.stop.len(),
        changes.replace.len(),
        changes.unchanged
    );
    print(&text)
}

/// The names of what is other than before.
fn changed(before: &Site, now: &Site) -> String {
    let (old, new) = (options(before), options(now));
    let mut keys: BTreeSet<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
    keys.retain(|key| old.get(*key) != new.get(*key));
    let mut keys: Vec<&str> = keys.into_iter().collect();
    if before.url != now.url {
        keys.insert(0, "url");
    }
    // Secrets are hidden from this comparison too.
    if keys.is_empty() {
        keys.push("a secret, or a file");
    }
    keys.join(", ")
}

fn options(site: &Site) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(&*site.options) {
        Ok(serde_json::Value::Object(options)) => options,
        _ => serde_json::Map::new(),
    }
}
