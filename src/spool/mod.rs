//! The command `spool`: looks at a producer's spool, or sends what is in it.

mod refused;

use std::{fmt::Write as _, io, path::Path, sync::Arc, time::Duration};

use clap::Subcommand;
use serde_json::json;
use sitewatch_actors::{
    health::Pulse,
    intake::Intake,
    metrics::Metrics,
    model::{Slot, printable, printable_json},
    publisher::{
        Publisher, PublisherParts, PublisherSettings, Real,
        spool::{Inspected, inspect},
    },
    supervision::{Exit, Supervision, Unborn},
    wanted::Wanted,
};
use sitewatch_config::{LogLevel, Settings, Sources, load_any};
use slog::info;
use tokio::sync::oneshot;

pub use self::refused::RefusedCommand;
use crate::{ending::Interruption, exit::Failure, logging::Logging, output::print};

/// What is done with a spool.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// Show what waits for Kafka, also while a producer runs
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Send what waits, check nothing, and end when Kafka has it: before a producer is taken away for good
    Drain,
    /// Look at what Kafka would not take, send it again, or throw it away
    #[command(subcommand)]
    Refused(RefusedCommand),
}

/// Does it.
pub(crate) fn spool(sources: &Sources, what: &SpoolCommand) -> Result<(), Failure> {
    let settings = load_any(sources).map_err(Failure::config)?;
    match what {
        SpoolCommand::Status { json } => status(&settings, *json),
        SpoolCommand::Drain => drain(settings),
        SpoolCommand::Refused(what) => refused::refused(&settings, what),
    }
}

fn status(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let folder = &settings.spool.dir;
    let found = inspect(folder).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => " (no producer has run with these settings: see spool.dir)",
            _ => "",
        };
        Failure::unavailable(format!("spool {}: {error}{hint}", folder.display()))
    })?;
    let text = if as_json {
        in_json(folder, settings, &found)
    } else {
        in_words(folder, settings, &found)
    };
    print(&text)
}

fn in_json(folder: &Path, settings: &Settings, found: &Inspected) -> String {
    let damage = found
        .damage
        .iter()
        .map(|it| json!({ "file": it.file, "offset": it.offset, "bytes": it.bytes }));
    let value = json!({
        "dir": folder, "results": found.results, "bytes": found.bytes, "max_bytes": settings.spool.max_bytes,
        "segments": found.segments, "damaged_segments": found.damaged_segments,
        "oldest": found.oldest.map(|time| Slot::from_micros(time).to_string()),
        "damage": damage.collect::<Vec<_>>(), "process": found.holder,
    });
    printable_json(&format!("{value}\n"))
}

fn in_words(folder: &Path, settings: &Settings, found: &Inspected) -> String {
    let mut text = format!("spool {}\n", folder.display());
    let max = settings.spool.max_bytes;
    let percent = found.bytes as f64 / max as f64 * 100.0;
    let mut line = |name: &str, value: String| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    line("results", format!("{} wait for Kafka", found.results));
    line(
        "bytes",
        format!(
            "{} of {max} ({percent:.1} %), in {} segments",
            found.bytes, found.segments
        ),
    );
    if let Some(oldest) = found.oldest {
        line("oldest", Slot::from_micros(oldest).to_string());
    }
    line(
        "process",
        found
            .holder
            .as_deref()
            .map_or_else(|| "none".to_owned(), printable),
    );
    if found.damaged_segments > 0 {
        line(
            "damaged",
            format!("{} segments are kept as *.damaged", found.damaged_segments),
        );
    }
    for hole in &found.damage {
        let place = format!(
            "{} bytes at {} of {} are no result",
            hole.bytes, hole.offset, hole.file
        );
        line("damage", place);
    }
    text
}

/// Runs a publisher without sites until its spool is empty.
fn drain(settings: Settings) -> Result<(), Failure> {
    if settings.kafka.brokers.is_none() {
        return Err(Failure::config(
            "no Kafka to send to: set kafka.brokers or KAFKA_SERVER",
        ));
    }
    if !settings.spool.dir.is_dir() {
        let folder = settings.spool.dir.display();
        return Err(Failure::unavailable(format!(
            "spool {folder}: there is none"
        )));
    }
    sitewatch_actors::kafka::try_out(&settings.kafka).map_err(Failure::config)?;
    let logging = Logging::of_command(LogLevel::Info)?;
    let (log, interruption) = (logging.log.clone(), Interruption::of_command()?);
    actix_rt::System::new().block_on(async move {
        let metrics = Metrics::new().map_err(Failure::software)?;
        let publisher = Unborn::<Publisher>::default();
        let parts = PublisherParts {
            settings: Wanted::fixed(PublisherSettings {
                kafka: settings.kafka.clone(),
                spool: settings.spool.clone(),
            }),
            patience: settings.node.drain_timeout,
            yields: false,
            outside: Real {
                client_id: format!(
                    "sitewatch-drain-{}-{}",
                    settings.node.location,
                    std::process::id()
                ),
                metrics: metrics.clone(),
                log: log.clone(),
            },
            orders: Intake::new(publisher.address().recipient(), 1),
            pulse: Pulse::default(),
            metrics: metrics.clone(),
            log: log.clone(),
        };
        let supervision = Arc::new(Supervision {
            kind: "publisher",
            log: log.clone(),
            restart: settings.node.restart.clone(),
            metrics: metrics.clone(),
        });
        let (stop, stopped) = oneshot::channel();
        let mut life = Box::pin(publisher.live(
            move |fault| Publisher::new(parts, fault),
            supervision,
            stopped,
        ));
        let emptied = async {
            let mut told = tokio::time::Instant::now();
            // Up: the spool has been opened.
            while metrics.spool_up.get() == 0 || metrics.spool_results.get() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if told.elapsed() > Duration::from_secs(5) {
                    info!(log, "draining"; "results" => metrics.spool_results.get());
                    told = tokio::time::Instant::now();
                }
            }
        };
        let early = tokio::select! {
            exit = &mut life => Some(exit),
            () = emptied => None,
            _ = interruption.comes() => None,
        };
        let exit = match early {
            Some(exit) => exit,
            None => {
                // One that has ended meanwhile needs no word.
                let _ = stop.send(());
                life.await
            }
        };
        match (&exit, exit.refusal()) {
            (Exit::Stopped, _) if metrics.spool_results.get() == 0 => {
                info!(log, "the spool is empty"; "delivered" => metrics.delivered.get());
                Ok(())
            }
            (Exit::Stopped, _) => {
                let left = metrics.spool_results.get();
                Err(Failure::unavailable(format!(
                    "{left} results are still in the spool"
                )))
            }
            (_, Some(reason)) => Err(Failure::unavailable(reason)),
            _ => Err(Failure::software(format!("failed for good: {exit}"))),
        }
    })
}
