//! The command `maintenance`: windows in which failures do not count, also after the fact.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use serde_json::json;
use sitewatch_actors::{
    maintenance::{Declared, Maintenance, When},
    model::{Slot, Whose, printable, printable_json},
};
use sitewatch_config::{Recurrence, Settings, Sources};

use crate::{
    audit::failure, exit::Failure, output::print, standalone::with_database, when::instant,
    whose::WhoseArguments,
};

/// What is done with windows.
#[derive(Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// Declare a window: one that is, was or will be, or one that recurs
    Add(AddArguments),
    /// List them, the one that is going on or the next one first
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Take one back: failures in it count again
    Remove {
        /// Its number, as `list` shows it
        id: i32,
    },
}

/// A window.
#[derive(Debug, Args)]
pub struct AddArguments {
    /// What it is for
    name: String,
    /// When it begins, or the first one may begin: 2026-01-31T02:00:00Z, or -2h [default: now]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = instant)]
    from: Option<Slot>,
    /// When it ends
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = instant, conflicts_with_all = ["lasts", "cron"])]
    to: Option<Slot>,
    /// How long it is, instead of --to
    #[arg(long = "for", id = "lasts", value_name = "DURATION", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
    /// When it begins again and again: five fields and a time zone, '0 2 * * SUN Europe/Berlin'
    #[arg(long, value_name = "CRON", requires = "lasts")]
    cron: Option<String>,
    /// None begins from then on
    #[arg(long, value_name = "WHEN", value_parser = instant, requires = "cron")]
    until: Option<Slot>,
    /// Which sites
    #[command(flatten)]
    whose: WhoseArguments,
}

impl AddArguments {
    fn when(&self) -> Result<When, Failure> {
        let from = self
            .from
            .unwrap_or_else(|| Slot::from_system_time(SystemTime::now()));
        let after = |from: Slot, lasts: Duration| {
            let lasts = i64::try_from(lasts.as_micros()).unwrap_or(i64::MAX);
            Slot::from_micros(from.as_micros().saturating_add(lasts))
        };
        match (&self.cron, self.lasts, self.to) {
            (Some(_), Some(lasts), _) if lasts < Duration::from_secs(1) => {
                Err(Failure::usage("--for is less than a second"))
            }
            (Some(cron), Some(lasts), _) => {
                Recurrence::new(cron).map_err(|why| {
                    Failure::usage(format!(
                        "--cron {cron:?}: expected five fields and a time zone, such as 0 2 * * SUN Europe/Berlin ({why})"
                    ))
                })?;
                Ok(When::Recurring {
                    cron: cron.clone(),
                    lasts,
                    from,
                    until: self.until,
                })
            }
            (None, lasts, to) => {
                let to = to.or(lasts.map(|lasts| after(from, lasts)));
                let Some(to) = to else {
                    return Err(Failure::usage(
                        "when does it end? Say --to WHEN or --for DURATION",
                    ));
                };
                if to <= from {
                    return Err(Failure::usage(format!(
                        "--to {to} is not after --from {from}"
                    )));
                }
                Ok(When::Once { from, to })
            }
            (Some(_), None, _) => Err(Failure::usage("--cron needs --for DURATION")),
        }
    }
}

/// Does it.
pub(crate) fn maintenance(sources: &Sources, command: &MaintenanceCommand) -> Result<(), Failure> {
    let text = with_database(sources, "maintenance", async |settings| {
        run(settings, command).await
    })?;
    print(&text)
}

async fn run(settings: &Settings, command: &MaintenanceCommand) -> Result<String, Failure> {
    let open = async || {
        let opened = Maintenance::open(&settings.postgres).await;
        opened.map_err(|error| failure(&error))
    };
    match command {
        MaintenanceCommand::Add(arguments) => {
            let when = arguments.when()?;
            let whose = arguments.whose.whose();
            let added = open().await?.add(&arguments.name, &whose, &when).await;
            let id = added.map_err(|error| failure(&error))?;
            Ok(format!(
                "maintenance {id}: {}, {}\n",
                shown_when(&when),
                shown_whose(&whose)
            ))
        }
        MaintenanceCommand::List { json } => {
            let listed = open()
                .await?
                .list()
                .await
                .map_err(|error| failure(&error))?;
            Ok(list(&listed, *json))
        }
        MaintenanceCommand::Remove { id } => {
            let removed = open().await?.remove(*id).await;
            if !removed.map_err(|error| failure(&error))? {
                return Err(Failure::usage(format!(
                    "no maintenance has the number {id}; `maintenance list` shows the numbers"
                )));
            }
            Ok(format!("maintenance {id} removed\n"))
        }
    }
}

fn list(windows: &[Declared], as_json: bool) -> String {
    let mut text = String::new();
    if windows.is_empty() && !as_json {
        return "no maintenance is declared\n".to_owned();
    }
    for window in windows {
        let Declared {
            id,
            name,
            whose,
            when,
            next,
            by,
        } = window;
        let _ = if as_json {
            let (from, to, cron, lasts) = match when {
                When::Once { from, to } => (from, Some(*to), None, None),
                When::Recurring {
                    cron,
                    lasts,
                    from,
                    until,
                } => (from, *until, Some(cron), Some(lasts.as_secs_f64())),
            };
            let line = json!({
                "id": id, "name": name, "sites": whose.sites, "groups": whose.groups, "tags": whose.tags, "from": from, "to": to,
                "cron": cron, "lasts_s": lasts, "next_from": next.map(|it| it.0), "next_to": next.map(|it| it.1), "declared_by": by,
            });
            writeln!(text, "{}", printable_json(&line.to_string()))
        } else {
            let next = match (when, next) {
                (When::Recurring { .. }, Some((from, to))) => {
                    format!("; next {} to {}", short(*from), short(*to))
                }
                (_, None) => "; over".to_owned(),
                _ => String::new(),
            };
            writeln!(
                text,
                "{id:>4}  {}: {}{next}; {}; by {}",
                printable(name),
                shown_when(when),
                shown_whose(whose),
                printable(by)
            )
        };
    }
    text
}

/// Without fractions of a second.
fn short(slot: Slot) -> String {
    let text = slot.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn shown_when(when: &When) -> String {
    match when {
        When::Once { from, to } => format!("{} to {}", short(*from), short(*to)),
        When::Recurring {
            cron,
            lasts,
            from,
            until,
        } => {
            let until = until.map_or_else(String::new, |until| format!(" to {}", short(until)));
            format!(
                "{cron} for {}, from {}{until}",
                humantime::format_duration(*lasts),
                short(*from)
            )
        }
    }
}

fn shown_whose(whose: &Whose) -> String {
    if whose.is_all() {
        return "all sites".to_owned();
    }
    let parts = [
        ("site", &whose.sites),
        ("group", &whose.groups),
        ("tag", &whose.tags),
    ];
    let parts = parts.iter().flat_map(|(what, names)| {
        names
            .iter()
            .map(move |name| format!("{what} {}", printable(name)))
    });
    parts.collect::<Vec<_>>().join(", ")
}
