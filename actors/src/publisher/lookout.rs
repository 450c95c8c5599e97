//! How far the consumers are: a client that never reads, and only asks for the offsets that their group has committed. These
//! are hints, and as such they are taken.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
};
use sitewatch_config::KafkaSettings;
use slog::debug;

use super::outside::PartitionLag;
use crate::kafka::{self, Client, client_problem};

/// How long an answer may take. Nobody waits for it but the backlog.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks for the offsets of the consumers' group.
pub(super) struct Lookout {
    settings: KafkaSettings,
    client_id: String,
    context: Client,
    /// Made when it is needed, and let go of when it is not: a producer has a backlog at rare times only.
    client: Mutex<Option<BaseConsumer<Asking>>>,
    /// What the client has last complained of. It says so once; then it goes on asking, and nothing is heard in time.
    complaint: Mutex<Option<KafkaError>>,
    /// The offset after the last message that Kafka has acknowledged, by partition.
    delivered: Mutex<BTreeMap<i32, i64>>,
}

impl Lookout {
    /// A lookout beside a producer of these settings, with what that needs to log in.
    pub(super) fn new(settings: &KafkaSettings, client_id: &str, context: Client) -> Arc<Self> {
        Arc::new(Self {
            settings: settings.clone(),
            client_id: client_id.to_owned(),
            context,
            client: Mutex::default(),
            complaint: Mutex::default(),
            delivered: Mutex::default(),
        })
    }

    /// Kafka has acknowledged a message. Of one that came again it does not tell the offset, which is negative then.
    pub(super) fn delivered(&self, partition: i32, offset: i64) {
        let mut delivered = lock(&self.delivered);
        let next = delivered.entry(partition).or_default();
        *next = (*next).max(offset + 1);
    }

    /// How far the consumers are in the partitions to which something was delivered. Blocks.
    ///
    /// # Errors
    /// Why that can't be told, in words.
    pub(super) fn look(&self) -> Result<Vec<PartitionLag>, String> {
        let delivered = lock(&self.delivered).clone();
        let topic = &self.settings.topic;
        let mut asked = TopicPartitionList::new();
        for partition in delivered.keys() {
            asked.add_partition(topic, *partition);
        }
        let mut client = lock(&self.client);
        let client = match &mut *client {
            Some(client) => client,
            none => none.insert(self.connect().map_err(|problem| client_problem(&problem))?),
        };
        self.hear(client);
        let told = client.committed_offsets(asked, TIMEOUT);
        self.hear(client);
        let mut complaint = lock(&self.complaint);
        let told = told.map_err(|problem| complaint.as_ref().unwrap_or(&problem).to_string())?;
        *complaint = None;
        let mut lags = Vec::new();
        for element in told.elements() {
            element.error().map_err(|problem| problem.to_string())?;
            if let Offset::Offset(committed) = element.offset() {
                lags.push(PartitionLag {
                    partition: element.partition(),
                    committed,
                    end: delivered[&element.partition()],
                });
            }
        }
        Ok(lags)
    }

    /// Lets go of the client. May block.
    pub(super) fn rest(&self) {
        drop(lock(&self.client).take());
    }

    /// Serves what the client has to say, as that it needs a token, and keeps what it complains of. Messages it has none: it
    /// has joined no group.
    fn hear(&self, client: &BaseConsumer<Asking>) {
        while let Some(said) = client.poll(Duration::ZERO) {
            if let Err(problem) = said {
                *lock(&self.complaint) = Some(problem);
            }
        }
    }

    fn connect(&self) -> Result<BaseConsumer<Asking>, KafkaError> {
        let client_id = format!("{}-lookout", self.client_id);
        kafka::lookout(&self.settings, &client_id).create_with_context(Asking(self.context.clone()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether Kafka answers is the producer's to tell: it meets the same brokers.
struct Asking(Client);

impl ClientContext for Asking {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(self.0.log, "Kafka client error"; "error" => %error, "reason" => reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.0.generate_oauth_token(config)
    }
}

impl ConsumerContext for Asking {}
