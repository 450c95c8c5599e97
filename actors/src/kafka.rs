//! What the publisher and the consumer share: the client's properties, and knowing whether Kafka answers.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use prometheus::IntGauge;
use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use sitewatch_config::KafkaSettings;
use slog::{Logger, debug, info, warn};

/// The properties that every client has: where the brokers are, how to get in, and what the user passes through.
pub fn client_config(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
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
        if let Some(ca) = &tls.ca {
            config.set("ssl.ca.location", ca.to_string_lossy());
        }
        if let Some(identity) = &tls.identity {
            config.set("ssl.certificate.location", identity.cert.to_string_lossy());
            config.set("ssl.key.location", identity.key.to_string_lossy());
        }
    }
    if let Some(sasl) = &settings.sasl {
        config
            .set("sasl.mechanisms", sasl.mechanism.as_str())
            .set("sasl.username", &sasl.username)
            .set("sasl.password", sasl.password.reveal());
    }
    for (property, value) in &settings.options {
        config.set(property, value);
    }
    config
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// Whether Kafka answers, told in one log line for each change and in a gauge.
pub struct Reachability {
    state: AtomicU8,
    /// What the client complained of last: the reason when it then says that all brokers are down.
    last_complaint: Mutex<String>,
    gauge: IntGauge,
    log: Logger,
}

impl Reachability {
    /// Not known yet.
    pub fn new(log: Logger, gauge: IntGauge) -> Arc<Self> {
        gauge.set(0);
        Arc::new(Self {
            state: AtomicU8::new(UNKNOWN),
            last_complaint: Mutex::default(),
            gauge,
            log,
        })
    }

    /// Kafka has answered.
    pub fn seen_up(&self) {
        // A relaxed look first: this is called for each message.
        if self.state.load(Ordering::Relaxed) == UP {
            return;
        }
        self.gauge.set(1);
        match self.state.swap(UP, Ordering::AcqRel) {
            UNKNOWN => info!(self.log, "connected to Kafka"),
            DOWN => info!(self.log, "Kafka answers again"),
            _ => {}
        }
    }

    /// Kafka does not answer.
    pub fn seen_down(&self, reason: &str) {
        if self.state.swap(DOWN, Ordering::AcqRel) != DOWN {
            self.gauge.set(0);
            warn!(self.log, "Kafka can't be reached, trying on"; "reason" => reason);
        }
    }

    /// Reads an error of the client. A complaint about one broker is only remembered; all of them down, or a refusal to
    /// let this client in, is a change.
    pub fn complaint(&self, error: &KafkaError, reason: &str) {
        let mut last = self
            .last_complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let why = if last.is_empty() {
                    reason
                } else {
                    last.as_str()
                };
                self.seen_down(why);
            }
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::SaslAuthenticationFailed,
            ) => {
                self.seen_down(reason);
            }
            _ => {
                last.clear();
                last.push_str(reason);
            }
        }
    }

    /// Reads the client's regular statistics: the only sign of life while no message flows.
    pub fn read(&self, statistics: &Statistics) {
        let mut brokers = statistics
            .brokers
            .values()
            .filter(|broker| broker.nodeid >= 0 || broker.source == "configured");
        if brokers.any(|broker| broker.state == "UP") {
            self.seen_up();
        }
    }
}

/// The least that a Kafka client of this process does: logs through slog, and keeps [`Reachability`] up to date.
#[derive(Clone)]
pub struct Client {
    /// Whether Kafka answers.
    pub reachability: Arc<Reachability>,
    /// Where librdkafka's own lines go, at debug level: what matters of them is told by `reachability`.
    pub log: Logger,
}

impl ClientContext for Client {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(self.log, "librdkafka"; "facility" => facility, "line" => message);
    }

    fn stats(&self, statistics: Statistics) {
        self.reachability.read(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(self.log, "Kafka client error"; "error" => %error, "reason" => reason);
        self.reachability.complaint(&error, reason);
    }
}
