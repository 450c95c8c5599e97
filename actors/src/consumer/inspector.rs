//! Looks at single messages of the topic, beside the client that reads it: whether the messages that were stored are still there.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::OnceLock,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message as _, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use sitewatch_config::KafkaSettings;
use slog::{Discard, Logger, debug, o};

use crate::{
    database::untold,
    kafka::{self, Client, Reachability},
    model::{fingerprint, printable},
};

/// The longest that one poll waits.
const POLL: Duration = Duration::from_millis(100);

/// A client that is made at the first look.
pub(super) struct Inspector {
    settings: KafkaSettings,
    client_id: String,
    log: Logger,
    consumer: OnceLock<BaseConsumer<Context>>,
}

impl Inspector {
    /// An inspector of the topic of `settings`.
    pub(super) fn new(settings: &KafkaSettings, client_id: &str, log: &Logger) -> Self {
        Self {
            settings: settings.clone(),
            client_id: format!("{client_id}-inspector"),
            log: log.clone(),
            consumer: OnceLock::new(),
        }
    }

    fn consumer(&self) -> Result<&BaseConsumer<Context>, KafkaError> {
        if let Some(made) = self.consumer.get() {
            return Ok(made);
        }
        let config = kafka::inspector(&self.settings, &self.client_id);
        // The client that reads tells whether Kafka answers.
        let unheard = Reachability::new(Logger::root(Discard, o!()), untold());
        let client = Client::new(&self.settings, unheard, &self.log);
        let made = config.create_with_context(Context(client))?;
        Ok(self.consumer.get_or_init(|| made))
    }

    /// Returns the fingerprint of the message at each place of the list; `None` where there is none, as where it was compacted away.
    ///
    /// # Errors
    /// What the client says, and if the broker has not answered by the deadline.
    pub(super) fn look(
        &self,
        places: &TopicPartitionList,
        deadline: Instant,
    ) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
        let consumer = self.consumer()?;
        consumer.assign(places)?;
        let found = collect(consumer, places, deadline);
        let end = consumer.unassign();
        let found = found?;
        end.map(|()| found)
    }
}

fn collect(
    consumer: &BaseConsumer<Context>,
    places: &TopicPartitionList,
    deadline: Instant,
) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
    let asked: BTreeMap<_, _> = places
        .elements()
        .iter()
        .map(|place| (place.partition(), place.offset()))
        .collect();
    let mut found = BTreeMap::new();
    while found.len() < asked.len() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let partition = message.partition();
                let is_it = asked.get(&partition) == Some(&Offset::Offset(message.offset()));
                let print = || fingerprint(message.payload().unwrap_or_default());
                found.entry(partition).or_insert_with(|| is_it.then(print));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                found.entry(partition).or_insert(None);
            }
            // The client goes on by itself.
            Some(Err(problem)) if Instant::now() >= deadline => return Err(problem),
            Some(Err(_)) => {}
            None if Instant::now() >= deadline => {
                return Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::OperationTimedOut,
                ));
            }
            None => {}
        }
    }
    Ok(found)
}

/// Logs at debug level only.
struct Context(Client);

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.0.generate_oauth_token(config)
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(self.0.log, "librdkafka"; "facility" => facility, "line" => printable(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(self.0.log, "Kafka client error"; "error" => %error, "reason" => printable(reason));
    }
}

impl ConsumerContext for Context {}
