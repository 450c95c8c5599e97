//! A private PostgreSQL: made, started and stopped. It listens on a socket in the folder of its data, which only its user can
//! enter. So it needs no port and no password, and its URL stays the same over restarts.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::Signal;
use sitewatch_actors::private;
use sitewatch_config::PostgresUrl;
use slog::{Logger, info, warn};
use tokio::{process::Command, time::timeout};

use super::{
    folder::unusable,
    place::Place,
    programs,
    running::{Running, end_group, node_above, runs, shown_end},
    server_log::ServerLog,
    socket,
};
use crate::{ending::Stopped, exit::Failure};

/// Who may do what: whoever can reach the socket, as that is in a folder of the server's user.
const RULES: &str = "# Written by sitewatch-node at each start.\nlocal all sitewatch trust\n";
/// The extension of a folder in which data is being made.
const UNFINISHED: &str = "new-";
/// A server that was killed has to read its journal again first.
const START: Duration = Duration::from_secs(300);
const BETWEEN: Duration = Duration::from_millis(50);
/// A program that is asked to end has put away what it has begun within this time.
const PUT_AWAY: Duration = Duration::from_secs(10);

/// A PostgreSQL that can be started.
pub(super) struct Server {
    /// How to connect to it.
    pub(super) url: PostgresUrl,
    /// The file that it logs to.
    pub(super) log: ServerLog,
    place: Place,
    programs: PathBuf,
}

impl Server {
    /// Makes the data if there is none, ends a server that a killed process has left, and starts its own. `None` if it was stopped before
    /// it answered: nothing of it runs then.
    ///
    /// # Errors
    /// If there are no programs and none can be fetched, or one of them fails.
    pub(super) async fn bring_up(
        place: Place,
        stopped: &mut Stopped<'_>,
        log: &Logger,
    ) -> Result<Option<(Self, Running)>, Failure> {
        let url = socket::url(&place.cluster)?;
        let programs = tokio::select! {
            programs = programs::find(&place, log) => programs?,
            () = &mut *stopped => return Ok(None),
        };
        let server = Self {
            url,
            log: ServerLog::new(&place.home),
            place,
            programs,
        };
        server.write_rules()?;
        if server.place.has_data() {
            server.end_left_over(log).await?;
        } else if server.make_data(stopped, log).await?.is_none() {
            return Ok(None);
        }
        let running = server.start(stopped).await?;
        Ok(running.map(|running| (server, running)))
    }

