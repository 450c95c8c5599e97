//! No secret leaves a node, whatever happens to it: each secret here holds the same word, and all that comes out is
//! searched for it: standard output and error at the level `trace`, pages, messages in Kafka, rows in PostgreSQL.
//! What single commands print is tried in commands/secrets.rs.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use crate::scripted::{Scripts, Server, http};
use crate::support::{Node, World, free_port, page, required, scram_password};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};

const SECRET: &str = "CANARY";
/// As PostgreSQL shows it in a column of bytes.
const SECRET_IN_HEX: &str = "43414e415259";
/// Other secrets than those of this test: the certificate and key files.
const FILES: [&str; 3] = ["ca.pem", "service.cert", "locked.key"];

const OPTIONS: &str =
    "debug: all, ssl.keystore.password: CANARY-keystore, sasl.oauthbearer.config: CANARY-config";

/// Everything that has a secret, as a settings file. The listeners are `server` and one that gives tokens.
fn settings(server: &Server, tokens: &Server, port: u16, kafka: &str) -> String {
    let (url, token_url) = (server.url("/"), tokens.url("/"));
    let with_password = url.replacen("http://", &format!("http://me:{SECRET}-url@"), 1);
    format!(
        "node: {{ listen: '127.0.0.1:{port}', data_dir: data-{port}, log: {{ level: trace }} }}
kafka: {{ {kafka} }}
defaults: {{ capture_bytes: 1000, expected_status: 200, interval: 1s, timeout: 900ms }}
sites:
  - {{ name: basic, url: '{url}', basic_auth: {{ username: me, password: {SECRET}-basic }} }}
  - {{ name: bearer, url: '{url}', bearer_token: 'file:secret' }}
  - {{ name: header, url: '{url}', headers: {{ authorization: {SECRET}-header, x-api-key: '${{TOKEN}}', cookie: 'a={SECRET}' }} }}
  - {{ name: body, url: '{url}', method: POST, form: {{ password: '${{DOTENV}}' }} }}
  - {{ name: oauth2, url: '{url}', oauth2: {{ token_url: '{token_url}', client_id: me, client_secret: {SECRET}-client }} }}
  - {{ name: user, url: '{with_password}' }}
  - {{ name: proxied, url: '{url}', proxy: 'http://me:{SECRET}-proxy@127.0.0.1:9' }}
"
    )
}

