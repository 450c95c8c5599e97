//! PostgreSQL servers of a test's own, beside the shared one: for what a shared one can't be asked for, as to die, to be
//! followed by a standby, or to let in by certificate only. The programs are those of the machine, as in scripts/services.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use tokio_postgres::{Client, NoTls};

use crate::support::{free_port, signals};

/// A server with data of its own; stopped and removed when dropped.
pub struct Cluster {
    pub port: u16,
    data: PathBuf,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The server's programs refuse to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=postgres",
                "--regid=postgres",
                "--init-groups",
                "--",
            ])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

/// The folder of PostgreSQL's programs.
pub fn bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max();
    newest.unwrap_or_default()
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

impl Cluster {
    fn place(name: &str) -> Self {
        let port = free_port();
        let data = PathBuf::from(format!("/var/tmp/sitewatch-test-{name}-{port}"));
        Self { port, data }
    }

    /// A new server that trusts everyone on loopback, with a database `sitewatch`.
    pub async fn new(name: &str) -> Self {
        let cluster = Self::place(name);
        let mut init = as_postgres(&bin().join("initdb"));
        run(init
            .arg("-D")
            .arg(&cluster.data)
            .args(["-U", "sitewatch", "--auth=trust", "-E", "UTF8"])
            .args(["--locale=C", "--no-sync"]));
        cluster.start();
        let maintenance = cluster.connect_to("postgres").await;
        maintenance
            .batch_execute("CREATE DATABASE sitewatch")
            .await
            .unwrap();
        cluster
    }

    /// A standby that streams from this one, running.
    pub fn standby(&self, name: &str) -> Self {
        let standby = self.copy(name, &["-R"]);
        standby.start();
        standby
    }

    /// A base backup of this one as it is now. It does not run.
    pub fn base_backup(&self, name: &str) -> Self {
        self.copy(name, &[])
    }

    fn copy(&self, name: &str, more: &[&str]) -> Self {
        let copy = Self::place(name);
        let mut backup = as_postgres(&bin().join("pg_basebackup"));
        run(backup
            .arg("-D")
            .arg(&copy.data)
            .args(["-h", "127.0.0.1", "-U", "sitewatch", "-c", "fast"])
            .args(["-p", &self.port.to_string()])
            .args(more));
        copy
    }

    /// The URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://sitewatch@127.0.0.1:{}/{database}", self.port)
    }

    fn control(&self) -> Command {
        let mut control = as_postgres(&bin().join("pg_ctl"));
        control
            .arg("-D")
            .arg(&self.data)
            .args(["-w", "-s", "-t", "60"]);
        control
    }

    pub fn start(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''",
            self.port
        );
        // With a log of its own, so that it does not hold on to the output of the test.
        let log = self.data.join("server.log");
        let mut control = self.control();
        control.arg("-l").arg(log).args(["-o", &options, "start"]);
        assert!(control.status().unwrap().success(), "{}", self.log());
    }

    /// Starts in the place of another one, which is gone.
    pub fn start_at(mut self, port: u16) -> Self {
        self.port = port;
        self.start();
        self
    }

    pub fn stop(&self) {
        run(self.control().args(["-m", "fast", "stop"]));
    }

    /// Dies on the spot, as its machine would.
    pub fn kill(&self) {
        let pid = fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        signals::send(pid.parse().unwrap(), "KILL").unwrap();
        let gone = Instant::now() + Duration::from_secs(30);
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < gone, "the server does not die");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn promote(&self) {
        run(self.control().arg("promote"));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.data.join("server.log")).unwrap_or_default()
    }

    /// Puts a file among the server's own.
    pub fn give(&self, from: &Path, name: &str) {
        let mut install = Command::new("install");
        if is_root() {
            install.args(["-o", "postgres"]);
        }
        run(install
            .args(["-m", "600"])
            .arg(from)
            .arg(self.data.join(name)));
    }

    /// Who is let in, and how: replaces `pg_hba.conf`, and goes by it from now on.
    pub async fn let_in(&self, lines: &str) {
        let db = self.connect_to("postgres").await;
        fs::write(self.data.join("pg_hba.conf"), lines).unwrap();
        db.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }

    pub async fn connect(&self) -> Client {
        self.connect_to("sitewatch").await
    }

    async fn connect_to(&self, database: &str) -> Client {
        let url = self.url(database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        client
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be down already.
        let _ = self.control().args(["-m", "immediate", "stop"]).output();
        let _ = fs::remove_dir_all(&self.data);
    }
}
