//! Reads the `blackbox.yml` of Prometheus' [blackbox_exporter](https://github.com/prometheus/blackbox_exporter),
//! and the scrape jobs of a Prometheus configuration that probe through one.
//!
//! A module says how to check, a scrape job what: a module with its targets makes sites. A module that no
//! target uses is written as a comment, so that nothing of it is lost and a URL is all it lacks.

use std::collections::BTreeSet;

use super::blackbox_module::{self, Module};
use super::blackbox_target::{self, Job};
use super::draft::{Draft, Names, readable_name};
use super::notes::Notes;
use super::section::Section;
use super::{ImportError, Outcome, input};
use crate::site_url::without_user_info;

/// The rest of a Prometheus configuration.
const PROMETHEUS: [&str; 11] = [
    "rule_files",
    "alerting",
    "remote_write",
    "remote_read",
    "storage",
    "tracing",
    "otlp",
    "scrape_config_files",
    "runtime",
    "recording_rules",
    "alert_rules",
];

pub(super) fn read(text: &str, notes: &Notes) -> Result<Outcome, ImportError> {
    let mut modules = Vec::new();
    let mut others = BTreeSet::new();
    let mut jobs = Vec::new();
    let mut is_known = false;
    for document in input::documents(text) {
        let mut root = Section::new("", input::yaml(&document)?, notes);
        is_known |= root.has("modules") || root.has("scrape_configs");
        if let Some(mut section) = root.section("modules") {
            for (name, value) in section.entries() {
                match blackbox_module::read(&name, value, notes) {
                    Some(module) => modules.push(module),
                    None => drop(others.insert(name)),
                }
            }
        }
        let global = blackbox_target::Global::read(&mut root);
        for section in root.sections("scrape_configs") {
            jobs.extend(blackbox_target::read(section, &global));
        }
        root.left_out(&PROMETHEUS, "Prometheus' own business");
        root.finish();
    }
    if !is_known {
        return Err(ImportError::new(
            "neither `modules` nor `scrape_configs`",
            "blackbox.yml, a Prometheus configuration that probes through a blackbox_exporter, or both",
        ));
    }
    let mut reader = Sites {
        modules: &modules,
        others: &others,
        jobs: &jobs,
        names: Names::default(),
        notes,
    };
    let mut drafts: Vec<Draft> = jobs.iter().flat_map(|job| reader.of_job(job)).collect();
    drafts.extend(reader.templates());
    Ok(Outcome {
        drafts,
        remarks: &[],
    })
}

/// Puts modules and targets together.
struct Sites<'a> {
    modules: &'a [Module],
    /// The names of the modules that do not speak HTTP.
    others: &'a BTreeSet<String>,
    jobs: &'a [Job],
    names: Names,
    notes: &'a Notes,
}

impl Sites<'_> {
    /// The sites of a job.
    fn of_job(&mut self, job: &Job) -> Vec<Draft> {
        if self.others.contains(&job.module) {
            self.notes.skip(&job.name, "its module does not speak HTTP");
            return Vec::new();
        }
        let base = match self.modules.iter().find(|module| module.name == job.module) {
            Some(module) => module.clone(),
            None if job.module.starts_with("http") => {
                self.notes.key(
                    &job.name,
                    "params.module",
                    "is not in this file: its sites have the exporter's defaults",
                );
                blackbox_module::by_default(&job.module)
            }
            None => {
                self.notes.skip(&job.name, "its module is not in this file");
                return Vec::new();
            }
        };
        let mut drafts = Vec::new();
        for target in &job.targets {
            let mut draft = base.draft.clone();
            let has_scheme = target.contains("://");
            let url = if has_scheme {
                target.clone()
            } else {
                format!("http://{target}")
            };
            if let Err(why) = draft.set_url(&url) {
                self.notes.skip(&shown(target), format!("its URL {why}"));
                continue;
            }
            // A target alone is name enough, unless several jobs probe it.
            let is_shared = self
                .jobs
                .iter()
                .any(|other| other.name != job.name && other.targets.contains(target));
            let name = if is_shared {
                format!("{}/{}", job.label, shown(target))
            } else {
                shown(target)
            };
            draft.name = self.names.take(&readable_name(&name), self.notes);
            job.schedule(&mut draft, base.timeout, self.notes);
            drafts.push(draft);
        }
        drafts
    }

    /// The modules that no target uses.
    fn templates(&mut self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for module in self.modules {
            if self
                .jobs
                .iter()
                .any(|job| job.module == module.name && !job.targets.is_empty())
            {
                continue;
            }
            self.notes.whole(
                &module.draft.name,
                "no target uses it: it is written as a comment, to be completed with a URL",
            );
            let mut draft = module.draft.clone();
            draft.name = self.names.take(&readable_name(&module.name), self.notes);
            blackbox_target::Global::default().schedule(&mut draft, module.timeout);
            drafts.push(draft);
        }
        drafts
    }
}

/// A target without user info, since it goes into names and messages.
fn shown(target: &str) -> String {
    match url::Url::parse(target) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            without_user_info(url).into()
        }
        _ => crate::mask::mask_user_info(target),
    }
}
