//! A world of one test's own: a topic and a database on the real services, and a folder.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio_postgres::Client;

use super::{connect, required};

/// A topic and a database of one test's own.
pub struct World {
    pub kafka: String,
    pub topic: String,
    pub database_url: String,
    pub folder: tempfile::TempDir,
    pub db: Client,
}

impl World {
    /// On the services that all tests share.
    pub async fn new(name: &str) -> Self {
        Self::on(name, &required("KAFKA_SERVER"), &required("POSTGRES_URL")).await
    }

    /// On these services.
    pub async fn on(name: &str, kafka: &str, postgres_url: &str) -> Self {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        let topic = format!("t_{name}_{nanos}");
        let maintenance = connect(postgres_url).await;
        maintenance
            .batch_execute(&format!("CREATE DATABASE {topic}"))
            .await
            .unwrap();
        let database_url = format!("{}/{topic}", postgres_url.rsplit_once('/').unwrap().0);
        let db = connect(&database_url).await;
        Self {
            kafka: kafka.to_owned(),
            topic,
            database_url,
            folder: tempfile::tempdir().unwrap(),
            db,
        }
    }

    /// The database's server, and the database's URL by way of `port` of this machine, where a proxy may stand.
    pub fn database_by_way_of(&self, port: u16) -> (SocketAddr, String) {
        let mut url = self.database_url.clone();
        let start = url.find('@').unwrap() + 1;
        let end = start + url[start..].find('/').unwrap();
        let server = url[start..end].replace("localhost", "127.0.0.1");
        url.replace_range(start..end, &format!("127.0.0.1:{port}"));
        (server.parse().unwrap(), url)
    }

    /// Deletes the topic and the database: what a benchmark leaves would be large.
    pub async fn drop_all(&self) {
        self.delete_topic().await;
        self.drop_database().await;
    }

    pub async fn drop_database(&self) {
        let maintenance = connect(&required("POSTGRES_URL")).await;
        maintenance
            .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.topic))
            .await
            .unwrap();
    }

    /// Copies certificates of the tests beside the settings file, as Aiven's users do.
    pub fn bring(&self, files: &[&str]) {
        for file in files {
            self.put(file, file);
        }
    }

    /// Puts the certificate `from` of the tests into the place of `to`, at once and whole.
    pub fn put(&self, from: &str, to: &str) {
        let beside = self.folder.path().join("new");
        fs::copy(
            Path::new(&required("SITEWATCH_TEST_TLS")).join(from),
            &beside,
        )
        .unwrap();
        fs::rename(beside, self.folder.path().join(to)).unwrap();
    }

    pub fn logs(&self) -> String {
        let files = fs::read_dir(self.folder.path())
            .into_iter()
            .flatten()
            .flatten();
        let logs = files.filter(|file| {
            file.path()
                .extension()
                .is_some_and(|extension| extension == "log")
        });
        logs.map(|file| {
            format!(
                "--- {}\n{}",
                file.path().display(),
                fs::read_to_string(file.path()).unwrap_or_default()
            )
        })
        .collect()
    }

    /// A command of the node with these arguments, in the world's folder and on its database.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"));
        command
            .args(arguments)
            .env("POSTGRES_URL", &self.database_url)
            .current_dir(self.folder.path());
        command
    }

    /// Runs a command of the node that succeeds. Returns its standard output.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.program(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}
