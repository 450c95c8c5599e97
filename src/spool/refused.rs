//! The command `spool refused`: what Kafka would not take.

use std::{fmt::Write as _, time::SystemTime};

use clap::Subcommand;
use sitewatch_actors::{
    model::{Slot, printable, printable_json},
    publisher::{
        SetAside, TakeOutError, put_back, set_aside_in,
        spool::{Limits, OpenError},
        throw_away,
    },
};
use sitewatch_config::Settings;

use crate::{exit::Failure, output::print};

/// What is done with results that Kafka would not take.
#[derive(Debug, Subcommand)]
pub enum RefusedCommand {
    /// List them, the oldest first, also while a producer runs
    List {
        /// As JSON, all of each
        #[arg(long)]
        json: bool,
    },
    /// Put them back into the spool, for the next producer or `spool drain` to send: once the topic takes them
    Replay,
    /// Throw them away
    Discard {
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub(super) fn refused(settings: &Settings, what: &RefusedCommand) -> Result<(), Failure> {
    let folder = &settings.spool.dir;
    let failed = |problem: TakeOutError| {
        let hint = match &problem {
            TakeOutError::Open(OpenError::InUse { .. }) => "; stop the producer first",
            TakeOutError::Commit(_) => "; raise spool.max_bytes, or drain the spool first",
            _ => "",
        };
        Failure::unavailable(format!("spool {}: {problem}{hint}", folder.display()))
    };
    if !folder.is_dir() {
        return Err(Failure::unavailable(format!(
            "spool {}: there is none (no producer has run with these settings: see spool.dir)",
            folder.display()
        )));
    }
    let text = match what {
        RefusedCommand::List { json } => {
            let all = set_aside_in(folder).map_err(|problem| failed(problem.into()))?;
            let mut text = if *json {
                in_json(&all.messages)
            } else {
                in_words(&all.messages)
            };
            if all.unreadable > 0 && !json {
                // Writing to a String can't fail.
                let _ = writeln!(text, "{} lines can't be read", all.unreadable);
            }
            text
        }
        RefusedCommand::Replay => {
            let limits = Limits {
                max_bytes: settings.spool.max_bytes,
                ..Limits::default()
            };
            let now = Slot::from_system_time(SystemTime::now()).as_micros();
            let count = put_back(folder, limits, now).map_err(failed)?;
            format!(
                "{count} results are in the spool again; a producer sends them, and so does `spool drain`\n"
            )
        }
        RefusedCommand::Discard { yes: false } => {
            return Err(Failure::usage(
                "what is thrown away is gone for good: say --yes",
            ));
        }
        RefusedCommand::Discard { yes: true } => {
            let count = throw_away(folder).map_err(failed)?;
            format!("{count} results are thrown away\n")
        }
    };
    print(&text)
}

fn in_json(messages: &[SetAside]) -> String {
    let lines = messages.iter().map(|message| {
        let line = serde_json::json!({
            "reason": message.reason, "site": message.site, "message": message.message,
        });
        printable_json(&format!("{line}\n"))
    });
    lines.collect()
}

fn in_words(messages: &[SetAside]) -> String {
    if messages.is_empty() {
        return "Kafka has refused nothing\n".to_owned();
    }
    let mut text = String::new();
    for message in messages {
        let (site, reason) = (printable(&message.site), printable(&message.reason));
        // Writing to a String can't fail.
        let _ = writeln!(text, "{site}  {} bytes  {reason}", message.message.len());
    }
    text
}
