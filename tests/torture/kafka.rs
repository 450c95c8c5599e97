//! Three brokers of a real Kafka, each also a controller.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    Failure,
    process::{Process, Start},
};

/// Partitions of the topic.
pub(crate) const PARTITIONS: i32 = 6;
/// The topic.
pub(crate) const TOPIC: &str = "torture";
/// Any will do: the cluster lives as long as the run.
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";
const BROKERS: usize = 3;

/// The brokers.
pub(crate) struct Kafka {
    brokers: Vec<Broker>,
    jars: PathBuf,
    port: u16,
}

struct Broker {
    process: Option<Process>,
    properties: PathBuf,
    folder: PathBuf,
}

/// Ports of broker `n`: where nodes come in through the proxy, the proxy, where the harness and other brokers come in, the
/// controller.
struct Ports {
    client: u16,
    proxy: u16,
    inside: u16,
    controller: u16,
}

fn ports(base: u16, broker: usize) -> Ports {
    // Three brokers: it fits.
    let first = base + 4 * u16::try_from(broker).unwrap_or(0);
    Ports {
        client: first,
        proxy: first + 1,
        inside: first + 2,
        controller: first + 3,
    }
}

impl Kafka {
    /// Makes the brokers' folders below `folder`; starts nothing yet.
    pub(crate) async fn prepare(folder: &Path, jars: PathBuf, port: u16) -> Result<Self, Failure> {
        let mut brokers = Vec::new();
        for n in 0..BROKERS {
            let folder = folder.join(format!("broker-{}", n + 1));
            fs::create_dir_all(&folder)?;
            let properties = folder.join("broker.properties");
            fs::write(&properties, properties_of(n, port, &folder))?;
            brokers.push(Broker {
                process: None,
                properties,
                folder,
            });
        }
        let kafka = Self {
            brokers,
            jars,
            port,
        };
        let mut formatting = Vec::new();
        for broker in &kafka.brokers {
            let arguments = ["format", "-t", CLUSTER_ID, "-c"].map(str::to_owned);
            let file = broker.properties.display().to_string();
            let arguments = arguments.into_iter().chain([file]);
            formatting.push(kafka.java(broker, "kafka.tools.StorageTool", arguments)?);
        }
        for mut process in formatting {
            let ended = process.wait(Duration::from_secs(60)).await;
            if !ended.is_some_and(|status| status.success()) {
                return Err(
                    "Kafka's storage could not be formatted, see broker-*/broker.log".into(),
                );
            }
        }
        Ok(kafka)
    }

