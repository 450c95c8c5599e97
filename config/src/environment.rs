//! The layers that come from variables: `.env`, the names of the original project, and `SITEWATCH__…`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use config::{Map, Value, ValueKind};

use crate::origin::Origin;
use crate::report::Report;

const PREFIX: &str = "SITEWATCH__";

/// The names of the original project, and what they set.
const LEGACY: [(&str, &str, &str); 3] = [
    ("KAFKA_SERVER", "kafka", "brokers"),
    ("KAFKA_TOPIC", "kafka", "topic"),
    ("POSTGRES_URL", "postgres", "url"),
];

/// All variables, of the process and of `.env`. One that is set to nothing counts as not set.
pub(crate) struct Variables(BTreeMap<String, Variable>);

struct Variable {
    text: String,
    source: &'static str,
}

impl Variables {
    /// Adds `.env` of the working directory, where present, below the variables of the process.
    pub(crate) fn gather(
        process: &BTreeMap<String, String>,
        with_dotenv: bool,
        report: &Report,
    ) -> (Self, bool) {
        let mut all = BTreeMap::new();
        let text = with_dotenv.then(|| read_dotenv(report)).flatten();
        for (name, text) in text
            .as_deref()
            .map(|text| parse_dotenv(text, report))
            .unwrap_or_default()
        {
            all.insert(
                name,
                Variable {
                    text,
                    source: ".env",
                },
            );
        }
        for (name, text) in process {
            all.insert(
                name.clone(),
                Variable {
                    text: text.clone(),
                    source: "environment",
                },
            );
        }
        all.retain(|_, variable| !variable.text.trim().is_empty());
        (Variables(all), text.is_some())
    }

    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        self.0.get(name).map(|variable| variable.value(name))
    }

    /// All of them, for values that refer to one.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let text = |(name, variable): (&String, &Variable)| (name.clone(), variable.text.clone());
        self.0.iter().map(text).collect()
    }

    /// The variables that the original project had.
    pub(crate) fn legacy_layer(&self) -> Map<String, Value> {
        let mut layer = Map::new();
        for (variable, section, name) in LEGACY {
            if let Some(value) = self.get(variable) {
                put(&mut layer, &[section.to_owned(), name.to_owned()], value);
            }
        }
        layer
    }

    /// The variables named after the settings: `SITEWATCH__SECTION__NAME`.
    pub(crate) fn layer(&self, report: &Report) -> Map<String, Value> {
        let mut layer = Map::new();
        let mut earlier: Vec<(Vec<String>, &str)> = Vec::new();
        for (name, variable) in &self.0 {
            let Some(path) = name.strip_prefix(PREFIX).map(path_of) else {
                continue;
            };
            let value = variable.value(name);
            let wrong =
                |found: &str, expected: &str| report.add(value.origin(), "", found, expected);
            if matches!(path[0].as_str(), "sites" | "schedule") {
                wrong("a list", "sites in a settings file, or --site URL");
            } else if path.len() < 2 || path.iter().any(String::is_empty) {
                wrong(
                    "no setting of this name",
                    "SITEWATCH__SECTION__NAME, such as SITEWATCH__KAFKA__BROKERS",
                );
            } else if let Some((_, other)) =
                earlier.iter().find(|(other, _)| is_within(&path, other))
            {
                wrong(
                    "a setting for a single value and its parts",
                    &format!("only one of this and {other}"),
                );
            } else {
                put(&mut layer, &path, value);
                earlier.push((path, name));
            }
        }
        layer
    }
}

impl Variable {
    fn value(&self, name: &str) -> Value {
        let origin = Origin::Variable {
            source: self.source,
            name,
        }
        .encode();
        Value::new(Some(&origin), self.text.as_str())
    }
}

/// The place of a variable in the settings. The names of Kafka's options have dots, those of headers dashes;
/// a variable's name can have neither.
fn path_of(name: &str) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let mut path: Vec<String> = name.split("__").map(str::to_owned).collect();
    let join = match (path[0].as_str(), path.get(1).map(String::as_str)) {
        ("kafka", Some("options")) => ".",
        ("defaults", Some("headers")) => "-",
        _ => return path,
    };
    if path.len() > 2 {
        let rest = path.split_off(2).join("_");
        path.push(rest.replace('_', join));
    }
    path
}

fn is_within(a: &[String], b: &[String]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn put(table: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table
        .entry(first.clone())
        .or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
    if let ValueKind::Table(inner) = &mut inner.kind {
        put(inner, rest, value);
    }
}

fn read_dotenv(report: &Report) -> Option<Vec<u8>> {
    let path = report.working_dir().join(".env");
    if !Path::new(&path).is_file() {
        return None;
    }
    match fs::read(path) {
        Ok(text) => Some(text),
        Err(error) => {
            report.add(
                Some(".env"),
                "",
                format!("a file that cannot be read ({error})"),
                "a readable file",
            );
            None
        }
    }
}

fn parse_dotenv(text: &[u8], report: &Report) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for variable in dotenvy::from_read_iter(text) {
        match variable {
            Ok(variable) => variables.push(variable),
            // The line may hold a secret: say where it is, never what it says.
            Err(dotenvy::Error::LineParse(line, _)) => {
                let text = String::from_utf8_lossy(text);
                let first = line.lines().next().unwrap_or_default().trim();
                let place = text.lines().position(|candidate| candidate.trim() == first);
                let found = place.map_or("a line".to_owned(), |n| format!("line {}", n + 1));
                report.add(
                    Some(".env"),
                    "",
                    format!("{found} that cannot be read"),
                    "NAME=value or NAME='value'",
                );
            }
            Err(_) => {
                report.add(
                    Some(".env"),
                    "",
                    "something that is not text",
                    "lines of NAME=value",
                );
                break;
            }
        }
    }
    variables
}
