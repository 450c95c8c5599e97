//! The nodes' settings files, good and bad.

use std::{fs, path::PathBuf};

use crate::{fault::Node, kafka::TOPIC, postgres::Postgres};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sitewatch-node");

/// What the settings are made of.
pub(crate) struct Settings {
    pub(crate) folder: PathBuf,
    pub(crate) brokers: String,
    pub(crate) web_port: u16,
    /// The proxy to PostgreSQL of each consumer.
    pub(crate) postgres_ports: [u16; 2],
    pub(crate) sites: usize,
}

impl Settings {
    /// A node's file.
    pub(crate) fn file(&self, node: Node) -> PathBuf {
        self.folder.join(format!("{}.yaml", node.name()))
    }

    /// The folder of a producer's spool.
    pub(crate) fn spool(&self, node: Node) -> PathBuf {
        self.folder.join(format!("{}-spool", node.name()))
    }

    /// Writes a node's settings; each `variant` differs a little from the one before.
    pub(crate) fn write(&self, node: Node, variant: usize) -> std::io::Result<()> {
        let text = if node.is_producer() {
            self.producer(node, variant)
        } else {
            self.consumer(node, variant)
        };
        fs::write(self.file(node), text)
    }

    /// Spoils a node's settings.
    pub(crate) fn spoil(&self, node: Node, way: usize) -> std::io::Result<()> {
        let file = self.file(node);
        let good = fs::read_to_string(&file)?;
        let bad = match way % 4 {
            0 => good + "\nnode: [this is: not YAML\n",
            1 => good + "\nturbo: true\n",
            2 => good.replace("restart:", "restrat:"),
            _ => String::new(),
        };
        fs::write(file, bad)
    }

    fn common(&self, node: Node) -> String {
        format!(
            "node:
  location: {}
  data_dir: {}
  drain_timeout: 30s
  log: {{ level: debug, format: json }}
  restart: {{ max: 20, within: 60s, base: 20ms, cap: 500ms }}
",
            node.location(),
            self.folder.join(format!("{}-data", node.name())).display()
        )
    }

    fn producer(&self, node: Node, variant: usize) -> String {
        let sites: Vec<_> = (0..self.sites)
            // A tenth of them is left out, another one each time.
            .filter(|n| variant == 0 || n % 10 != variant % 10)
            .map(|n| {
                let path = if n % 10 == 3 { "failing" } else { "site" };
                format!(
                    "  - {{ name: site {n}, url: 'http://127.0.0.1:{}/{path}/{n}' }}\n",
                    self.web_port
                )
            })
            .collect();
        format!(
            "{}kafka:
  brokers: '{}'
  topic: {TOPIC}
  options:
    linger.ms: {}
    socket.timeout.ms: 10000
    reconnect.backoff.max.ms: 2000
spool: {{ dir: {}, max_bytes: 64000000 }}
defaults: {{ interval: 1s, timeout: 900ms, allow_private: true }}
sites:
{}",
            self.common(node),
            self.brokers,
            [20, 50][variant / 2 % 2],
            self.spool(node).display(),
            sites.concat()
        )
    }

    fn consumer(&self, node: Node, variant: usize) -> String {
        let second = usize::from(node == Node::ConsumerTwo);
        let (port, writers) = (self.postgres_ports[second], 1 + second);
        format!(
            "{}kafka:
  brokers: '{}'
  topic: {TOPIC}
  group: torture
  options:
    session.timeout.ms: 6000
    heartbeat.interval.ms: 1500
    socket.timeout.ms: 10000
    reconnect.backoff.max.ms: 2000
    fetch.wait.max.ms: {}
postgres:
  url: {}
  writers: {writers}
  batch: {{ max_rows: {}, max_age: 200ms }}
",
            self.common(node),
            self.brokers,
            [500, 100][variant / 2 % 2],
            Postgres::url(port),
            [500, 200, 1000][variant % 3],
        )
    }
}
