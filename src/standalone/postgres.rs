//! A private PostgreSQL: made, started and stopped. It listens on a socket in the folder of its data, which only its user can
//! enter. So it needs no port and no password, and its URL stays the same over restarts.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sitewatch_actors::private;
use sitewatch_config::PostgresUrl;
use slog::{Logger, info, warn};
use tokio::{process::Command, time::Instant};

use super::{
    folder::unusable,
    place::Place,
    programs,
    running::{Running, node_above, runs, shown_end},
};
use crate::exit::Failure;

/// Who may do what: whoever can reach the socket, as that is in a folder of the server's user.
const RULES: &str = "# Written by sitewatch-node at each start.\nlocal all sitewatch trust\n";
/// The extension of a folder in which data is being made.
const UNFINISHED: &str = "new-";
/// The longest path of a socket, and what PostgreSQL adds to that of the folder.
const LONGEST_SOCKET: usize = 107;
const SOCKET: &str = ".s.PGSQL.5432";
/// What is kept of the server's log from before this start.
const KEPT_LOG: u64 = 4 << 20;
/// A server that was killed has to read its journal again first.
const START: Duration = Duration::from_secs(300);
const BETWEEN: Duration = Duration::from_millis(50);

/// A PostgreSQL that can be started.
pub(super) struct Server {
    /// How to connect to it.
    pub(super) url: PostgresUrl,
    place: Place,
    programs: PathBuf,
}

/// The URL of the server whose data is in `cluster`.
///
/// # Errors
/// If the path is too long for a socket.
pub(super) fn url(cluster: &Path) -> Result<PostgresUrl, Failure> {
    let bytes = cluster.as_os_str().as_bytes();
    let length = bytes.len() + 1 + SOCKET.len();
    if length > LONGEST_SOCKET {
        return Err(Failure::config(format!(
            "the path {} is {} bytes too long for PostgreSQL's socket: set node.data_dir to a shorter one",
            cluster.display(),
            length - LONGEST_SOCKET
        )));
    }
    let host = percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC);
    format!("postgres://sitewatch@{host}/postgres?sslmode=disable")
        .parse()
        .map_err(|error: String| Failure::config(format!("{}: {error}", cluster.display())))
}

impl Server {
    /// Makes the data if there is none, and ends a server that a killed process has left.
    ///
    /// # Errors
    /// If there are no programs and none can be fetched, or one of them fails.
    pub(super) async fn prepare(place: Place, log: &Logger) -> Result<Self, Failure> {
        let url = url(&place.cluster)?;
        let programs = programs::find(&place, log).await?;
        let server = Self {
            url,
            place,
            programs,
        };
        server.write_rules()?;
        if server.place.has_data() {
            server.end_left_over(log).await?;
        } else {
            server.make_data(log).await?;
        }
        Ok(server)
    }

