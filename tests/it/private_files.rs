//! Files that hold what sites answered are their owner's only, whatever the umask is and whatever was there before.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, Web, free_port};

/// A producer without a Kafka, whose results stay in `data/spool`; ended when it is dropped.
struct Producer {
    child: Child,
    log: PathBuf,
}

impl Producer {
    fn start(folder: &Path, web: &Web, umask: &str) -> Self {
        let settings = format!(
            "node: {{ data_dir: data }}\nkafka: {{ brokers: '127.0.0.1:{}' }}\n\
             defaults: {{ interval: 1s, allow_private: true, capture_bytes: 100 }}\n\
             sites: [{{ name: a, url: '{}' }}]\n",
            free_port(),
            web.url("/500")
        );
        fs::write(folder.join("sitewatch.yaml"), settings).unwrap();
        let log = folder.join("node.log");
        let child = Command::new("sh")
            .args(["-c", "umask $0; exec \"$@\"", umask])
            .args([env!("CARGO_BIN_EXE_sitewatch-node"), "--role", "producer"])
            .current_dir(folder)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn();
        Self {
            child: child.unwrap(),
            log,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    async fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everything below `folder`, itself included, with its mode.
fn all_below(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = vec![(folder.to_owned(), mode(folder))];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_below(&path));
        } else {
            found.push((path.clone(), mode(&path)));
        }
    }
    found
}

fn has_segment(spool: &Path) -> bool {
    let names = fs::read_dir(spool).into_iter().flatten().flatten();
    names
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|it| it == "spool"))
}

#[actix_rt::test]
async fn the_spool_is_its_owners_only_under_any_umask() {
    let web = Web::start();
    for umask in ["022", "000", "077"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let producer = Producer::start(folder.path(), &web, umask);
        let spool = data.join("spool");
        producer
            .wait_until("there is no segment", || has_segment(&spool))
            .await;
        assert_eq!(
            mode(&data) & 0o022,
            0,
            "umask {umask}: others may not put another spool there"
        );
        for (path, mode) in all_below(&spool) {
            let right = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, right, "umask {umask}: {} is {mode:o}", path.display());
        }
    }
}

#[actix_rt::test]
async fn a_spool_that_others_could_read_is_closed_to_them_and_that_is_told() {
    let (web, folder) = (Web::start(), tempfile::tempdir().unwrap());
    let spool = folder.path().join("data/spool");
    fs::create_dir_all(&spool).unwrap();
    let old = spool.join("refused.jsonl");
    fs::write(&old, "what a site answered\n").unwrap();
    let open_to_all =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open_to_all(&spool, 0o755);
    open_to_all(&old, 0o644);
    let producer = Producer::start(folder.path(), &web, "022");
    producer
        .wait_until("there is no segment", || has_segment(&spool))
        .await;
    for (path, mode) in all_below(&spool) {
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", path.display());
    }
    assert_eq!(
        producer.log().matches("could be read by others").count(),
        1,
        "{}",
        producer.log()
    );
}