    fn java(
        &self,
        broker: &Broker,
        class: &str,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Process, Failure> {
        let options = [
            "-Xmx384m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
        ];
        let options = options.map(str::to_owned).into_iter();
        let classes = [format!("{}/*", self.jars.display()), class.to_owned()];
        let start = Start {
            program: "java".as_ref(),
            arguments: options.chain(classes).chain(arguments).collect(),
            environment: Vec::new(),
            folder: &broker.folder,
            log: &broker.folder.join("broker.log"),
            user: None,
            last_resort: "KILL",
        };
        Ok(start.start()?)
    }

    /// Starts broker `n`, unless it runs.
    pub(crate) fn start(&mut self, n: usize) -> Result<(), Failure> {
        if self.brokers[n].process.is_none() {
            let file = self.brokers[n].properties.display().to_string();
            self.brokers[n].process = Some(self.java(&self.brokers[n], "kafka.Kafka", [file])?);
        }
        Ok(())
    }

    /// Kills broker `n`.
    pub(crate) fn kill(&mut self, n: usize) {
        // Dropped, it is killed.
        self.brokers[n].process = None;
    }

    /// Sends a signal to broker `n`, if it runs.
    pub(crate) fn signal(&self, n: usize, signal: &str) {
        if let Some(process) = &self.brokers[n].process {
            process.signal(signal);
        }
    }

    /// Brokers that have ended without being told to.
    pub(crate) fn ended(&mut self) -> Vec<usize> {
        let ended = |broker: &mut Broker| {
            broker
                .process
                .as_mut()
                .is_some_and(|process| process.ended().is_some())
        };
        let ended: Vec<_> = (0..BROKERS)
            .filter(|n| ended(&mut self.brokers[*n]))
            .collect();
        for n in &ended {
            self.brokers[*n].process = None;
        }
        ended
    }

    /// Where the harness reaches them, past the proxies.
    pub(crate) fn inside(&self) -> String {
        addresses(self.port, |ports| ports.inside)
    }

    /// Where the nodes reach them.
    pub(crate) fn through_proxies(&self) -> String {
        addresses(self.port, |ports| ports.proxy)
    }

    /// The port of each proxy, and the port behind it.
    pub(crate) fn proxies(&self) -> Vec<(u16, u16)> {
        let both = |ports: Ports| (ports.proxy, ports.client);
        (0..BROKERS).map(|n| both(ports(self.port, n))).collect()
    }

    /// Makes the topic, once the brokers are up.
    pub(crate) async fn create_topic(&self) -> Result<(), Failure> {
        let admin: AdminClient<DefaultClientContext> = client(&self.inside()).create()?;
        let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(3))
            .set("min.insync.replicas", "2");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let made = admin.create_topics([&topic], &AdminOptions::new()).await;
            match made.map(|mut results| results.pop()) {
                Ok(Some(Ok(_))) => return Ok(()),
                problem if Instant::now() > deadline => {
                    return Err(format!("Kafka does not make the topic: {problem:?}").into());
                }
                _ => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Waits until every partition has all its replicas in sync.
    pub(crate) async fn wait_until_whole(&self, longest: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + longest;
        loop {
            let inside = self.inside();
            let state = tokio::task::spawn_blocking(move || replicas_in_sync(&inside)).await?;
            match state {
                Ok(least) if least >= BROKERS => return Ok(()),
                state if Instant::now() > deadline => {
                    return Err(format!(
                        "Kafka itself does not recover: replicas in sync {state:?}"
                    )
                    .into());
                }
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

fn addresses(base: u16, which: impl Fn(Ports) -> u16) -> String {
    let all = (0..BROKERS).map(|n| format!("127.0.0.1:{}", which(ports(base, n))));
    all.collect::<Vec<_>>().join(",")
}

/// A client of the harness itself.
pub(crate) fn client(inside: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", inside)
        .set("socket.timeout.ms", "10000")
        .set("log_level", "0");
    config
}

/// The least number of replicas in sync that a partition has.
fn replicas_in_sync(inside: &str) -> Result<usize, rdkafka::error::KafkaError> {
    let asking: BaseConsumer = client(inside).create()?;
    let metadata = asking.fetch_metadata(Some(TOPIC), Duration::from_secs(5))?;
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions());
    Ok(partitions
        .map(|partition| partition.isr().len())
        .min()
        .unwrap_or(0))
}

/// The end of each partition: the offset that the next message will get.
///
/// # Errors
/// If Kafka does not say.
pub(crate) fn ends(inside: &str) -> Result<Vec<i64>, rdkafka::error::KafkaError> {
    let asking: BaseConsumer = client(inside).create()?;
    let end = |partition| {
        let held = asking.fetch_watermarks(TOPIC, partition, Duration::from_secs(10));
        held.map(|(_, high)| high)
    };
    (0..PARTITIONS).map(end).collect()
}

fn properties_of(n: usize, base: u16, folder: &Path) -> String {
    let voters: Vec<_> = (0..BROKERS)
        .map(|n| format!("{}@127.0.0.1:{}", n + 1, ports(base, n).controller))
        .collect();
    let Ports {
        client,
        proxy,
        inside,
        controller,
    } = ports(base, n);
    format!(
        "process.roles=broker,controller
node.id={}
controller.quorum.voters={}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INSIDE
listeners=CLIENT://127.0.0.1:{client},INSIDE://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{proxy},INSIDE://127.0.0.1:{inside}
listener.security.protocol.map=CLIENT:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=3
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
replica.lag.time.max.ms=8000
log.segment.bytes=67108864
log.retention.hours=24
",
        n + 1,
        voters.join(","),
        folder.join("data").display()
    )
}
