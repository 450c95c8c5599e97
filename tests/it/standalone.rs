//! Everything in one process, without any service of the machine's: as root and as an ordinary user; its data is kept.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{Web, World, required, signals};

/// The user of that number is `nobody` on all common systems.
const NOBODY: u32 = 65534;

struct Standalone {
    child: Child,
    log: PathBuf,
}

impl Standalone {
    /// Starts in `folder`; `ordinary`: not as root, where these tests run as root.
    fn start(folder: &Path, web: &Web, ordinary: bool, environment: &[(&str, &str)]) -> Self {
        let settings = format!(
            "defaults: {{ interval: 1s }}\nsites: [{{ name: up, url: '{}' }}]\n",
            web.url("/up")
        );
        fs::write(folder.join("sitewatch.yaml"), settings).unwrap();
        // Where another user can reach it.
        let program = folder.join("sitewatch-node");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_sitewatch-node"), &program).unwrap();
        }
        let log = folder.join("standalone.log");
        let mut command = Command::new(program);
        command
            .args(["--role", "standalone"])
            .current_dir(folder)
            .env_remove("KAFKA_SERVER")
            .env_remove("POSTGRES_URL")
            .env_remove("KAFKA_TOPIC")
            .env("SITEWATCH__DEFAULTS__ALLOW_PRIVATE", "true")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
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

    /// Waits for `wanted` rows in its private PostgreSQL; gives how many there are.
    async fn rows(&mut self, data: &Path, wanted: i64) -> i64 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(
                Instant::now() < deadline && self.child.try_wait().unwrap().is_none(),
                "no {wanted} rows\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
            let log = self.log();
            let Some(rest) = log.split("connected to PostgreSQL, url: ").nth(1) else {
                continue;
            };
            let url = rest.lines().next().unwrap();
            let password = fs::read_to_string(data.join("password")).unwrap();
            let client = crate::support::connect(&url.replace("***", &password)).await;
            let rows = "SELECT count(*) FROM checks WHERE outcome = 'up'";
            let rows: i64 = client.query_one(rows, &[]).await.unwrap().get(0);
            if rows >= wanted {
                return rows;
            }
        }
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

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Three runs: the second goes on with the first's data, the third with what a killed second left.
async fn keeps_its_data(ordinary: bool) {
    let (folder, web) = (folder(), Web::start());
    let data = folder.path().join("sitewatch-data");
    let mut first = Standalone::start(folder.path(), &web, ordinary, &[]);
    let rows = first.rows(&data, 3).await;
    assert!(
        first
            .log()
            .contains("embedded, for evaluation only: a broker in memory and a private PostgreSQL")
    );
    // Of a broker in memory that goes without saying.
    assert!(!first.log().contains("Kafka may lose"), "{}", first.log());
    first.stop();
    let mut second = Standalone::start(folder.path(), &web, ordinary, &[]);
    let rows = second.rows(&data, rows + 3).await;
    second.child.kill().unwrap();
    second.child.wait().unwrap();
    let mut third = Standalone::start(folder.path(), &web, ordinary, &[]);
    third.rows(&data, rows + 3).await;
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
    let deadline = Instant::now() + Duration::from_secs(60);
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
