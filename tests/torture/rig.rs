//! Everything that a run consists of.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::runtime::Handle;

use crate::{
    Failure,
    arguments::Arguments,
    disk::{self, Disk},
    fault::{Line, Node},
    kafka::Kafka,
    nodes::Nodes,
    postgres::Postgres,
    settings::Settings,
    tcp_proxy::{Link, TcpProxy},
    web::Web,
};

/// The services, the proxies, the nodes. Dropped, all of it ends.
pub(crate) struct Rig {
    pub(crate) folder: PathBuf,
    pub(crate) nodes: Nodes,
    pub(crate) kafka: Kafka,
    pub(crate) postgres: Postgres,
    pub(crate) disks: BTreeMap<Node, Disk>,
    pub(crate) web: Web,
    to_brokers: Vec<TcpProxy>,
    to_postgres: Vec<(Node, TcpProxy)>,
}

impl Rig {
    /// Starts everything but the nodes, and makes the topic.
    pub(crate) async fn build(arguments: &Arguments, seed: u64) -> Result<Self, Failure> {
        let parent = std::env::current_dir()?.join(&arguments.folder);
        disk::unmount_stale(&parent);
        let folder = parent.join(format!("seed-{seed}"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let network = network()?;
        let base = arguments.port;
        let (postgres_port, postgres_ports, web_port) =
            (base + 12, [base + 13, base + 14], base + 15);
        let web = Web::start(&network, web_port, &folder.join("requests.log"))
            .map_err(|problem| taken(web_port, &problem))?;
        let mut kafka =
            Kafka::prepare(&folder, from_environment("SITEWATCH_KAFKA_JARS")?, base).await?;
        for broker in 0..3 {
            kafka.start(broker)?;
        }
        let programs = from_environment("SITEWATCH_POSTGRES_BIN")?;
        let postgres = Postgres::prepare(&folder, programs, postgres_port).await?;
        let proxy = |port: u16, upstream: u16| {
            TcpProxy::start(&network, port, ([127, 0, 0, 1], upstream).into())
                .map_err(|problem| taken(port, &problem))
        };
        let proxies = kafka.proxies().into_iter();
        let to_brokers = proxies
            .map(|(port, upstream)| proxy(port, upstream))
            .collect::<Result<_, _>>()?;
        let mut to_postgres = Vec::new();
        for (node, port) in Node::CONSUMERS.into_iter().zip(postgres_ports) {
            to_postgres.push((node, proxy(port, postgres_port)?));
        }
        kafka.create_topic().await?;
        let settings = Settings {
            folder: folder.clone(),
            brokers: kafka.through_proxies(),
            web_port,
            postgres_ports,
            sites: arguments.sites,
        };
        let mut disks = BTreeMap::new();
        for node in Node::PRODUCERS {
            disks.insert(node, Disk::new(&settings.spool(node))?);
        }
        Ok(Self {
            nodes: Nodes::new(settings, seed),
            folder,
            kafka,
            postgres,
            disks,
            web,
            to_brokers,
            to_postgres,
        })
    }

    /// Changes how links behave.
    pub(crate) fn set_line(&self, line: Line, change: impl Fn(&mut Link)) {
        match line {
            Line::Broker(broker) => self.to_brokers[broker].set(&change),
            Line::Kafka => self.to_brokers.iter().for_each(|proxy| proxy.set(&change)),
            Line::Postgres(node) => {
                let mine = self.to_postgres.iter().filter(|(whose, _)| *whose == node);
                mine.for_each(|(_, proxy)| proxy.set(&change));
            }
        }
    }

    /// Ends every fault but what the nodes have from their start, and waits until the services are whole again.
    pub(crate) async fn heal(&mut self) -> Result<(), Failure> {
        let lines = [Line::Kafka]
            .into_iter()
            .chain(Node::CONSUMERS.map(Line::Postgres));
        for line in lines {
            self.set_line(line, mend);
        }
        for disk in self.disks.values() {
            disk.free();
        }
        for broker in 0..3 {
            self.kafka.signal(broker, "CONT");
            self.kafka.start(broker)?;
        }
        self.postgres.start()?;
        self.postgres
            .connect_within("sitewatch", Duration::from_secs(60))
            .await?;
        self.kafka.wait_until_whole(Duration::from_secs(90)).await
    }

    /// Bytes that went through the proxies.
    pub(crate) fn passed(&self) -> u64 {
        let postgres = self.to_postgres.iter().map(|(_, proxy)| proxy);
        self.to_brokers
            .iter()
            .chain(postgres)
            .map(TcpProxy::passed)
            .sum()
    }
}

/// A link without a fault.
pub(crate) fn mend(link: &mut Link) {
    *link = Link {
        cuts: link.cuts,
        ..Link::default()
    };
}

/// The proxies and the web server have a thread of their own: what the harness is busy with must not become a fault.
fn network() -> Result<Handle, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

fn from_environment(variable: &str) -> Result<PathBuf, Failure> {
    let value = std::env::var_os(variable).filter(|value| Path::new(value).is_dir());
    let value = value
        .ok_or_else(|| format!("{variable} names no folder: start this by scripts/torture"))?;
    Ok(value.into())
}

fn taken(port: u16, problem: &std::io::Error) -> String {
    format!("port {port} can't be had ({problem}); --port chooses others")
}
