//! A PostgreSQL of the run's own, with fsync on.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio_postgres::{Client, NoTls};

use crate::{
    Failure,
    process::{self, Process, Start},
};

/// The user that the server runs as where the harness is root, which PostgreSQL refuses.
const USER: &str = "postgres";

/// The server.
pub(crate) struct Postgres {
    process: Option<Process>,
    programs: PathBuf,
    cluster: PathBuf,
    log: PathBuf,
    user: Option<&'static str>,
    port: u16,
}

impl Postgres {
    /// Makes the cluster, starts the server and makes the database `sitewatch`.
    pub(crate) async fn prepare(
        folder: &Path,
        programs: PathBuf,
        port: u16,
    ) -> Result<Self, Failure> {
        let user = (fs::metadata("/proc/self")?.uid() == 0).then_some(USER);
        let cluster = place(folder, user)?;
        let mut postgres = Self {
            process: None,
            programs,
            log: cluster.join("server.log"),
            cluster,
            user,
            port,
        };
        let data = postgres.data();
        let arguments = [
            "-D",
            &data,
            "-U",
            "sitewatch",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
        ];
        let mut making = postgres.run("initdb", arguments.map(str::to_owned).to_vec())?;
        if !making
            .wait(Duration::from_secs(60))
            .await
            .is_some_and(|status| status.success())
        {
            return Err(format!("initdb failed, see {}", postgres.log.display()).into());
        }
        postgres.start()?;
        let maintenance = postgres
            .connect_within("postgres", Duration::from_secs(60))
            .await?;
        maintenance
            .batch_execute("CREATE DATABASE sitewatch")
            .await?;
        Ok(postgres)
    }

    fn data(&self) -> String {
        self.cluster.join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: Vec<String>) -> Result<Process, Failure> {
        let program = self.programs.join(program);
        let start = Start {
            program: program.as_os_str(),
            arguments,
            environment: Vec::new(),
            folder: &self.cluster,
            log: &self.log,
            user: self.user,
            last_resort: "QUIT",
        };
        Ok(start.start()?)
    }

    /// Starts the server, unless it runs; it recovers by itself from however it ended.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        if self.process.is_some() {
            return Ok(());
        }
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "fsync=on".to_owned(),
            "synchronous_commit=on".to_owned(),
            "full_page_writes=on".to_owned(),
            "log_line_prefix=%m [%p] ".to_owned(),
        ];
        let settings = settings
            .into_iter()
            .flat_map(|setting| ["-c".to_owned(), setting]);
        let arguments = ["-D".to_owned(), self.data()].into_iter().chain(settings);
        self.process = Some(self.run("postgres", arguments.collect())?);
        Ok(())
    }

    /// What `pg_ctl stop -m immediate` does: SIGQUIT to the postmaster, no checkpoint, no farewell.
    pub(crate) async fn stop_at_once(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("QUIT");
            process.wait(Duration::from_secs(10)).await;
        }
    }

    /// Whether the server has ended without being told to.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self
            .process
            .as_mut()
            .is_some_and(|process| process.ended().is_some());
        if ended {
            self.process = None;
        }
        ended
    }

    /// Kills one backend that serves a node, by which PostgreSQL ends all sessions and recovers. `false` if there is none.
    pub(crate) async fn kill_backend(&self) -> Result<bool, Failure> {
        let client = self
            .connect_within("sitewatch", Duration::from_secs(2))
            .await?;
        let of_nodes = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sitewatch-node' ORDER BY random() LIMIT 1";
        let Some(row) = client.query_opt(of_nodes, &[]).await? else {
            return Ok(false);
        };
        process::send(row.get::<_, i32>(0).unsigned_abs(), "KILL");
        Ok(true)
    }

    /// The URL through a port, which may be a proxy's.
    pub(crate) fn url(port: u16) -> String {
        format!("postgres://sitewatch@127.0.0.1:{port}/sitewatch?sslmode=disable")
    }

    /// The URL past the proxies.
    pub(crate) fn own_url(&self) -> String {
        Self::url(self.port)
    }

    /// The harness's own session, past the proxies; waits for the server.
    pub(crate) async fn connect_within(
        &self,
        database: &str,
        longest: Duration,
    ) -> Result<Client, Failure> {
        let url = format!(
            "postgres://sitewatch@127.0.0.1:{}/{database}?connect_timeout=2&application_name=torture",
            self.port
        );
        let deadline = Instant::now() + longest;
        loop {
            match tokio_postgres::connect(&url, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(async move { drop(connection.await) });
                    return Ok(client);
                }
                Err(problem) if Instant::now() > deadline => {
                    return Err(format!(
                        "PostgreSQL does not answer: {problem}, see {}",
                        self.log.display()
                    )
                    .into());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Where its files are.
    pub(crate) fn cluster(&self) -> &Path {
        &self.cluster
    }
}

/// A folder that the server's user may enter: below `folder` if it can come there, else below /var/tmp.
fn place(folder: &Path, user: Option<&str>) -> Result<PathBuf, Failure> {
    let near = folder.join("postgres");
    let far = PathBuf::from(format!("/var/tmp/sitewatch-torture-{}", std::process::id()));
    for place in [near, far] {
        fs::create_dir_all(&place)?;
        let Some(user) = user else { return Ok(place) };
        let owned = Command::new("chown")
            .arg(format!("{user}:"))
            .arg(&place)
            .status()?;
        let enters = Command::new("setpriv")
            .args([
                "--reuid",
                user,
                "--regid",
                user,
                "--init-groups",
                "--",
                "test",
                "-w",
            ])
            .arg(&place)
            .stderr(Stdio::null())
            .status()?;
        if owned.success() && enters.success() {
            return Ok(place);
        }
        fs::remove_dir_all(&place)?;
    }
    Err("there is no folder that the user postgres may enter".into())
}
