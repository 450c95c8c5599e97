//! The Kafka producer: idempotent, bounded, every delivery report counted.

use std::{
    cell::OnceCell,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::LocalBoxFuture;
use rdkafka::{
    ClientConfig, ClientContext, Message, Statistics,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use sitewatch_config::KafkaSettings;
use slog::{Logger, warn};

use crate::{
    kafka::{self, Client, Reachability, RiskGauge, Watch},
    metrics::Metrics,
};

use super::{
    lookout::Lookout,
    outside::{End, Ends, Link, PartitionLag, Refused, Ticket},
};

/// A producer to one topic.
pub struct Producer {
    client: ThreadedProducer<Deliveries>,
    /// For messages that go alone: made when the first one comes, since nearly no producer has any.
    alone: OnceCell<ThreadedProducer<Deliveries>>,
    config: ClientConfig,
    deliveries: Deliveries,
    lookout: Arc<Lookout>,
    topic: String,
    metrics: Metrics,
    /// Looks at the topic while this client lives.
    _watch: Option<Watch>,
}

impl Producer {
    /// A producer with these settings, which tells `ends` of each message and if the client fails for good.
    ///
    /// # Errors
    /// If a property or a certificate is not usable; an absent broker is no error.
    pub(super) fn new(
        settings: &KafkaSettings,
        client_id: &str,
        metrics: &Metrics,
        log: &Logger,
        ends: Ends,
    ) -> Result<Self, KafkaError> {
        let reachability = Reachability::new(
            log.clone(),
            metrics.kafka_up.with_label_values(&["producer"]),
        );
        let client = Client::new(settings, Arc::clone(&reachability), log);
        let lookout = Lookout::new(settings, client_id, client.clone());
        let deliveries = Deliveries {
            client,
            lookout: Arc::clone(&lookout),
            metrics: metrics.clone(),
            failing: Arc::default(),
            ends,
        };
        let config = kafka::producer(settings, client_id);
        let client = config.create_with_context(deliveries.clone())?;
        reachability.show();
        let at_risk = RiskGauge::new(&metrics.kafka_topic_at_risk, "producer");
        let watch = Watch::start(settings, client_id, &reachability, at_risk, log);
        Ok(Self {
            client,
            alone: OnceCell::new(),
            config,
            deliveries,
            lookout,
            topic: settings.topic.clone(),
            metrics: metrics.clone(),
            _watch: watch,
        })
    }
}

impl Producer {
    /// The client whose requests hold one message each.
    fn alone(&self) -> Result<&ThreadedProducer<Deliveries>, KafkaError> {
        if let Some(client) = self.alone.get() {
            return Ok(client);
        }
        let mut config = self.config.clone();
        config.set("batch.num.messages", "1").set("linger.ms", "0");
        let client = config.create_with_context(self.deliveries.clone())?;
        Ok(self.alone.get_or_init(|| client))
    }
}

impl Link for Producer {
    /// A message's key is the site's name, so that a site's results stay in order.
    fn send(&self, ticket: Ticket, key: &[u8], payload: &[u8]) -> Result<(), Refused> {
        let client = if ticket.alone {
            let alone = self.alone();
            alone.map_err(|problem| Refused::Now(problem.to_string()))?
        } else {
            &self.client
        };
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(ticket))
            .key(key)
            .payload(payload);
        match client.send(record) {
            Ok(()) => {
                self.metrics.produced.inc();
                self.metrics.in_flight.inc();
                Ok(())
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err(Refused::Full)
            }
            Err((problem, _)) if is_of_the_message(&problem) => {
                Err(Refused::Never(problem.to_string()))
            }
            Err((problem, _)) => Err(Refused::Now(problem.to_string())),
        }
    }

    fn look(&self) -> LocalBoxFuture<'static, Result<Vec<PartitionLag>, String>> {
        let lookout = Arc::clone(&self.lookout);
        let looked = tokio::task::spawn_blocking(move || lookout.look());
        Box::pin(async move { looked.await.unwrap_or_else(|panic| Err(panic.to_string())) })
    }

    fn rest(&self) {
        let lookout = Arc::clone(&self.lookout);
        tokio::task::spawn_blocking(move || lookout.rest());
    }

    fn close(self, patience: Duration) {
        // What is left is purged when the client goes, and told as failed: it stays in the spool.
        let _ = self.client.flush(patience);
        if let Some(alone) = self.alone.get() {
            let _ = alone.flush(patience);
        }
    }
}

/// Whether it is this message that Kafka does not take, whoever sends it and whenever; or another one of the same request, of which each
/// message is told the same.
fn is_of_the_message(problem: &KafkaError) -> bool {
    matches!(
        problem.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
        )
    )
}

/// Hears of every message's end.
#[derive(Clone)]
struct Deliveries {
    client: Client,
    lookout: Arc<Lookout>,
    metrics: Metrics,
    /// Whether the last report was a failure: one log line for each change.
    failing: Arc<AtomicBool>,
    ends: Ends,
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
            self.ends.client_failed(reason.to_owned());
        }
        self.client.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, report: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        self.metrics.in_flight.dec();
        let end = match report {
            Ok(message) => {
                self.lookout
                    .delivered(message.partition(), message.offset());
                self.metrics.delivered.inc();
                self.client.reachability.seen_up();
                self.failing.store(false, Ordering::Relaxed);
                End::Delivered
            }
            Err((problem, _)) if is_of_the_message(problem) => End::Refused(problem.to_string()),
            Err((problem, message)) => {
                // What is purged when the client ends is no news.
                let purged = [
                    RDKafkaErrorCode::PurgeQueue,
                    RDKafkaErrorCode::PurgeInflight,
                ];
                let ours = problem
                    .rdkafka_error_code()
                    .is_some_and(|code| purged.contains(&code));
                if !ours && !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(self.client.log, "Kafka did not take a message, it is sent again";
                        "topic" => message.topic(), "error" => %problem);
                }
                End::Failed(problem.to_string())
            }
        };
        self.ends.tell(*ticket, end);
    }
}