/// One world, in which all goes on that is searched.
struct Bench {
    world: World,
    server: Server,
    tokens: Server,
    environment: Vec<(&'static str, String)>,
    ports: Vec<u16>,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        world.bring(&FILES);
        let secret = world.folder.path().join("secret");
        fs::write(secret, format!("{SECRET}-file\n")).unwrap();
        fs::write(
            world.folder.path().join(".env"),
            format!("DOTENV={SECRET}-dotenv\n"),
        )
        .unwrap();
        let cookie = format!("session={SECRET}-set");
        let server = http::answer(500, &[("set-cookie", &cookie)], "broken").serve();
        let body = format!(r#"{{"access_token": "{SECRET}-token"}}"#);
        let tokens = Scripts::new()
            .otherwise(http::answer(200, &[], body))
            .start();
        // The server lets in anyone, so that a password that is wrong everywhere else is right here.
        let database = world
            .database_url
            .replacen(":sitewatch@", &format!(":{SECRET}-pg@"), 1);
        assert!(database.contains(SECRET));
        let environment = vec![
            ("TOKEN", format!("{SECRET}-env")),
            (
                "POSTGRES_URL",
                format!("{database}?application_name=a&password={SECRET}-query"),
            ),
        ];
        Self {
            world,
            server,
            tokens,
            environment,
            ports: Vec::new(),
        }
    }

    fn start(&mut self, role: &str, kafka: &str, more: &[(&str, &str)]) -> Node {
        let port = free_port();
        self.ports.push(port);
        let broker = required("SITEWATCH_TEST_KAFKA_SASL");
        let own = [("KAFKA_SERVER", broker.as_str())];
        let given = self
            .environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let environment: Vec<_> = given.chain(own).chain(more.iter().copied()).collect();
        let text = settings(&self.server, &self.tokens, port, kafka);
        self.world.node_with(role, &text, &environment)
    }

    fn pages(&self) -> String {
        let paths = ["/metrics", "/readyz", "/healthz", "/no-such-page"];
        let all = self
            .ports
            .iter()
            .flat_map(|port| paths.map(|path| page(*port, path)));
        all.collect()
    }

    /// What the commands print that look at these settings.
    fn commands(&self, file: &std::path::Path) -> String {
        let text = fs::read_to_string(file).unwrap();
        let old = self.world.folder.path().join("old.yaml");
        fs::write(&old, text.replace(SECRET, "CANARY-before")).unwrap();
        let (file, old) = (file.to_str().unwrap(), old.to_str().unwrap());
        let commands: [&[&str]; 8] = [
            &["validate"],
            &["validate", "--role", "producer"],
            &["--role", "consumer", "validate"],
            &["validate", "--site", "header"],
            &["validate", "--diff", old],
            &["migrate"],
            &["check", "--site", "user"],
            &["check", "--json", "--site", "proxied"],
        ];
        let mut all = String::new();
        for command in commands {
            let ran = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
                .args(command)
                .args(["--config", file])
                .current_dir(self.world.folder.path())
                .envs(
                    self.environment
                        .iter()
                        .map(|(name, value)| (*name, value.as_str())),
                )
                .env("SITEWATCH__DEFAULTS__ALLOW_PRIVATE", "true")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            all += &format!("{command:?} {}\n", ran.status);
            all += &String::from_utf8_lossy(&ran.stdout);
            all += &String::from_utf8_lossy(&ran.stderr);
        }
        all
    }

    /// Keys, headers and values of all messages of the topic.
    fn messages(&self) -> String {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", required("KAFKA_SERVER"))
            .set("group.id", format!("{}-reader", self.world.topic))
            // A commit would end a poll without a message.
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..3 {
            list.add_partition_offset(&self.world.topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut all, mut ends) = (String::new(), 0);
        while ends < 3 {
            match consumer
                .poll(Duration::from_secs(20))
                .expect("Kafka answers")
            {
                Ok(message) => {
                    all += &String::from_utf8_lossy(message.key().unwrap_or_default());
                    all += &String::from_utf8_lossy(message.payload().unwrap_or_default());
                    for header in message.headers().into_iter().flat_map(|all| all.iter()) {
                        all += header.key;
                        all += &String::from_utf8_lossy(header.value.unwrap_or_default());
                    }
                    all.push('\n');
                }
                Err(_) => ends += 1,
            }
        }
        all
    }

    async fn rows(&self) -> String {
        let tables = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace";
        let mut all = String::new();
        for table in self.world.query(tables).await {
            let table: String = table.get(0);
            for row in self
                .world
                .query(&format!("SELECT t::text FROM {table} t"))
                .await
            {
                all += &format!("{table}: {}\n", row.get::<_, String>(0));
            }
        }
        all
    }
}

/// Fails with the lines around a secret.
#[track_caller]
fn assert_clean(what: &str, text: &str, least: usize) {
    assert!(
        text.len() >= least,
        "{what} has hardly anything to be searched: {text}"
    );
    let lines: Vec<_> = text
        .lines()
        .filter(|line| {
            line.contains(SECRET) || line.contains(SECRET_IN_HEX) || line.contains("PRIVATE KEY")
        })
        .collect();
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

const BAD_SETTINGS: [&str; 6] = [
    "kafka: { sasl: { mechanism: PLAIN, username: [CANARY], password: [CANARY] } }",
    "kafka: { sasl: { mechanism: OAUTHBEARER, token_command: 'CANARY' } }",
    "kafka: { sasl: { mechanism: SCRAM-SHA-256, username: a, password: '${CANARY' } }",
    "kafka: { tls: true, options: { ssl.key.pem: CANARY } }",
    "kafka: { options: { no.such.pasword: CANARY } }",
    "postgres: { url: 'postgres://u:CANARY@h:x/d' }\nkafka: 'CANARY",
];

#[actix_rt::test]
async fn a_node_that_is_let_in_keeps_its_secrets() {
    let mut bench = Bench::new("secrets").await;
    let user = bench.world.topic.clone();
    scram_password("SCRAM-SHA-512", &user, &format!("{SECRET}-env"));
    let kafka = format!(
        "ca: ca.pem, cert: service.cert, key: locked.key, key_password: sitewatch,
        sasl: {{ mechanism: SCRAM-SHA-512, username: '{user}', password: '${{TOKEN}}' }},
        options: {{ {OPTIONS} }}"
    );
    let points = "publisher::publish=10*off->1*panic(boom)->off";
    let producer = bench.start("producer", &kafka, &[("FAILPOINTS", points)]);
    let points =
        "writer::store=1*off->1*panic(boom)->off;consumer::turn=20*off->1*panic(boom)->off";
    let consumer = bench.start("consumer", &kafka, &[("FAILPOINTS", points)]);
    let broken = "SELECT count(*) FROM checks WHERE outcome = 'down'";
    bench.world.wait_for("rows", broken, 30).await;
    // A message that is none, with its key; what is kept of it is for the database only.
    bench
        .world
        .produce([b"{\"v\":1,\"no\":\"message\"}".to_vec()]);
    bench
        .world
        .wait_for("dead letters", "SELECT count(*) FROM dead_letter", 1)
        .await;
    let commands = bench.commands(&consumer.file);
    for node in [&producer, &consumer] {
        node.wait_for_log("boom").await;
        let good = fs::read_to_string(&node.file).unwrap();
        for bad in BAD_SETTINGS {
            fs::write(&node.file, bad).unwrap();
            let said = "settings not reloaded";
            let times = node.log().matches(said).count();
            node.signal("HUP");
            node.wait_for_log_times(said, times + 1).await;
        }
        fs::write(&node.file, good.replace("-keystore", "-other")).unwrap();
        node.signal("HUP");
        node.wait_for_log("settings reloaded").await;
    }
    let rows = bench.world.number(broken).await;
    bench.world.wait_for("more rows", broken, rows + 7).await;
    let pages = bench.pages();
    for mut node in [producer, consumer] {
        assert_eq!(node.stop(), Some(0));
    }
    let sent = bench.server.requests();
    assert!(
        sent.iter()
            .any(|request| request.header("x-api-key").is_some()),
        "the secrets do travel"
    );
    assert_clean("pages", &pages, 5000);
    assert_clean("commands", &commands, 1000);
    assert_clean("logs", &bench.world.logs(), 20_000);
    assert_clean("messages", &bench.messages(), 5000);
    assert_clean("rows", &bench.rows().await, 5000);
}

#[actix_rt::test]
async fn a_node_that_is_refused_keeps_its_secrets() {
    let mut bench = Bench::new("secrets_refused").await;
    let kafka = |sasl: &str| {
        format!(
            "ca: ca.pem, sasl: {{ {sasl} }}, options: {{ {OPTIONS}, ssl.key.password: 'file:secret', sasl.password: '${{TOKEN}}' }}"
        )
    };
    let mut nodes = Vec::new();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let sasl = format!("mechanism: {mechanism}, username: sitewatch, password: 'file:secret'");
        nodes.push((
            bench.start("producer", &kafka(&sasl), &[]),
            "Kafka can't be reached",
        ));
        nodes.push((
            bench.start("consumer", &kafka(&sasl), &[]),
            "Kafka can't be reached",
        ));
    }
    // A program that fails and says why, one that talks nonsense, and one whose token the broker does not take.
    let refused = "echo '{\"token\": \"CANARY.e30.e30\", \"expires_in\": 600}'";
    for (script, says) in [
        ("echo CANARY; echo CANARY >&2; exit 1", "no token for Kafka"),
        ("echo CANARY and more", "no token for Kafka"),
        (refused, "Kafka can't be reached"),
    ] {
        let script = script.replace('\'', "''");
        let sasl =
            format!("mechanism: OAUTHBEARER, token_command: [sh, -c, '{script}', CANARY-argument]");
        nodes.push((bench.start("producer", &kafka(&sasl), &[]), says));
    }
    for (node, says) in &nodes {
        node.wait_for_log(says).await;
    }
    let commands = bench.commands(&nodes[nodes.len() - 1].0.file);
    let pages = bench.pages();
    for (node, _) in &nodes {
        node.signal("TERM");
    }
    for (mut node, _) in nodes {
        assert_eq!(node.wait().code(), Some(0));
    }
    assert_clean("pages", &pages, 5000);
    assert_clean("commands", &commands, 1000);
    assert_clean("logs", &bench.world.logs(), 20_000);
}
