//! What Prometheus probes, and how often: the scrape jobs for a blackbox_exporter.

use std::time::Duration;

use super::draft::{Draft, INTERVALS, TIMEOUTS};
use super::duration;
use super::notes::Notes;
use super::section::Section;

/// The times that jobs have in common.
#[derive(Clone)]
pub(super) struct Global {
    interval: Duration,
    timeout: Duration,
}

impl Default for Global {
    /// Prometheus' own defaults.
    fn default() -> Self {
        Global {
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Global {
    pub(super) fn read(root: &mut Section<'_>) -> Global {
        let mut global = Global::default();
        if let Some(mut section) = root.section("global") {
            global.take_times(&mut section);
            section.left_out(
                &[
                    "evaluation_interval",
                    "external_labels",
                    "query_log_file",
                    "scrape_protocols",
                ],
                "Prometheus' own business",
            );
            section.finish();
        }
        global
    }

    fn take_times(&mut self, section: &mut Section<'_>) {
        for (key, time) in [
            ("scrape_interval", &mut self.interval),
            ("scrape_timeout", &mut self.timeout),
        ] {
            if let Some(text) = section.text(key) {
                match duration::parse(&text).filter(|read| !read.is_zero()) {
                    Some(read) => *time = read,
                    None => section.note(key, "is no duration"),
                }
            }
        }
    }

    /// Sets the times of a site. The module's timeout is the shorter one, or has no effect.
    pub(super) fn schedule(&self, draft: &mut Draft, module_timeout: Option<Duration>) {
        let timeout = module_timeout.unwrap_or(self.timeout).min(self.timeout);
        let clamped = |time: Duration, [least, most]: [Duration; 2]| {
            duration::written(time.clamp(least, most))
        };
        draft.set("interval", clamped(self.interval, INTERVALS));
        draft.set("timeout", clamped(timeout, TIMEOUTS));
    }
}

/// A scrape job that probes through a blackbox_exporter.
pub(super) struct Job {
    /// As notes name it.
    pub(super) name: String,
    /// The label `job`.
    pub(super) label: String,
    pub(super) module: String,
    pub(super) targets: Vec<String>,
    times: Global,
}

impl Job {
    pub(super) fn schedule(
        &self,
        draft: &mut Draft,
        module_timeout: Option<Duration>,
        notes: &Notes,
    ) {
        self.times.schedule(draft, module_timeout);
        if self.times.interval > INTERVALS[1] || self.times.interval < INTERVALS[0] {
            notes.key(
                &self.name,
                "scrape_interval",
                "becomes the nearest that can be set here, 1s to 1day",
            );
        }
    }
}

/// Reads a scrape job. `None` if it is not for a blackbox_exporter.
pub(super) fn read(mut section: Section<'_>, global: &Global) -> Option<Job> {
    let label = section
        .text("job_name")
        .unwrap_or_else(|| "blackbox".to_owned());
    let name = format!("job {label}");
    section.rename(&name);
    let path = section.text("metrics_path").unwrap_or_default();
    let mut params = section.section("params");
    let modules = params
        .as_mut()
        .map(|params| params.texts("module"))
        .unwrap_or_default();
    if !path.ends_with("/probe") && modules.is_empty() {
        section
            .notes
            .skip(&name, "it does not probe through a blackbox_exporter");
        return None;
    }
    let mut targets = Vec::new();
    if let Some(mut params) = params {
        targets = params.texts("target");
        params.left_out(
            &["hostname"],
            "write it to the header `host` and to `tls.server_name` of each site",
        );
        params.left_out(&["debug"], "for people who look at a probe");
        params.finish();
    }
    for mut group in section.sections("static_configs") {
        targets.append(&mut group.texts("targets"));
        group.left_out(&["labels"], "a site here has a name only");
        group.finish();
    }
    let mut times = global.clone();
    times.take_times(&mut section);
    relabelling(&mut section);
    section.left_out(&["file_sd_configs"], "write its files to `target_files` of the settings file, and the module's options to `defaults`");
    for discovery in section.keys_ending("_sd_configs") {
        section.left_out(&[&discovery], "targets are not found by a service here: write them to `target_files` of the settings file");
    }
    section.left_out(
        &[
            "basic_auth",
            "authorization",
            "bearer_token",
            "bearer_token_file",
            "oauth2",
            "tls_config",
            "proxy_url",
            "scheme",
            "honor_labels",
            "honor_timestamps",
            "follow_redirects",
            "enable_http2",
            "metric_relabel_configs",
            "sample_limit",
            "label_limit",
            "scrape_protocols",
        ],
        "only between Prometheus and the exporter",
    );
    section.finish();
    if modules.len() > 1 {
        section.note("params.module", "only the first one counts");
    }
    // Without a name the exporter takes this module.
    let module = modules
        .into_iter()
        .next()
        .unwrap_or_else(|| "http_2xx".to_owned());
    Some(Job {
        name,
        label,
        module,
        targets,
        times,
    })
}

/// Every job for a blackbox_exporter hands its targets on by rules of the same form; only others are noted.
fn relabelling(section: &mut Section<'_>) {
    for (number, mut rule) in section.sections("relabel_configs").into_iter().enumerate() {
        let sources = rule.texts("source_labels");
        let target = rule.text("target_label").unwrap_or_default();
        let replacement = rule.text("replacement");
        let is_usual = match (&*sources, target.as_str()) {
            ([source], "__param_target") => source == "__address__" && replacement.is_none(),
            ([source], "instance") => source == "__param_target" && replacement.is_none(),
            ([], "__address__") => replacement.is_some(),
            _ => false,
        };
        if !is_usual || !rule.is_empty() {
            section.note(
                &format!("relabel_configs[{number}]"),
                "is no usual rule of a blackbox_exporter's job: labels are not rewritten here",
            );
        }
    }
}
