//! Judge 1: the program's own audit, which knows from the sites' revisions which rows must be there.

use std::{process::Stdio, time::Duration};

use serde_json::Value;

use super::{Findings, lives::Lives, slot};
use crate::{Failure, poison::LOCATION, settings::PROGRAM};

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(120);

/// Runs `audit` for the time since `since` and judges by what it prints. Gives the sums of its figures, by name.
pub(crate) async fn judge(
    folder: &std::path::Path,
    postgres: &str,
    since: jiff::Timestamp,
    lives: &Lives,
    findings: &mut Findings,
) -> Result<Vec<(String, u64)>, Failure> {
    let mut command = tokio::process::Command::new(PROGRAM);
    command
        .args(["audit", "--json", "--slots", "65535", "--since"])
        .arg(format!("{since:.0}"))
        .current_dir(folder)
        .env("POSTGRES_URL", postgres)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LONGEST, command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout);
    std::fs::write(folder.join("audit.json"), &*text)?;
    let mut objects = objects(&text);
    if objects.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("audit says nothing ({}): {}", output.status, said.trim()).into());
    }
    // What is sent twice in the name of others has no producer that announces its sites.
    objects.retain(|object| object.get("location").and_then(Value::as_str) != Some(LOCATION));
    let mut sums = Vec::<(String, u64)>::new();
    let mut only_in_memory = 0;
    for object in &objects {
        for (name, value) in object {
            let Some(value) = value.as_u64() else {
                continue;
            };
            match sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name.clone(), value)),
            }
        }
        let count = |name: &str| object.get(name).and_then(Value::as_u64).unwrap_or(0);
        let whose = || {
            format!(
                "{} from {}",
                text_of(object, "site"),
                text_of(object, "location")
            )
        };
        let Findings {
            lost,
            duplicate,
            unexplained,
            ..
        } = findings;
        let explained = explained(object, lives);
        only_in_memory += explained;
        let missing = count("missing") - explained;
        lost.add_many(missing, || format!("audit: {missing} missing, {}", whose()));
        duplicate.add_many(count("duplicate"), || {
            format!("audit: {} duplicate, {}", count("duplicate"), whose())
        });
        unexplained.add_many(count("unscheduled"), || {
            format!("audit: {} unscheduled, {}", count("unscheduled"), whose())
        });
    }
    sums.push((
        "of the missing only in memory, by a failing disk, at a kill".to_owned(),
        only_in_memory,
    ));
    Ok(sums)
}

/// How many of the missing slots a failing disk explains. None of them was accepted: the third judge would have found it.
fn explained(object: &Object, lives: &Lives) -> u64 {
    let location = object
        .get("location")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let slots = object.get("missing_slots").and_then(Value::as_array);
    slots
        .into_iter()
        .flatten()
        .filter_map(|missing| slot(missing.as_str()?))
        .filter(|missing| lives.explain(location, *missing))
        .count() as u64
}

type Object = serde_json::Map<String, Value>;

fn text_of(object: &Object, field: &str) -> String {
    object.get(field).map(Value::to_string).unwrap_or_default()
}

/// The objects that speak of one site and location: one a line, in an array, or in an array inside an object.
fn objects(text: &str) -> Vec<Object> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut found = Vec::new();
    values
        .flatten()
        .for_each(|value| collect(value, &mut found));
    found
}

fn collect(value: Value, found: &mut Vec<Object>) {
    match value {
        Value::Array(values) => values.into_iter().for_each(|value| collect(value, found)),
        Value::Object(object) if object.contains_key("site") => found.push(object),
        Value::Object(object) => object
            .into_iter()
            .for_each(|(_, value)| collect(value, found)),
        _ => {}
    }
}