    fn write_rules(&self) -> Result<(), Failure> {
        let file = self.rules();
        let written = private::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&file)
            .and_then(|mut opened| {
                // The server's user must be able to read it.
                opened.set_permissions(Permissions::from_mode(0o644))?;
                opened.write_all(RULES.as_bytes())
            });
        written.map_err(|error| unusable(&file, &error))
    }

    fn rules(&self) -> PathBuf {
        self.place.home.join("postgres-hba.conf")
    }

    /// Beside its place first, so that an end in the middle leaves no half of it there. Under a name of this process's own: one
    /// that was killed may have left an `initdb` that is still at work. `None` if it was stopped.
    async fn make_data(
        &self,
        stopped: &mut Stopped<'_>,
        log: &Logger,
    ) -> Result<Option<()>, Failure> {
        let cluster = &self.place.cluster;
        info!(log, "making a private PostgreSQL"; "directory" => %cluster.display());
        self.remove_unfinished(log);
        let new = cluster.with_extension(format!("{UNFINISHED}{}", std::process::id()));
        let problem = |error| unusable(&new, &error);
        private::create_folder(&new, 0o700).map_err(problem)?;
        if let Some(user) = self.place.run_as {
            chown(&new, Some(user.uid), Some(user.gid)).map_err(problem)?;
        }
        let options = [
            "--username=sitewatch",
            "--auth=reject",
            "--encoding=UTF8",
            "--locale=C",
        ];
        if self.run("initdb", &new, &options, stopped).await?.is_none() {
            self.remove_unfinished(log);
            return Ok(None);
        }
        fs::rename(&new, cluster).map(Some).map_err(problem)
    }

    /// Removes data that others have begun, as far as it can be removed now: the `initdb` of a node that was killed may still write
    /// there. A later start removes the rest.
    fn remove_unfinished(&self, log: &Logger) {
        // Whoever can't read the folder can't make data in it either, and says so there.
        let entries = fs::read_dir(&self.place.home).into_iter().flatten();
        for entry in entries.flatten() {
            if is_unfinished(&self.place.cluster, &entry.file_name())
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                warn!(log, "data that was begun and not finished can't be removed yet"; "reason" => %error,
                    "directory" => %entry.path().display());
            }
        }
    }

    /// Ends the server of a process that was killed. This process has the folder, so no other one of ours uses it.
    async fn end_left_over(&self, log: &Logger) -> Result<(), Failure> {
        let cluster = &self.place.cluster;
        let Some(server) = runs(cluster) else {
            return Ok(());
        };
        if let Some(parent) = node_above(server) {
            return Err(Failure::unavailable(format!(
                "process {parent} uses the database in {}, though its lock file was removed: end that process first",
                cluster.display()
            )));
        }
        warn!(log, "a process that was killed left its PostgreSQL running; stopping it"; "process" => server,
            "directory" => %cluster.display());
        let stop = async |how| {
            let options = ["stop", "-m", how, "-w", "-s"];
            // Not stopped on its way: it waits for a minute at most.
            let mut never: Stopped = Box::pin(std::future::pending());
            self.run("pg_ctl", cluster, &options, &mut never).await
        };
        match stop("fast").await {
            // What it has committed is in its journal.
            Err(_) if runs(cluster).is_some() => stop("immediate").await.map(drop),
            _ => Ok(()),
        }
    }

    /// Starts the server, and waits until it answers. `None` if it was stopped before: the server has ended then.
    ///
    /// # Errors
    /// If it ends, or does not answer in time.
    pub(super) async fn start(
        &self,
        stopped: &mut Stopped<'_>,
    ) -> Result<Option<Running>, Failure> {
        let (log, before) = self.log.open()?;
        let shown = self.log.path().display();
        let mut running = self.spawn(log)?;
        let mut last = None;
        let up = tokio::select! {
            up = timeout(START, self.wait_until_up(&mut running, &mut last)) => up,
            () = stopped => {
                running.stop().await?;
                return Ok(None);
            }
        };
        match up {
            Ok(Ok(None)) => Ok(Some(running)),
            Ok(Ok(Some(end))) => Err(Failure::unavailable(format!(
                "the private PostgreSQL does not start ({end}): {} ({shown})",
                self.log.said_since(before)
            ))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                running.stop().await?;
                let last = last.map_or_else(String::new, |error| format!(" ({error})"));
                Err(Failure::unavailable(format!(
                    "the private PostgreSQL does not answer within {} s{last}: see {shown}",
                    START.as_secs()
                )))
            }
        }
    }

    fn spawn(&self, log: fs::File) -> Result<Running, Failure> {
        let mut command = self.command("postgres", &self.place.cluster);
        for setting in [
            "listen_addresses=",
            "unix_socket_directories=.",
            "unix_socket_permissions=0700",
            "port=5432",
            "logging_collector=off",
            "log_destination=stderr",
            "log_checkpoints=off",
        ] {
            command.args(["-c", setting]);
        }
        command
            .arg("-c")
            .arg(format!("hba_file={}", self.rules().display()))
            .stdout(Stdio::null())
            .stderr(log);
        let process = command.spawn();
        process
            .map(Running::new)
            .map_err(|error| self.not_run("postgres", &error))
    }

    /// Waits until the server answers, or has ended: gives how. `last` is why it has not answered yet.
    async fn wait_until_up(
        &self,
        running: &mut Running,
        last: &mut Option<io::Error>,
    ) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = running.has_ended()? {
                return Ok(Some(end));
            }
            let Err(error) = socket::connect(&self.url).await else {
                return Ok(None);
            };
            *last = Some(error);
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// One of PostgreSQL's programs on this data. It sees nothing of the node's environment, which may hold secrets, and gets
    /// no signal of the node's terminal: it must outlive the node's own orderly end.
    fn command(&self, program: &str, data: &Path) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .arg("-D")
            .arg(data)
            .env_clear()
            .env("LC_ALL", "C")
            .envs(
                ["PATH", "LD_LIBRARY_PATH", "TZ"]
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null());
        if let Some(user) = self.place.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Runs one of the programs to its end. `None` if it was stopped: it has put away what it had begun.
    async fn run(
        &self,
        program: &str,
        data: &Path,
        arguments: &[&str],
        stopped: &mut Stopped<'_>,
    ) -> Result<Option<()>, Failure> {
        let child = self
            .command(program, data)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_run(program, &error))?;
        let group = child.id();
        let mut output = Box::pin(child.wait_with_output());
        let output = tokio::select! {
            output = &mut output => output.map_err(|error| self.not_run(program, &error))?,
            () = stopped => {
                end_group(group, Signal::TERM);
                if timeout(PUT_AWAY, output).await.is_err() {
                    // Nothing that it makes is in its place yet.
                    end_group(group, Signal::KILL);
                }
                return Ok(None);
            }
        };
        if output.status.success() {
            return Ok(Some(()));
        }
        Err(Failure::unavailable(format!(
            "the private PostgreSQL: {program} failed ({}): {}",
            shown_end(output.status),
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }

    fn not_run(&self, program: &str, error: &io::Error) -> Failure {
        Failure::unavailable(format!(
            "{}: {error}",
            self.programs.join(program).display()
        ))
    }
}

/// Whether a file of this name is data that `make_data` has begun: the folder may hold much else, which is not ours to remove.
fn is_unfinished(cluster: &Path, name: &OsStr) -> bool {
    let stem = cluster.file_name().and_then(OsStr::to_str);
    let rest = stem.and_then(|stem| name.to_str()?.strip_prefix(stem)?.strip_prefix('.'));
    let number = rest.and_then(|rest| rest.strip_prefix(UNFINISHED));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_program_has_begun_is_removed() {
        let cluster = Path::new("/srv/data/postgres");
        assert!(is_unfinished(cluster, OsStr::new("postgres.new-17")));
        for other in [
            "site.new-layout",
            "site.new-1",
            "postgres.new-",
            "postgres.new-1a",
            "postgres",
            "postgres.new-1.old",
        ] {
            assert!(!is_unfinished(cluster, OsStr::new(other)), "{other}");
        }
    }
}
