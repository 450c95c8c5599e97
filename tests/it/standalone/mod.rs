//! Everything in one process, without any service of the machine's: as root and as an ordinary user; its data is kept.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{self, PATIENCE, Web, World, required, signals};

mod commands;
mod ending;
mod folder;
mod place;
mod supervision;
mod watch;

/// The user of that number is `nobody` on all common systems.
const NOBODY: u32 = 65534;

struct Standalone {
    child: Child,
    log: PathBuf,
}

impl Standalone {
    /// Starts in `folder`; `ordinary`: not as root, where these tests run as root.
    fn start(folder: &Path, web: &Web, ordinary: bool, environment: &[(&str, &str)]) -> Self {
        Self::start_with(folder, web, ordinary, environment, &[])
    }

    fn start_with(
        folder: &Path,
        web: &Web,
        ordinary: bool,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        write_settings(folder, web);
        let log = folder.join(format!("standalone-{}.log", fastrand::u64(..)));
        let mut command = program(folder);
        command
            .args(["--role", "standalone"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap());
        if ordinary && is_root() {
            std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(
                Instant::now() < deadline && self.child.try_wait().unwrap().is_none(),
                "the log does not say {text:?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The URL of its private PostgreSQL.
    async fn url(&mut self) -> String {
        self.wait_for_log("connected to PostgreSQL, url: ").await;
        let log = self.log();
        let rest = log.split("connected to PostgreSQL, url: ").nth(1).unwrap();
        rest.lines().next().unwrap().to_owned()
    }

    /// The folder of its private PostgreSQL's data.
    async fn cluster(&mut self) -> PathBuf {
        let client = support::connect(&self.url().await).await;
        let shown = client.query_one("SHOW data_directory", &[]).await.unwrap();
        PathBuf::from(shown.get::<_, String>(0))
    }

    /// Waits for `wanted` rows in its private PostgreSQL; gives how many there are.
    async fn rows(&mut self, wanted: i64) -> i64 {
        let deadline = Instant::now() + PATIENCE;
        let url = self.url().await;
        loop {
            assert!(
                Instant::now() < deadline && self.child.try_wait().unwrap().is_none(),
                "no {wanted} rows\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
            let rows = "SELECT count(*) FROM checks WHERE outcome = 'up'";
            // It may be away for a moment where a test has killed it.
            let Ok((client, connection)) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await
            else {
                continue;
            };
            tokio::spawn(async move { drop(connection.await) });
            if let Ok(row) = client.query_one(rows, &[]).await
                && row.get::<_, i64>(0) >= wanted
            {
                return row.get(0);
            }
        }
    }

    async fn ends(&mut self) -> Option<i32> {
        let log = self.log.clone();
        let log = || fs::read_to_string(&log).unwrap_or_default();
        support::ends(&mut self.child, log).await
    }

    fn stop(&mut self) {
        signals::send(self.child.id(), "TERM").unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.log());
        assert!(self.log().contains("ended in order"), "{}", self.log());
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|end| end.is_none()) {
            // In order, so that its PostgreSQL does not outlive a failed test.
            let _ = signals::send(self.child.id(), "TERM");
            let _ = self.child.wait();
        }
    }
}

fn write_settings(folder: &Path, web: &Web) {
    let settings = format!(
        "defaults: {{ interval: 1s }}\nsites: [{{ name: up, url: '{}' }}]\n",
        web.url("/up")
    );
    fs::write(folder.join("sitewatch.yaml"), settings).unwrap();
}

/// The program in `folder`, where another user can reach it, with nothing that names services.
fn program(folder: &Path) -> Command {
    let program = folder.join("sitewatch-node");
    if !program.exists() {
        // By another process: a file that this one writes could be open still in what another test starts meanwhile, and a program
        // that is open for writing can't be run.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_sitewatch-node"))
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
    }
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_remove("KAFKA_SERVER")
        .env_remove("POSTGRES_URL")
        .env_remove("KAFKA_TOPIC")
        .env("SITEWATCH__DEFAULTS__ALLOW_PRIVATE", "true")
        .stdin(Stdio::null());
    command
}

/// The process of the server whose data is in `cluster`.
fn postmaster(cluster: &Path) -> u32 {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    text.lines().next().unwrap().trim().parse().unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test is skipped where it needs root and has not got it.
#[expect(
    clippy::print_stderr,
    reason = "a skipped test must not pass for one that ran"
)]
fn has_root() -> bool {
    if !is_root() {
        eprintln!("skipped: only root can give files to other users");
    }
    is_root()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Three runs: the second goes on with the first's data, the third with what a killed second left.
async fn keeps_its_data(ordinary: bool) {
    let (folder, web) = (folder(), Web::start());
    let mut first = Standalone::start(folder.path(), &web, ordinary, &[]);
    let rows = first.rows(3).await;
    assert!(
        first
            .log()
            .contains("embedded, for evaluation only: a broker in memory and a private PostgreSQL")
    );
    // Of a broker in memory that goes without saying.
    assert!(!first.log().contains("Kafka may lose"), "{}", first.log());
    first.stop();
    let mut second = Standalone::start(folder.path(), &web, ordinary, &[]);
    let rows = second.rows(rows + 3).await;
    second.child.kill().unwrap();
    second.child.wait().unwrap();
    let mut third = Standalone::start(folder.path(), &web, ordinary, &[]);
    third.rows(rows + 3).await;
    assert!(
        third
            .log()
            .contains("a process that was killed left its PostgreSQL running"),
        "{}",
        third.log()
    );
    third.stop();
}

#[actix_rt::test]
async fn it_keeps_its_data_over_a_restart_and_a_kill() {
    keeps_its_data(false).await;
}

#[actix_rt::test]
async fn signals_before_it_is_complete_do_not_leave_its_database_behind() {
    let (folder, web) = (folder(), Web::start());
    let mut early = Standalone::start(folder.path(), &web, false, &[]);
    let deadline = Instant::now() + PATIENCE;
    while !early.log().contains("making a private PostgreSQL") {
        assert!(Instant::now() < deadline, "{}", early.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    signals::send(early.child.id(), "HUP").unwrap();
    early.stop();
    let cluster = early.log();
    let cluster = cluster.split("directory: ").nth(1).unwrap();
    let lock = Path::new(cluster.lines().next().unwrap()).join("postmaster.pid");
    assert!(!lock.exists(), "a database runs on\n{}", early.log());
}

#[actix_rt::test]
async fn killed_while_it_makes_its_database_it_makes_it_anew() {
    let (folder, web) = (folder(), Web::start());
    let mut killed = Standalone::start(folder.path(), &web, false, &[]);
    killed.wait_for_log("making a private PostgreSQL").await;
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let mut next = Standalone::start(folder.path(), &web, false, &[]);
    next.rows(2).await;
    assert!(
        next.log().contains("making a private PostgreSQL"),
        "it was complete before the kill"
    );
    next.stop();
}

#[actix_rt::test]
async fn an_ordinary_user_can_run_it_too() {
    keeps_its_data(true).await;
}

#[actix_rt::test]
async fn a_named_service_replaces_the_embedded_one() {
    let (world, web) = (World::new("replaced").await, Web::start());
    let database = [("POSTGRES_URL", world.database_url.as_str())];
    let mut node = Standalone::start(world.folder.path(), &web, false, &database);
    let rows = "SELECT count(*) FROM checks WHERE outcome = 'up'";
    world.wait_for("rows by an embedded broker", rows, 3).await;
    node.stop();
    assert!(
        node.log()
            .contains("embedded, for evaluation only: a broker in memory, "),
        "{}",
        node.log()
    );
    assert!(!world.folder.path().join("sitewatch-data/postgres").exists());

    let broker = required("KAFKA_SERVER");
    let services = [
        ("POSTGRES_URL", world.database_url.as_str()),
        ("KAFKA_SERVER", &broker),
        ("KAFKA_TOPIC", &world.topic),
        ("SITEWATCH__KAFKA__GROUP", &world.topic),
    ];
    let mut node = Standalone::start(world.folder.path(), &web, false, &services);
    let moved = format!(
        "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset WHERE topic = '{}'",
        world.topic
    );
    world.wait_for("rows by the real broker", &moved, 3).await;
    node.stop();
    assert!(!node.log().contains("embedded"), "{}", node.log());
}
