//! What the whole-node tests are told with: a world of its own for each test (a topic and a database on the real services
//! of `scripts/test`), real processes of the node, and a local web server that behaves in known ways.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

pub(crate) mod signals;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    metadata::MetadataPartition,
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use tokio_postgres::{Client, NoTls, Row, error::SqlState};

/// How long a condition may take to come true on a machine that is busy with other tests. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How long the broker may take for an answer on a loaded machine.
const KAFKA_ANSWERS: Duration = Duration::from_secs(20);

pub fn required(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by scripts/test"))
}

/// Gives a user of the broker this password, and no other.
pub fn scram_password(mechanism: &str, user: &str, password: &str) {
    services(&["password", mechanism, user, password]);
}

/// Adds a rule of who may do what, in the words of kafka-acls.
pub fn allow(user: &str, rule: &str) {
    let rule: Vec<_> = rule.split(' ').collect();
    let who = format!("User:{user}");
    services(&[&["acl", "--add", "--allow-principal", &who], &rule[..]].concat());
}

fn services(arguments: &[&str]) {
    let status = Command::new(required("SITEWATCH_TEST_SERVICES"))
        .args(arguments)
        .status();
    assert!(status.unwrap().success());
}

/// A port that is free now. Another process could take it meanwhile, but none of these tests asks for it.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What the node at `port` answers, head and body.
pub fn page(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Memory of process `id` that is in RAM, in bytes.
pub fn resident(id: u32) -> u64 {
    resident_while_it_runs(id).unwrap()
}

/// The same; `None` of a process that has just ended.
pub fn resident_while_it_runs(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

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

    pub async fn create_topic(&self, partitions: i32) {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        self.admin()
            .create_topics([&topic], &AdminOptions::new())
            .await
            .unwrap();
    }

    /// The same; an error while the broker still has one of that name.
    pub async fn try_create_topic(&self, partitions: i32) -> Result<(), RDKafkaErrorCode> {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        let made = self
            .admin()
            .create_topics([&topic], &AdminOptions::new())
            .await
            .unwrap();
        made.into_iter()
            .next()
            .unwrap()
            .map(drop)
            .map_err(|(_, code)| code)
    }

    /// Gives the topic more partitions, `partitions` in all: many keys have another one from then on.
    pub async fn grow_topic(&self, partitions: usize) {
        let more = NewPartitions::new(&self.topic, partitions);
        self.admin()
            .create_partitions([&more], &AdminOptions::new())
            .await
            .unwrap();
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config
    }

    /// Numbers of the partitions of `topic`, in order; none if there is no such topic.
    fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
        let metadata = consumer.fetch_metadata(Some(topic), KAFKA_ANSWERS);
        let metadata = metadata.unwrap();
        let partitions = metadata.topics()[0].partitions().iter();
        partitions.map(MetadataPartition::id).collect()
    }

    /// How many messages have ever been in the topic.
    pub fn topic_ends(&self) -> i64 {
        self.ends_of(&self.topic)
    }

    fn ends_of(&self, topic: &str) -> i64 {
        let mut config = self.client();
        let consumer: BaseConsumer = config
            .set("allow.auto.create.topics", "false")
            .create()
            .unwrap();
        let ends = Self::partitions(&consumer, topic)
            .into_iter()
            .map(|partition| {
                let ends = consumer.fetch_watermarks(topic, partition, KAFKA_ANSWERS);
                ends.unwrap().1
            });
        ends.sum()
    }

    /// Waits until the offsets in the database have come to where the topic ends now.
    pub async fn wait_until_stored(&self) {
        self.wait_until_stored_from(&self.topic).await;
    }

    /// The same of another topic of this world's own.
    pub async fn wait_until_stored_from(&self, topic: &str) {
        let next = format!(
            "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset WHERE topic = '{topic}'"
        );
        self.wait_for("the offset stored", &next, self.ends_of(topic))
            .await;
    }

    /// Waits until the consumers' group has committed at least `wanted` offsets to Kafka, summed over its partitions.
    pub async fn wait_for_group_offsets(&self, wanted: i64) {
        let mut config = self.client();
        let consumer: BaseConsumer = config.set("group.id", &self.topic).create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in Self::partitions(&consumer, &self.topic) {
            list.add_partition(&self.topic, partition);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let committed = consumer.committed_offsets(list.clone(), KAFKA_ANSWERS);
            let elements = committed.unwrap();
            let elements = elements.elements();
            let offsets = elements.iter().filter_map(|it| it.offset().to_raw());
            let sum: i64 = offsets.filter(|offset| *offset > 0).sum();
            if sum >= wanted {
                return;
            }
            assert!(Instant::now() < deadline, "committed {sum} of {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn delete_topic(&self) {
        self.admin()
            .delete_topics(&[&self.topic], &AdminOptions::new())
            .await
            .unwrap();
    }

    /// Deletes the topic and makes it again. The broker makes a topic by itself for whoever asks for it just then: that one goes, too.
    pub async fn make_topic_again(&self, partitions: i32) {
        let made = async || {
            self.delete_topic().await;
            self.try_create_topic(partitions).await.is_ok()
        };
        self.wait_until("the old topic to go", made).await;
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

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Puts messages into the topic, all acknowledged.
    pub fn produce(&self, payloads: impl IntoIterator<Item = Vec<u8>>) {
        let numbered = payloads.into_iter().enumerate();
        self.produce_keyed(numbered.map(|(n, payload)| (n.to_string(), payload)));
    }

    /// Puts messages with their keys into the topic, all acknowledged.
    pub fn produce_keyed(&self, messages: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let mut config = self.client();
        let producer: ThreadedProducer<_> = config
            .set("linger.ms", "20")
            .set("compression.type", "zstd")
            .create()
            .unwrap();
        for (key, payload) in messages {
            let mut record = BaseRecord::to(&self.topic).key(&key).payload(&payload);
            while let Err((problem, back)) = producer.send(record) {
                let full = RDKafkaErrorCode::QueueFull;
                assert_eq!(problem.rdkafka_error_code(), Some(full), "{problem}");
                std::thread::sleep(Duration::from_millis(10));
                record = back;
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
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
            .stdout(fs::File::create(log.with_extension("stdout.log")).unwrap())
            .stderr(fs::File::create(&log).unwrap());
        for variable in absent {
            command.env_remove(variable);
        }
        let child = command.spawn().unwrap();
        Node { child, log, file }
    }

    /// Lets Kafka forget the messages before `offset` of the first partition, as retention does.
    pub async fn expire_before(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(offset))
            .unwrap();
        self.admin()
            .delete_records(&list, &AdminOptions::new())
            .await
            .unwrap();
    }

    /// Connects the test itself anew, after PostgreSQL was away.
    pub async fn reconnect(&mut self) {
        self.db = connect(&self.database_url).await;
    }

    /// The rows of `sql`. A statement that fails, fails the test.
    pub async fn query(&self, sql: &str) -> Vec<Row> {
        let rows = self.db.query(sql, &[]).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The one number that `sql` gives.
    pub async fn number(&self, sql: &str) -> i64 {
        let row = self.db.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get(0)
    }

    /// The rows of `sql`; none while there is no such table yet, which the consumer makes.
    pub async fn query_so_far(&self, sql: &str) -> Vec<Row> {
        match self.db.query(sql, &[]).await {
            Ok(rows) => rows,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// The one number that `sql` gives; 0 while there is no such table yet.
    pub async fn number_so_far(&self, sql: &str) -> i64 {
        let rows = self.query_so_far(sql).await;
        rows.first().map_or(0, |row| row.get(0))
    }

    /// Waits until `sql` gives at least `wanted`.
    pub async fn wait_for(&self, what: &str, sql: &str, wanted: i64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.number_so_far(sql).await;
            if found >= wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {found} of {wanted}\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it is so.
    pub async fn wait_until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(Instant::now() < deadline, "{what}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every site's slots are there without a hole and once: (site, rows, slots that passed from the first to the last).
    pub async fn assert_complete(&self, interval_seconds: f64) {
        let rows = self
            .query(&format!(
                "SELECT site, count(*), (round(extract(epoch FROM max(slot) - min(slot)) / {interval_seconds}) + 1)::int8
                   FROM checks GROUP BY site"
            ))
            .await;
        assert!(!rows.is_empty(), "no rows\n{}", self.logs());
        for row in rows {
            let (site, rows, slots): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(
                rows,
                slots,
                "{site}: rows and slots differ\n{}",
                self.logs()
            );
        }
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
}

/// A client of a database; its connection ends with it.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// A running process of the node; killed when it is dropped.
pub struct Node {
    child: Child,
    log: std::path::PathBuf,
    pub file: std::path::PathBuf,
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

/// A web server on loopback: `/up`, `/500`, `/slow` (3 s), `/reset`, `/text`, `/moved` (leads to `/up`), `/redirects` (to
/// itself), `/garbage`, `/stalls` (the body never ends), `/large` (100 kB).
pub struct Web {
    pub port: u16,
    pub paths: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let paths = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&paths);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || answer(stream, &seen));
            }
        });
        Self { port, paths }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Waits for so many more requests.
    pub async fn wait_for_requests(&self, more: usize) {
        let count = || self.paths.lock().unwrap().len();
        let (before, deadline) = (count(), Instant::now() + PATIENCE);
        while count() < before + more {
            assert!(
                Instant::now() < deadline,
                "{} requests, not {more}",
                count() - before
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn answer(mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).unwrap_or(0);
    let head = String::from_utf8_lossy(&request[..read]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(path.clone());
    let respond = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            body.len()
        )
    };
    let text = match path.as_str() {
        "/reset" => return,
        "/500" => respond("500 Internal Server Error", "", "oops"),
        "/slow" => {
            std::thread::sleep(Duration::from_secs(3));
            respond("200 OK", "", "at last")
        }
        "/moved" => respond("302 Found", "location: /up\r\n", ""),
        "/redirects" => respond("302 Found", "location: /redirects\r\n", ""),
        "/garbage" => "this is not HTTP\r\n\r\n".to_owned(),
        "/stalls" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome".to_owned(),
        "/large" => respond("200 OK", "", &"x".repeat(100_000)),
        _ => respond("200 OK", "", "all is well"),
    };
    // A client that has gone away is part of the game.
    let _ = stream.write_all(text.as_bytes());
    if path == "/stalls" {
        std::thread::sleep(Duration::from_secs(5));
    }
}

/// A valid message; `n` makes its slot, the same whenever a test asks for it.
pub fn message(site: &str, n: i64) -> serde_json::Value {
    static STARTED: LazyLock<u64> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs()
    });
    let second = i64::try_from(*STARTED).unwrap() - 40_000 + n;
    let (day, rest) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    // Civil from days (Howard Hinnant's algorithm).
    let z = day + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let y = yoe + era * 400 + i64::from(m <= 2);
    let slot = format!(
        "{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}.000000Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    serde_json::json!({
        "v": 1, "site": site, "url": "http://a/", "location": "test", "slot": slot, "lateness_us": 10, "outcome": "up",
        "status": 200, "total_us": 1234, "attempts": 1, "config_hash": "0000000000000000"
    })
}
