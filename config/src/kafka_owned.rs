//! The properties of librdkafka on which the node's promises rest: set by the node, or free within limits.

/// The other names of properties, with the names that librdkafka's own texts use.
const ALIASES: [(&str, &str); 14] = [
    ("bootstrap.servers", "metadata.broker.list"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("retries", "message.send.max.retries"),
    ("compression.type", "compression.codec"),
    ("acks", "request.required.acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
    ("offset.store.path", "offset.store.method"),
    ("offset.store.sync.interval.ms", "offset.store.method"),
];

/// The properties that the node sets itself, and why, or where they are set instead.
const OWNED: [(&str, &str); 17] = [
    ("metadata.broker.list", "kafka.brokers instead"),
    ("group.id", "kafka.group instead"),
    // Here it would turn encryption off in silence.
    (
        "security.protocol",
        "kafka.tls, kafka.ca and kafka.sasl instead",
    ),
    (
        "queue.buffering.max.messages",
        "kafka.queue.max_messages instead",
    ),
    (
        "queue.buffering.max.kbytes",
        "kafka.queue.max_kbytes instead",
    ),
    (
        "enable.auto.offset.store",
        "none: the node stores an offset when its rows are in the database",
    ),
    (
        "enable.auto.commit",
        "none: the node decides when an offset is committed",
    ),
    (
        "offset.store.method",
        "none: the node keeps its offsets in the database",
    ),
    (
        "auto.offset.reset",
        "none: the node starts at the offset that is in the database",
    ),
    (
        "enable.partition.eof",
        "none: the node would take the end of a partition for an error",
    ),
    (
        "enable.idempotence",
        "none: the node always sends idempotently",
    ),
    (
        "request.required.acks",
        "none: the node always waits for all replicas",
    ),
    (
        "message.timeout.ms",
        "none: the node decides how long a message is retried",
    ),
    (
        "delivery.report.only.error",
        "none: the node needs a report of each delivery",
    ),
    (
        "transactional.id",
        "none: the node begins no transaction of Kafka's, so nothing would be sent",
    ),
    (
        "statistics.interval.ms",
        "none: the node reads in the statistics whether Kafka answers",
    ),
    (
        "plugin.library.paths",
        "none: the node loads no library that a setting names",
    ),
];

/// The values with which the node can work, of properties that it leaves to the user.
const LIMITED: [(&str, Allowed, &str); 10] = [
    (
        "max.in.flight.requests.per.connection",
        Allowed::Numbers(1, 5),
        "1 to 5: more than 5 can't be sent idempotently",
    ),
    (
        "message.send.max.retries",
        Allowed::Numbers(1, u64::MAX),
        "1 or more: without a retry nothing can be sent idempotently",
    ),
    (
        "queue.buffering.backpressure.threshold",
        Allowed::Numbers(1, 1),
        "1: nothing else can be sent idempotently",
    ),
    (
        "partition.assignment.strategy",
        Allowed::Words(&["cooperative-sticky"]),
        "cooperative-sticky: the node takes and gives up partitions one by one",
    ),
    (
        "group.protocol",
        Allowed::Words(&["classic"]),
        "classic: the node needs that protocol",
    ),
    (
        "queuing.strategy",
        Allowed::Words(&["fifo"]),
        "fifo: nothing else can be sent idempotently",
    ),
    (
        "partitioner",
        Allowed::Words(&[
            "consistent",
            "consistent_random",
            "murmur2",
            "murmur2_random",
            "fnv1a",
            "fnv1a_random",
        ]),
        "one that goes by the key: a site's results keep their order in one partition",
    ),
    (
        "api.version.request",
        Allowed::Words(&["true", "t", "1"]),
        "true: whether a broker can be sent to idempotently is asked so",
    ),
    (
        "topic.blacklist",
        Allowed::Words(&[""]),
        "nothing: the node uses one topic, kafka.topic",
    ),
    (
        "group.remote.assignor",
        Allowed::Words(&[""]),
        "nothing: the node needs the classic protocol",
    ),
];

enum Allowed {
    Numbers(u64, u64),
    Words(&'static [&'static str]),
}

impl Allowed {
    /// Returns true for what librdkafka itself refuses, too: it says why.
    fn allows(&self, value: &str) -> bool {
        match self {
            Self::Numbers(least, most) => value
                .parse()
                .map_or(true, |number| (*least..=*most).contains(&number)),
            Self::Words(words) => words.iter().any(|word| value.eq_ignore_ascii_case(word)),
        }
    }
}

/// Returns the first name of a property that may have two.
pub(crate) fn first_name(name: &str) -> &str {
    // librdkafka takes properties of a topic with this before them, too. These are no properties of a topic.
    let name = match name.strip_prefix("topic.") {
        Some(rest) if !rest.starts_with("metadata.") && rest != "blacklist" => rest,
        _ => name,
    };
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    alias.map_or(name, |(_, first)| first)
}

/// Returns why the node sets a property itself, or where it is set instead, if it does.
pub(crate) fn owned(name: &str) -> Option<&'static str> {
    let owned = OWNED.iter().find(|(owned, _)| *owned == first_name(name));
    owned.map(|(_, instead)| *instead)
}

/// Returns what would be right in the place of a value with which the node can't work.
pub(crate) fn refused(name: &str, value: &str) -> Option<&'static str> {
    let limited = LIMITED
        .iter()
        .find(|(limited, ..)| *limited == first_name(name));
    let (_, allowed, right) = limited?;
    (!allowed.allows(value.trim())).then_some(*right)
}
