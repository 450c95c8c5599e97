//! Other rules of incidents, to see what they would have made of the history: the file of `rejudge --rules`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use config::{Value, ValueKind};

use crate::fields::Fields;
use crate::file;
use crate::incident::{self, IncidentOptions};
use crate::problem::Problems;
use crate::report::Report;

/// What a rules file says; what it does not say stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    failure_threshold: Option<u8>,
    success_threshold: Option<u8>,
    flap_window: Option<Duration>,
}

impl Said {
    fn read(fields: &Fields<'_>) -> Self {
        let options = incident::read(fields, &IncidentOptions::default());
        let is_written = |name| fields.place_of(name).is_some();
        Said {
            failure_threshold: is_written("failure_threshold").then_some(options.failure_threshold),
            success_threshold: is_written("success_threshold").then_some(options.success_threshold),
            flap_window: is_written("flap_window").then_some(options.flap_window),
        }
    }

    fn over(self, base: IncidentOptions) -> IncidentOptions {
        IncidentOptions {
            failure_threshold: self.failure_threshold.unwrap_or(base.failure_threshold),
            success_threshold: self.success_threshold.unwrap_or(base.success_threshold),
            flap_window: self.flap_window.unwrap_or(base.flap_window),
        }
    }
}

/// Other rules, for all sites, for those of a group, and for single ones.
#[derive(Clone, Debug, Default)]
pub struct OtherRules {
    all: Said,
    groups: BTreeMap<String, Said>,
    sites: BTreeMap<String, Said>,
}

impl OtherRules {
    /// Reads a file: YAML, TOML or JSON with `failure_threshold`, `success_threshold` and `flap_window`, and with the mappings
    /// `groups` and `sites`, which have the same under each name.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(path: &Path, working_dir: &Path) -> Result<Self, Problems> {
        let report = Report::new(working_dir);
        let table = file::read(path, &report).unwrap_or_default();
        let is_empty = table.is_empty();
        let value = Value::new(None, ValueKind::Table(table));
        let root = Fields::root(&value, &report);
        let rules = OtherRules {
            all: Said::read(&root),
            groups: named(&root, "groups"),
            sites: named(&root, "sites"),
        };
        root.finish();
        if is_empty {
            report.blame_by_default(&path.to_string_lossy());
            report.add(None, "", "no rules", "failure_threshold, success_threshold or flap_window, for all or under groups and sites");
        }
        report.into_result(rules)
    }

    /// The rules of a site of which `base` was in force.
    pub fn of(&self, site: &str, group: Option<&str>, base: IncidentOptions) -> IncidentOptions {
        let of_group = group.and_then(|group| self.groups.get(group));
        let layers = [Some(&self.all), of_group, self.sites.get(site)];
        layers
            .into_iter()
            .flatten()
            .fold(base, |base, said| said.over(base))
    }

    /// The sites and groups that it names.
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        fn keys(said: &BTreeMap<String, Said>) -> Vec<&str> {
            said.keys().map(String::as_str).collect()
        }
        (keys(&self.sites), keys(&self.groups))
    }
}

fn named(root: &Fields<'_>, section: &'static str) -> BTreeMap<String, Said> {
    let section = root.section(section);
    let read = |(name, item): (&String, crate::item::Item<'_>)| {
        let ValueKind::Table(_) = &item.value.kind else {
            return item
                .wrong_type("a mapping with failure_threshold, success_threshold or flap_window");
        };
        let fields = Fields::of(item.value, item.key(), item.report);
        let said = Said::read(&fields);
        fields.finish();
        Some((name.clone(), said))
    };
    section.entries().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<OtherRules, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yaml"), text).unwrap();
        OtherRules::load(Path::new("rules.yaml"), folder.path())
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_is_said_of_a_site_goes_over_its_group_and_that_over_all() {
        let rules = load(
            "failure_threshold: 2\ngroups: { web: { flap_window: 0s, failure_threshold: 4 } }\nsites: { a: { failure_threshold: 5 } }",
        );
        let rules = rules.unwrap();
        let base = IncidentOptions {
            success_threshold: 7,
            ..IncidentOptions::default()
        };
        let of = |site, group| rules.of(site, group, base);
        assert_eq!(
            (
                of("b", None).failure_threshold,
                of("b", None).success_threshold
            ),
            (2, 7)
        );
        assert_eq!(
            (
                of("b", Some("web")).failure_threshold,
                of("b", Some("web")).flap_window
            ),
            (4, Duration::ZERO)
        );
        assert_eq!(of("a", Some("web")).failure_threshold, 5);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, told) in [
            ("failure_treshold: 2", "did you mean"),
            (
                "sites: { a: { failure_threshold: 0 } }",
                "rules.yaml: sites.a.failure_threshold: found 0; expected a whole number from 1 to 30",
            ),
            ("sites: { a: 3 }", "a mapping with"),
            ("{}", "rules.yaml: found no rules"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(told), "{text}: {said}");
        }
    }
}
