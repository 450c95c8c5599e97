//! What the nodes' logs say.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

use serde::Deserialize;

use crate::{
    Failure, failpoints,
    fault::Node,
    judges::{Findings, accepted::Accepted, lives::Lives, table::Table},
};

/// A line, as far as anybody here asks.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) msg: Cow<'a, str>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) site: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) slot: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    actor: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

/// What was found in them.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) accepted: Accepted,
    /// When the producers' disks failed.
    pub(crate) lives: Lives,
    /// Restarts by actor and by reason: `panic`, `fault`, or another reason in full.
    pub(crate) restarts: BTreeMap<(String, String), u64>,
    /// Warnings and errors by text, with how often each was said.
    pub(crate) complaints: BTreeMap<String, u64>,
    /// Panics that nobody asked for.
    pub(crate) panics: Vec<String>,
}

/// Reads all logs of the nodes in `folder`, and lets the third judge hear those of the producers.
pub(crate) fn read(
    folder: &Path,
    table: &mut Table,
    findings: &mut Findings,
) -> Result<Heard, Failure> {
    let mut heard = Heard::default();
    let mut files: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let node = Node::ALL
            .into_iter()
            .find(|node| name.starts_with(node.name()));
        let (Some(node), true) = (node, name.ends_with(".log")) else {
            continue;
        };
        if node.is_producer() {
            heard.lives.begin(node.location());
        }
        let mut lines = BufReader::new(File::open(&file)?);
        let mut bytes = Vec::new();
        while lines.read_until(b'\n', &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            match serde_json::from_str::<Line<'_>>(&text) {
                Ok(line) => {
                    if node.is_producer() {
                        heard.accepted.hear(node.location(), &line, table, findings);
                        heard.lives.hear(&line);
                    }
                    heard.hear(&line);
                }
                // The panic hook's words; what it was about stands on the next line. Or the end of a line torn by a kill.
                Err(_) if text.contains("panicked at") => {
                    let place = text.trim().to_owned();
                    bytes.clear();
                    lines.read_until(b'\n', &mut bytes)?;
                    let message = String::from_utf8_lossy(&bytes);
                    let injected = [failpoints::MESSAGE, "the reading thread panicked"];
                    if !injected.contains(&message.trim()) {
                        heard
                            .panics
                            .push(format!("{name}: {place} {}", message.trim()));
                    }
                }
                Err(_) => {}
            }
            bytes.clear();
        }
    }
    Ok(heard)
}

impl Heard {
    fn hear(&mut self, line: &Line<'_>) {
        if matches!(&*line.level, "WARN" | "ERRO" | "CRIT" | "WARNING" | "ERROR") {
            *self.complaints.entry(line.msg.to_string()).or_default() += 1;
        }
        if line.msg == "actor failed, restarting" {
            let actor = line.actor.as_deref().unwrap_or("?").to_owned();
            let reason = line.reason.as_deref().unwrap_or("?");
            let reason = match reason {
                _ if reason.contains(failpoints::MESSAGE) => "panic",
                _ if reason.contains("reading thread panicked") => "panic",
                _ if reason.contains("injected") => "fault",
                other => other,
            };
            *self.restarts.entry((actor, reason.to_owned())).or_default() += 1;
        }
    }
}
