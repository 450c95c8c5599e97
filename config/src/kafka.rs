//! The Kafka connection.

use std::time::SystemTime;

use crate::fields::Fields;
use crate::item::Item;
use crate::kafka_options::{self, KafkaOptions};
use crate::kafka_sasl::{self, Sasl, SaslMechanism};
use crate::kafka_security::{self, KafkaTls};

/// Settings of the Kafka connection.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSettings {
    /// The brokers, as `host:port,host:port`.
    pub brokers: Option<String>,
    /// The topic of the check results.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Encryption; none unless set.
    pub tls: Option<KafkaTls>,
    /// How the node logs in.
    pub sasl: Option<Sasl>,
    /// What the publisher may hold in memory.
    pub queue: QueueSettings,
    /// Any other property of librdkafka.
    pub options: KafkaOptions,
    /// Set by `standalone` for its broker in memory. Not a setting.
    pub in_memory: bool,
}

/// What the publisher may hold in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// The most messages.
    pub max_messages: u32,
    /// The most kilobytes.
    pub max_kbytes: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings {
            max_messages: 100_000,
            max_kbytes: 65_536,
        }
    }
}

impl Default for KafkaSettings {
    fn default() -> Self {
        KafkaSettings {
            brokers: None,
            topic: "url_metrics".to_owned(),
            group: "sitewatch".to_owned(),
            tls: None,
            sasl: None,
            queue: QueueSettings::default(),
            options: KafkaOptions::default(),
            in_memory: false,
        }
    }
}

impl KafkaSettings {
    /// What works but should be looked at, as seen at `now`.
    pub(crate) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let tls = self.tls.as_ref().map(|tls| tls.warnings(now));
        let mut warnings = tls.unwrap_or_default();
        warnings.extend(self.options.warnings());
        if let (
            Some(Sasl::Password {
                mechanism: SaslMechanism::Plain,
                ..
            }),
            None,
        ) = (&self.sasl, &self.tls)
        {
            warnings.push(
                "kafka.sasl: PLAIN without TLS sends the password in the clear; set kafka.tls or kafka.ca"
                    .to_owned(),
            );
        }
        warnings
    }
}

pub(crate) fn read(root: &Fields<'_>) -> KafkaSettings {
    let default = KafkaSettings::default();
    let kafka = root.section("kafka");
    let group = |item: Item<'_>| item.text("the name of a consumer group").map(str::to_owned);
    let settings = KafkaSettings {
        brokers: kafka.item("brokers").and_then(|item| brokers(&item)),
        topic: kafka
            .item("topic")
            .and_then(|item| topic(&item))
            .unwrap_or(default.topic),
        group: kafka.item("group").and_then(group).unwrap_or(default.group),
        tls: kafka_security::tls(&kafka),
        sasl: kafka_sasl::sasl(&kafka),
        queue: queue(&kafka),
        options: kafka_options::read(&kafka),
        in_memory: false,
    };
    kafka.finish();
    settings
}

/// Text or a list, either as `host:port` with commas between.
fn brokers(item: &Item<'_>) -> Option<String> {
    const EXPECTED: &str = "host:port, with commas between several";
    let texts: Vec<Option<&str>> = match &item.value.kind {
        config::ValueKind::Array(_) => item
            .list(EXPECTED)?
            .iter()
            .map(|item| item.text(EXPECTED))
            .collect(),
        _ => vec![item.text(EXPECTED)],
    };
    let texts: Vec<&str> = texts.into_iter().collect::<Option<_>>()?;
    let brokers: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .collect();
    if brokers.is_empty() || !brokers.iter().all(|broker| is_broker(broker)) {
        return item.wrong(EXPECTED);
    }
    Some(brokers.join(","))
}

fn is_broker(text: &str) -> bool {
    const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
    let address = match text.split_once("://") {
        Some((protocol, address))
            if PROTOCOLS.contains(&protocol.to_ascii_uppercase().as_str()) =>
        {
            address
        }
        Some(_) => return false,
        None => text,
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let host_is_right = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-._".contains(c))
        }
    };
    host_is_right && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn topic(item: &Item<'_>) -> Option<String> {
    let expected = "a topic's name: at most 249 letters, digits, dots, dashes and underscores";
    let text = item.text(expected)?;
    let is_right = text.len() <= 249
        && !matches!(text, "." | "..")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if is_right {
        Some(text.to_owned())
    } else {
        item.wrong(expected)
    }
}

fn queue(kafka: &Fields<'_>) -> QueueSettings {
    let default = QueueSettings::default();
    let queue = kafka.section("queue");
    let settings = QueueSettings {
        max_messages: queue
            .item("max_messages")
            .and_then(|item| item.whole(1..=10_000_000))
            .unwrap_or(default.max_messages),
        // librdkafka's own limit.
        max_kbytes: queue
            .item("max_kbytes")
            .and_then(|item| item.whole(1..=2_147_483_647))
            .unwrap_or(default.max_kbytes),
    };
    queue.finish();
    settings
}
