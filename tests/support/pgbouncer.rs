//! A PgBouncer of a test's own, in front of the shared server.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{World, free_port};

/// A running PgBouncer; ended when dropped.
pub struct PgBouncer {
    child: Child,
    folder: tempfile::TempDir,
    url: String,
}

impl PgBouncer {
    /// One with this `pool_mode` and so many sessions, in front of the database of `world`; `more` are lines of its settings.
    pub async fn new(world: &World, pool_mode: &str, pool_size: u32, more: &str) -> Self {
        Self::at(world, free_port(), pool_mode, pool_size, more).await
    }

    /// The same at a port that is known.
    pub async fn at(world: &World, port: u16, pool_mode: &str, pool_size: u32, more: &str) -> Self {
        let (server, url) = world.database_by_way_of(port);
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let settings = format!(
            "[databases]\n* = host={} port={} user=sitewatch\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\n\
             logfile = {place}/pgbouncer.log\n{more}\n",
            server.ip(),
            server.port()
        );
        fs::write(folder.path().join("pgbouncer.ini"), settings).unwrap();
        let child = as_ordinary_user(&folder)
            .arg("pgbouncer.ini")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bouncer = Self { child, folder, url };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                Instant::now() < deadline,
                "PgBouncer does not come up\n{}",
                bouncer.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bouncer
    }

    /// The database's URL by way of it.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("pgbouncer.log")).unwrap_or_default()
    }
}

/// It refuses to run as root.
fn as_ordinary_user(folder: &tempfile::TempDir) -> Command {
    let program = PathBuf::from("/usr/sbin/pgbouncer");
    let program = if program.exists() {
        program
    } else {
        "pgbouncer".into()
    };
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return Command::new(program);
    }
    let given = Command::new("chown")
        .args(["-R", "postgres"])
        .arg(folder.path())
        .status();
    assert!(given.unwrap().success());
    // Without runuser, which would stay between: the child itself is to be ended.
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
