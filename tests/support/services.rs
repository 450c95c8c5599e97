//! A Kafka and a PostgreSQL of a test's own, beside the shared ones: for a test that stops them.

use std::{net::TcpListener, path::PathBuf, process::Command};

use crate::support::required;

/// Services that end with this value.
pub(crate) struct Services {
    folder: PathBuf,
    kafka_port: u16,
    postgres_port: u16,
}

impl Services {
    /// Starts them with their state in `folder`; Kafka's programs are those of the shared one.
    pub(crate) fn start(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let kafka_port = neighbours(4);
        let services = Self {
            folder,
            kafka_port,
            postgres_port: neighbours(1),
        };
        let shared = services
            .script(&["jars"])
            .env_remove("SITEWATCH_SERVICES_DIR")
            .output();
        let shared = shared.unwrap();
        assert!(shared.status.success(), "{shared:?}");
        let jars = String::from_utf8(shared.stdout).unwrap();
        std::os::unix::fs::symlink(jars.trim(), services.folder.join("jars")).unwrap();
        services.run(&["up"]);
        services
    }

    pub(crate) fn kafka(&self) -> String {
        format!("127.0.0.1:{}", self.kafka_port)
    }

    pub(crate) fn postgres_url(&self) -> String {
        let port = self.postgres_port;
        format!("postgres://sitewatch:sitewatch@127.0.0.1:{port}/sitewatch")
    }

    /// Runs `scripts/services` for these services.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let status = self.script(arguments).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(required("SITEWATCH_TEST_SERVICES"));
        command
            .args(arguments)
            .env("SITEWATCH_SERVICES_DIR", &self.folder)
            .env("SITEWATCH_KAFKA_PORT", self.kafka_port.to_string())
            .env("SITEWATCH_POSTGRES_PORT", self.postgres_port.to_string())
            .env(
                "COMPOSE_PROJECT_NAME",
                format!("sitewatch-{}", self.kafka_port),
            );
        command
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // A test that failed has more to say than this.
        let _ = self.script(&["down", "--purge"]).status();
    }
}

/// The first of `count` ports in a row that are free now.
fn neighbours(count: u16) -> u16 {
    let free = |port| TcpListener::bind(("127.0.0.1", port));
    for _ in 0..100 {
        let first = crate::support::free_port();
        let last = first.saturating_add(count - 1);
        if (first..=last).map(free).all(|listener| listener.is_ok()) && last - first == count - 1 {
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}
