//! The Kafka producer: idempotent, bounded, every delivery report counted.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message, Statistics,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use sitewatch_config::KafkaSettings;
use slog::{Logger, error};

use crate::{
    kafka::{Client, Reachability, client_config},
    metrics::Metrics,
};

/// Why a message was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The queue holds as much as it may.
    Full,
    /// Anything else, such as a message that is too large.
    Error(KafkaError),
}

/// A producer to one topic.
pub(super) struct Producer {
    client: ThreadedProducer<Deliveries>,
    topic: String,
    metrics: Metrics,
}

impl Producer {
    /// A producer with these settings. `failed` hears if the client fails for good.
    ///
    /// # Errors
    /// If a property or a certificate is not usable; an absent broker is no error.
    pub(super) fn new(
        settings: &KafkaSettings,
        client_id: &str,
        metrics: &Metrics,
        log: &Logger,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self, KafkaError> {
        let mut config = client_config(settings, client_id);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Never: librdkafka's default drops messages after five minutes of outage.
            .set("message.timeout.ms", "0")
            .set(
                "queue.buffering.max.messages",
                settings.queue.max_messages.to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                settings.queue.max_kbytes.to_string(),
            );
        for (property, value) in [("linger.ms", "50"), ("compression.type", "zstd")] {
            if !settings.options.contains_key(property) {
                config.set(property, value);
            }
        }
        let reachability = Reachability::new(
            log.clone(),
            metrics.kafka_up.with_label_values(&["producer"]),
        );
        let deliveries = Deliveries {
            client: Client::new(settings, reachability, log),
            metrics: metrics.clone(),
            failing: AtomicBool::new(false),
            failed: Arc::new(failed),
        };
        let client = config.create_with_context(deliveries)?;
        Ok(Self {
            client,
            topic: settings.topic.clone(),
            metrics: metrics.clone(),
        })
    }

    /// Hands one message to the client's queue. Its key is the site's name, so that a site's results stay in order.
    pub(super) fn send(&self, key: &str, payload: &[u8]) -> Result<(), Refused> {
        match self
            .client
            .send(BaseRecord::to(&self.topic).key(key).payload(payload))
        {
            Ok(()) => {
                self.metrics.produced.inc();
                self.metrics.in_flight.inc();
                Ok(())
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err(Refused::Full)
            }
            Err((problem, _)) => Err(Refused::Error(problem)),
        }
    }

    /// Waits until Kafka has acknowledged what is queued; returns how many messages are left after `patience`.
    pub(super) fn flush(&self, patience: Duration) -> i32 {
        match self.client.flush(patience) {
            Ok(()) => 0,
            Err(_) => self.client.in_flight_count(),
        }
    }
}

/// Hears of every message's end.
struct Deliveries {
    client: Client,
    metrics: Metrics,
    /// Whether the last report was a failure: one log line for each change.
    failing: AtomicBool,
    failed: Arc<dyn Fn(String) + Send + Sync>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.client.generate_oauth_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.client.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            (self.failed)(reason.to_owned());
        }
        self.client.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        self.metrics.in_flight.dec();
        match report {
            Ok(_) => {
                self.metrics.delivered.inc();
                self.client.reachability.seen_up();
                self.failing.store(false, Ordering::Relaxed);
            }
            Err((problem, message)) => {
                let reason = problem
                    .rdkafka_error_code()
                    .map_or_else(|| "other".to_owned(), |code| format!("{code:?}"));
                self.metrics
                    .delivery_failed
                    .with_label_values(&[reason.as_str()])
                    .inc();
                // What is purged when the client ends has been told by who ended it, as a number.
                let purged = [
                    RDKafkaErrorCode::PurgeQueue,
                    RDKafkaErrorCode::PurgeInflight,
                ];
                let told = problem
                    .rdkafka_error_code()
                    .is_some_and(|code| purged.contains(&code));
                if !told && !self.failing.swap(true, Ordering::Relaxed) {
                    error!(self.client.log, "Kafka did not take a message, results are lost";
                        "topic" => message.topic(), "error" => %problem);
                }
            }
        }
    }
}
