//! The properties of each client: those of all, those of its kind, and the user's for that kind. A trial makes clients of the
//! very same ones.

use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError,
    producer::{BaseProducer, DeliveryResult, ProducerContext},
};
use sitewatch_config::{KafkaSettings, Sasl};

use super::client_problem;

/// What only a consumer knows, as librdkafka's CONFIGURATION.md says. A producer would complain of it.
const OF_CONSUMERS: [&str; 21] = [
    "auto.commit.interval.ms",
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
];

/// What only a producer knows.
const OF_PRODUCERS: [&str; 16] = [
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "enable.gapless.guarantee",
    "linger.ms",
    "message.send.max.retries",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.ms",
    "queuing.strategy",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
];

/// The kinds of client, by what they are to librdkafka.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Producer,
    Consumer,
    /// Asks, and neither sends nor reads.
    Admin,
}

impl Kind {
    /// Whether a property of the user's is for clients of this kind. One that nobody knows is for all: they refuse it.
    fn has(self, property: &str) -> bool {
        let property = property.strip_prefix("topic.").unwrap_or(property);
        match self {
            Self::Producer => !OF_CONSUMERS.contains(&property),
            Self::Consumer => !OF_PRODUCERS.contains(&property),
            Self::Admin => !OF_CONSUMERS.contains(&property) && !OF_PRODUCERS.contains(&property),
        }
    }
}

/// The properties that every client has: where the brokers are, how to get in, and what the user passes through.
fn common(settings: &KafkaSettings, client_id: &str, kind: Kind) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set(
            "bootstrap.servers",
            settings.brokers.as_deref().unwrap_or_default(),
        )
        .set("client.id", client_id)
        .set("log.connection.close", "false")
        // Brokers close idle connections and DNS names of managed brokers move: come back soon, but not all at once.
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "10000")
        .set("socket.keepalive.enable", "true")
        .set("statistics.interval.ms", "2000");
    let protocol = match (&settings.tls, &settings.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &settings.tls {
        // What the files held when they were looked at: a client that is made later, after a failure, must not meet files
        // that somebody is just about to replace.
        if let Some(ca) = &tls.ca {
            config.set("ssl.ca.pem", String::from_utf8_lossy(&ca.bytes));
        }
        if let Some(identity) = &tls.identity {
            let pem = |bytes| String::from_utf8_lossy(bytes).into_owned();
            config
                .set("ssl.certificate.pem", pem(&identity.cert.bytes))
                .set("ssl.key.pem", pem(&identity.key.bytes));
            if let Some(password) = &identity.key_password {
                config.set("ssl.key.password", password.reveal());
            }
        }
    }
    match &settings.sasl {
        Some(Sasl::Password {
            mechanism,
            username,
            password,
        }) => {
            config
                .set("sasl.mechanisms", mechanism.as_str())
                .set("sasl.username", username)
                .set("sasl.password", password.reveal());
        }
        Some(Sasl::Token(_)) => {
            config.set("sasl.mechanisms", "OAUTHBEARER");
        }
        None => {}
    }
    for (property, value) in settings.options.iter() {
        if kind.has(property) {
            config.set(property, value.reveal());
        }
    }
    config
}

/// Sets what the user has not set, under whichever name.
fn set_defaults(config: &mut ClientConfig, settings: &KafkaSettings, defaults: &[(&str, &str)]) {
    for (property, value) in defaults {
        if !settings.options.contains_key(property) {
            config.set(*property, *value);
        }
    }
}

/// The properties of the producer. What the node relies on can't be overridden: the settings refuse it.
pub(crate) fn producer(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = common(settings, client_id, Kind::Producer);
    let queue = &settings.queue;
    // Above the publisher's own window, which counts payloads only: that one is the bound.
    let messages = queue.max_messages.saturating_add(10_000);
    let kbytes = (i64::from(queue.max_kbytes) * 2).min(i64::from(i32::MAX));
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Never: librdkafka's default drops messages after five minutes of outage.
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", messages.to_string())
        .set("queue.buffering.max.kbytes", kbytes.to_string());
    set_defaults(
        &mut config,
        settings,
        &[("linger.ms", "50"), ("compression.type", "zstd")],
    );
    config
}