    fn write_rules(&self) -> Result<(), Failure> {
        let file = self.rules();
        let written = private::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&file)
            .and_then(|mut opened| {
                // The server's user must be able to read it, whatever the umask says.
                opened.set_permissions(Permissions::from_mode(0o644))?;
                opened.write_all(RULES.as_bytes())
            });
        written.map_err(|error| unusable(&file, &error))
    }

    fn rules(&self) -> PathBuf {
        self.place.home.join("postgres-hba.conf")
    }

    /// Beside its place first, so that an end in the middle leaves no half of it there. Under a name of this process's own: one
    /// that was killed may have left an `initdb` that is still at work.
    async fn make_data(&self, log: &Logger) -> Result<(), Failure> {
        let cluster = &self.place.cluster;
        info!(log, "making a private PostgreSQL"; "directory" => %cluster.display());
        self.remove_unfinished()?;
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
        self.run("initdb", &new, &options).await?;
        fs::rename(&new, cluster).map_err(problem)
    }

    fn remove_unfinished(&self) -> Result<(), Failure> {
        let home = &self.place.home;
        let entries = fs::read_dir(home).map_err(|error| unusable(home, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unusable(home, &error))?;
            if is_unfinished(&self.place.cluster, &entry.file_name()) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(|error| unusable(&path, &error))?;
            }
        }
        Ok(())
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
        match self
            .run("pg_ctl", cluster, &["stop", "-m", "fast", "-w", "-s"])
            .await
        {
            Err(_) if runs(cluster).is_some() => {
                // What it has committed is in its journal.
                self.run("pg_ctl", cluster, &["stop", "-m", "immediate", "-w", "-s"])
                    .await
            }
            _ => Ok(()),
        }
    }

    /// Starts the server, and waits until it answers.
    ///
    /// # Errors
    /// If it ends, or does not answer in time.
    pub(super) async fn start(&self) -> Result<Running, Failure> {
        let (file, shown) = (self.log_file()?, self.log_path());
        let before = file
            .metadata()
            .map_err(|error| unusable(&shown, &error))?
            .len();
        let mut command = self.command("postgres", &self.place.cluster);
        let rules = self.rules();
        command
            .args(["-c", "listen_addresses=", "-c", "unix_socket_directories=."])
            .args(["-c", "unix_socket_permissions=0700", "-c", "port=5432"])
            .args([
                "-c",
                "logging_collector=off",
                "-c",
                "log_destination=stderr",
                "-c",
                "log_checkpoints=off",
            ])
            .arg("-c")
            .arg(format!("hba_file={}", rules.display()))
            .stdout(Stdio::null())
            .stderr(file);
        let process = command.spawn().map_err(|error| {
            Failure::unavailable(format!(
                "{}: {error}",
                self.programs.join("postgres").display()
            ))
        })?;
        let mut running = Running::new(process);
        let begun = Instant::now();
        loop {
            if let Some(end) = running.has_ended()? {
                return Err(Failure::unavailable(format!(
                    "the private PostgreSQL does not start ({}): {} ({})",
                    end,
                    said_since(&shown, before),
                    shown.display()
                )));
            }
            match connect(&self.url).await {
                Ok(()) => return Ok(running),
                Err(error) if begun.elapsed() > START => {
                    running.stop().await?;
                    return Err(Failure::unavailable(format!(
                        "the private PostgreSQL does not answer within {} s ({error}): see {}",
                        START.as_secs(),
                        shown.display()
                    )));
                }
                Err(_) => tokio::time::sleep(BETWEEN).await,
            }
        }
    }

    fn log_path(&self) -> PathBuf {
        self.place.home.join("postgres.log")
    }

    fn log_file(&self) -> Result<File, Failure> {
        let path = self.log_path();
        let opened = private::options()
            .append(true)
            .create(true)
            .open(&path);
        let bounded = opened.and_then(|file| {
            if file.metadata()?.len() > KEPT_LOG {
                file.set_len(0)?;
            }
            Ok(file)
        });
        bounded.map_err(|error| unusable(&path, &error))
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

    async fn run(&self, program: &str, data: &Path, arguments: &[&str]) -> Result<(), Failure> {
        let output = self
            .command(program, data)
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await;
        let output = output.map_err(|error| {
            Failure::unavailable(format!(
                "{}: {error}",
                self.programs.join(program).display()
            ))
        })?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::unavailable(format!(
            "the private PostgreSQL: {program} failed ({}): {}",
            shown_end(output.status),
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}

/// What the server has logged since its log had this length.
fn said_since(path: &Path, length: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(length))?;
        file.take(4096).read_to_end(&mut text)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&text).trim().replace('\n', "; "),
        Err(error) => error.to_string(),
    }
}

/// Whether a server answers there, now or within this time.
pub(super) async fn answers(url: &PostgresUrl, patience: Duration) -> bool {
    let begun = Instant::now();
    loop {
        if connect(url).await.is_ok() {
            return true;
        }
        if begun.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

async fn connect(url: &PostgresUrl) -> Result<(), tokio_postgres::Error> {
    // The connection ends with its value.
    tokio_postgres::connect(url.connection_url(), tokio_postgres::NoTls)
        .await
        .map(drop)
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

    #[test]
    fn the_socket_of_any_folder_can_be_named_unless_its_path_is_too_long() {
        let folder = "/srv/töwer, 1%/a@b:c?d#e";
        let named = url(Path::new(folder)).unwrap();
        assert_eq!(named.servers()[0].name, format!("{folder}:5432"));
        let driver: tokio_postgres::Config = named.connection_url().parse().unwrap();
        let host = tokio_postgres::config::Host::Unix(folder.into());
        assert_eq!(driver.get_hosts(), [host]);
        let longest = format!("/{}", "x".repeat(LONGEST_SOCKET - 2 - SOCKET.len()));
        assert!(url(Path::new(&longest)).is_ok());
        let refused = url(Path::new(&format!("{longest}yy"))).unwrap_err();
        assert!(
            refused.to_string().contains("is 2 bytes too long"),
            "{refused}"
        );
    }
}
