//! The database of a command: the one of `postgres.url`, or else the private one in `node.data_dir`.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use sitewatch_config::{PostgresUrl, Settings, Sources, load_any};
use slog::{Discard, Logger, o};

use super::{
    folder::{DataDir, Taken, refuse_foreign, unusable},
    place::Place,
    postgres::Server,
    running::Running,
    socket,
};
use crate::{
    ending::{Interruption, Stopped},
    exit::Failure,
};

/// A standalone that has just taken the folder has its database running within this time, usually.
const STARTING: Duration = Duration::from_secs(15);

/// Runs the work of the command of this name with a database. Without `postgres.url` it is that of a standalone: as it runs, or
/// started for as long as the work takes. A line on standard error says so then.
///
/// # Errors
/// Those of the work; if there is no database; if a signal ends the command. What the work has begun is dropped then.
pub(crate) fn with_database<T>(
    sources: &Sources,
    name: &str,
    work: impl AsyncFnOnce(&Settings) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut settings = load_any(sources).map_err(Failure::config)?;
    let system = actix_rt::System::new();
    let end = system.block_on(async {
        let interruption = Interruption::of_command()?;
        let mut started = None;
        if settings.postgres.url.is_none() {
            let found = tokio::select! {
                found = Found::look(&settings.node.data_dir, name) => found?,
                failure = interruption.comes() => return Err(failure),
            };
            settings.postgres.url = Some(found.url.clone());
            if let Some(place) = found.to_start {
                started = Some(Started::start(place, &interruption).await?);
            }
        }
        let end = tokio::select! {
            end = work(&settings) => end,
            failure = interruption.comes() => Err(failure),
        };
        let stopped = match started {
            Some(started) => started.running.stop().await,
            None => Ok(()),
        };
        let end = end?;
        stopped?;
        match interruption.has_come() {
            Some(failure) => Err(failure),
            None => Ok(end),
        }
    });
    // Dropped, it would wait for a look-up of a name that a signal has ended.
    std::mem::forget(system);
    end
}

/// A private database that was found.
struct Found {
    url: PostgresUrl,
    /// `None` if a standalone runs it.
    to_start: Option<(Place, DataDir)>,
}

/// A database that runs for a command only.
struct Started {
    running: Running,
    _folder: DataDir,
}

impl Started {
    async fn start(
        (place, folder): (Place, DataDir),
        interruption: &Interruption,
    ) -> Result<Self, Failure> {
        let log = Logger::root(Discard, o!());
        let mut stopped: Stopped = Box::pin(async { _ = interruption.comes().await });
        match Server::bring_up(place, &mut stopped, &log).await? {
            Some((_, running)) => Ok(Self {
                running,
                _folder: folder,
            }),
            None => Err(interruption.comes().await),
        }
    }
}

impl Found {
    /// Looks into `data_dir`. A command makes no folder there, and no data.
    async fn look(data_dir: &Path, name: &str) -> Result<Self, Failure> {
        let log = Logger::root(Discard, o!());
        let shown = data_dir.display();
        let absent = || {
            Failure::config(format!(
                "no PostgreSQL: set postgres.url or POSTGRES_URL; or, for the database of `--role standalone`, run this in its \
                 folder or with its --config: there is none in {shown} (node.data_dir)"
            ))
        };
        let path = match fs::canonicalize(data_dir) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent()),
            Err(error) => return Err(unusable(data_dir, &error)),
        };
        refuse_foreign(&path)?;
        let place = Place::find(&path, &log)?
            .filter(|place| place.has_data())
            .ok_or_else(absent)?;
        let url = socket::url(&place.cluster)?;
        match DataDir::take(&path, name).await? {
            Taken::Standalone(holder) => {
                if !socket::answers(&url, STARTING).await {
                    return Err(Failure::unavailable(format!(
                        "process {} has {shown} (node.data_dir), but the database in it does not answer: that process is about \
                         to end, or it uses another database (then set POSTGRES_URL)",
                        holder.process
                    )));
                }
                tell(&format!(
                    "using the database in {shown}, which process {} runs",
                    holder.process
                ));
                Ok(Self {
                    url,
                    to_start: None,
                })
            }
            Taken::Ours(folder) => {
                tell(&format!(
                    "using the database in {shown}, started for this command"
                ));
                Ok(Self {
                    url,
                    to_start: Some((place, folder)),
                })
            }
        }
    }
}

fn tell(line: &str) {
    // With standard error closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "sitewatch-node: {line}");
}