/// The properties of the consumer. What the node relies on can't be overridden: the settings refuse it.
pub(crate) fn consumer(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = common(settings, client_id, Kind::Consumer);
    config
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "true")
        .set("enable.auto.offset.store", "false")
        // Positions come from the database. Were Kafka to move one by itself, messages would be passed over in silence.
        .set("auto.offset.reset", "error");
    let defaults = [
        // A topic that somebody has deleted is not made again by who reads it.
        ("allow.auto.create.topics", "false"),
        // The partitions of a consumer that was killed are another's after ten seconds; the default of librdkafka is 45.
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "500"),
        ("max.poll.interval.ms", "60000"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        // Producers with a backlog look at what is committed, and send as much as is stored.
        ("auto.commit.interval.ms", "200"),
        ("queued.max.messages.kbytes", "8192"),
        // What one answer holds of a partition, compressed; unpacked it is five to ten times as much, a hundred times where captures
        // are alike, beside the queue. With the default of 1 MiB a consumer of a backlog of ordinary results takes 250 MB.
        ("max.partition.fetch.bytes", "65536"),
        // How long a full queue is left alone before more is fetched. The default of a second is longer than the queue
        // lasts: with it, half the time of a backlog is spent waiting.
        ("fetch.queue.backoff.ms", "20"),
        // A topic that is made, or made again, is noticed within seconds instead of five minutes.
        ("topic.metadata.refresh.interval.ms", "10000"),
    ];
    set_defaults(&mut config, settings, &defaults);
    config
}

/// The properties of a client that asks how far the consumers of the group are, and joins it never.
pub(crate) fn lookout(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = common(settings, client_id, Kind::Consumer);
    config
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("statistics.interval.ms", "0");
    config
}

/// The properties of a client that looks at single messages, and joins no group.
pub(crate) fn inspector(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = common(settings, client_id, Kind::Consumer);
    config
        // Without one the client takes no partitions.
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "0")
        // Between two looks nobody polls it.
        .set("max.poll.interval.ms", "86400000")
        // One message of each partition is looked at.
        .set("queued.min.messages", "1")
        .set("queued.max.messages.kbytes", "1024")
        .set("max.partition.fetch.bytes", "65536")
        .set("fetch.wait.max.ms", "100")
        // Another member of the group may have it.
        .remove("group.instance.id");
    config
}

/// The properties of a client that asks for what the topic promises.
pub(super) fn admin(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = common(settings, client_id, Kind::Admin);
    config
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", "0");
    config
}

/// Makes clients from the settings and throws them away, without a connection: what librdkafka does not take is known before
/// anything is changed.
///
/// # Errors
/// What it does not take, without a value: any may be a secret.
pub fn try_out(settings: &KafkaSettings) -> Result<(), String> {
    let silent = |mut config: ClientConfig| {
        config
            .remove("bootstrap.servers")
            .set_log_level(RDKafkaLogLevel::Emerg);
        config
    };
    let id = "sitewatch-trial";
    let sending: Result<BaseProducer<Silent>, _> =
        silent(producer(settings, id)).create_with_context(Silent);
    sending.map_err(|problem| client_problem(&problem))?;
    // The others have no property of the user's that none of these two has.
    let reading: Result<BaseConsumer<Silent>, _> =
        silent(consumer(settings, id)).create_with_context(Silent);
    reading
        .map(drop)
        .map_err(|problem| client_problem(&problem))
}

/// Hears nothing: a trial is told by its end.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats(&self, _: Statistics) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_goes_to_the_clients_that_know_it() {
        let kinds = |property: &str| {
            [Kind::Producer, Kind::Consumer, Kind::Admin].map(|kind| kind.has(property))
        };
        assert_eq!(kinds("linger.ms"), [true, false, false]);
        assert_eq!(kinds("topic.partitioner"), [true, false, false]);
        assert_eq!(kinds("session.timeout.ms"), [false, true, false]);
        assert_eq!(kinds("socket.timeout.ms"), [true; 3]);
        assert_eq!(kinds("topic.metadata.refresh.interval.ms"), [true; 3]);
        assert_eq!(kinds("no.such.property"), [true; 3]);
    }

    #[test]
    fn a_trial_is_made_of_the_properties_of_each_client() {
        assert_eq!(try_out(&KafkaSettings::default()), Ok(()));
        let has = |config: &ClientConfig, property| config.get(property).map(ToOwned::to_owned);
        let settings = KafkaSettings::default();
        let (sends, reads) = (producer(&settings, "a"), consumer(&settings, "a"));
        assert_eq!(has(&sends, "acks").as_deref(), Some("all"));
        assert_eq!(has(&reads, "acks"), None);
        assert_eq!(has(&reads, "auto.offset.reset").as_deref(), Some("error"));
        assert_eq!(has(&sends, "group.id"), None);
    }
}
