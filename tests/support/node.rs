//! Real processes of the node.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use super::{PATIENCE, World, signals};

impl World {
    /// Starts a node; `settings` is the text of its settings file.
    pub fn node(&self, role: &str, settings: &str) -> Node {
        self.node_with(role, settings, &[])
    }

    pub fn node_with(&self, role: &str, settings: &str, environment: &[(&str, &str)]) -> Node {
        self.node_but(role, settings, environment, &[])
    }

    /// Starts a node with more in its environment, and less.
    pub fn node_but(
        &self,
        role: &str,
        settings: &str,
        environment: &[(&str, &str)],
        absent: &[&str],
    ) -> Node {
        let (mut command, file, log) = self.prepare(role, settings, environment);
        command.stderr(fs::File::create(&log).unwrap());
        for variable in absent {
            command.env_remove(variable);
        }
        let child = command.spawn().unwrap();
        Node { child, log, file }
    }

    /// Starts a node whose log goes elsewhere than into a file.
    pub fn node_logging_to(
        &self,
        log: impl Into<Stdio>,
        role: &str,
        settings: &str,
        environment: &[(&str, &str)],
    ) -> Node {
        let (mut command, file, no_log) = self.prepare(role, settings, environment);
        let child = command.stderr(log).spawn().unwrap();
        Node {
            child,
            log: no_log,
            file,
        }
    }

    /// Returns the command of a node, its settings file, and where its log may go.
    fn prepare(
        &self,
        role: &str,
        settings: &str,
        environment: &[(&str, &str)],
    ) -> (Command, PathBuf, PathBuf) {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.path().join(format!("{role}-{number}.yaml"));
        fs::write(&file, settings).unwrap();
        let log = self.folder.path().join(format!("{role}-{number}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"));
        command
            .args(["--role", role, "--config"])
            .arg(&file)
            .current_dir(self.folder.path())
            .env("KAFKA_SERVER", &self.kafka)
            .env("KAFKA_TOPIC", &self.topic)
            .env("SITEWATCH__KAFKA__GROUP", &self.topic)
            .env("POSTGRES_URL", &self.database_url)
            .env("SITEWATCH__DEFAULTS__ALLOW_PRIVATE", "true")
            .env_remove("URL_CONFIG_FILE")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(fs::File::create(log.with_extension("stdout.log")).unwrap());
        (command, file, log)
    }
}

/// A running process of the node; killed when it is dropped.
pub struct Node {
    child: Child,
    log: PathBuf,
    pub file: PathBuf,
}

impl Node {
    pub fn signal(&self, name: &str) {
        signals::send(self.child.id(), name).unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks for an orderly end and gives the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait().code()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the node does not end\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub async fn wait_for_log(&self, text: &str) {
        self.wait_for_log_times(text, 1).await;
    }

    /// Waits until the log has said it so many times.
    pub async fn wait_for_log_times(&self, text: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.log().matches(text).count() < times {
            assert!(
                Instant::now() < deadline,
                "the log never says {text:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks that a command has ended with this code and has `told` this on standard error.
pub fn assert_told(output: &Output, code: i32, told: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(code) && said.contains(told),
        "{code}, {told:?}: {output:?}"
    );
}

/// Waits for the end of a process and returns its exit code; `log` is shown if it does not end.
pub async fn ends(child: &mut Child, log: impl Fn() -> String) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end\n{}", log());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
