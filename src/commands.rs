//! The commands that do one thing and end.

use std::{
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use sitewatch_actors::{
    database::{self, SessionError},
    housekeeping::Keeper,
};
use sitewatch_config::{ImportFormat, LogLevel, PostgresSettings, Sources};
use slog::{Logger, info, warn};

use crate::{
    SCHEMA, audit::no_session, exit::Failure, logging::Logging, output::print,
    standalone::with_database,
};

/// Writes another monitor's configuration as ours, and lists what could not be carried over.
pub(crate) fn import(format: ImportFormat, file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::config(format!("{shown}: {error}")))?;
    let imported = sitewatch_config::import(format, &text)
        .map_err(|error| Failure::config(format!("{shown}: {error}")))?;
    print(&imported.yaml)?;
    let mut told = format!("{} sites written", imported.sites);
    if !imported.left_out.is_empty() {
        told += &format!("; {} things to know:", imported.left_out.len());
    }
    for line in &imported.left_out {
        told += &format!("\n  {line}");
    }
    // Beside the settings, which may go into a file.
    let _ = writeln!(io::stderr(), "{told}");
    Ok(())
}

/// Brings the database's schema up to date.
pub(crate) fn migrate(sources: &Sources) -> Result<(), Failure> {
    with_log(sources, "migrate", async |settings, log| {
        database::migrate(&settings, SCHEMA, &log).await
    })
}

/// How long `housekeep` waits for a consumer's, and for those who read what is to be dropped.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes and drops partitions as due, and computes the rollups.
pub(crate) fn housekeep(sources: &Sources) -> Result<(), Failure> {
    let obstacle = with_log(sources, "housekeep", async |settings, log| {
        let keeper = Keeper::open(settings, SCHEMA, log.clone()).await?;
        keep_house(keeper, &log).await
    })?;
    obstacle.map_or(Ok(()), |told| Err(Failure::unavailable(told)))
}

/// Makes passes until nothing is left to be done. Returns why something is, if it is.
async fn keep_house(mut keeper: Keeper, log: &Logger) -> Result<Option<String>, SessionError> {
    let (mut last, mut dropped, mut waits) = (Instant::now(), 0, false);
    while last.elapsed() < PATIENCE {
        let clocks = keeper.clocks().await?;
        let Some(done) = keeper.pass(clocks).await? else {
            actix_rt::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        dropped += done.dropped;
        waits = done.waits;
        if !done.clocks_agree {
            return Ok(Some(format!(
                "nothing was dropped: this machine's clock ({}) and the database's ({}) differ by more than an hour: set the one that \
                 is wrong",
                clocks.process, clocks.database
            )));
        }
        if !done.more && !waits {
            info!(log, "done"; "dropped" => dropped);
            return Ok(None);
        }
        if done.more || done.dropped > 0 {
            last = Instant::now();
        } else {
            actix_rt::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let who = if waits {
        "a partition that is to be dropped is read all the time: run it again when the dump or report has ended"
    } else {
        "others keep house all the time"
    };
    warn!(log, "not done"; "dropped" => dropped);
    Ok(Some(format!("not done: {who}")))
}

fn with_log<T>(
    sources: &Sources,
    name: &str,
    work: impl AsyncFnOnce(PostgresSettings, Logger) -> Result<T, SessionError>,
) -> Result<T, Failure> {
    let logging = Logging::of_command(LogLevel::Info)?;
    with_database(sources, name, async |settings| {
        let done = work(settings.postgres.clone(), logging.log.clone()).await;
        done.map_err(|error| no_session(&error))
    })
}
