//! What the Kafka client of the consumer hears.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use slog::{info, warn};

use super::source::Change;
use crate::{kafka::Client, metrics::Metrics};

/// Hears of rebalances, statistics and errors.
pub(super) struct Context {
    pub(super) client: Client,
    metrics: Metrics,
    topic: String,
    /// Few: two a rebalance.
    changes: Mutex<Vec<Change>>,
}

impl Context {
    pub(super) fn new(client: Client, metrics: Metrics, topic: String) -> Self {
        Self {
            client,
            metrics,
            topic,
            changes: Mutex::default(),
        }
    }

    /// The changes since the last call, oldest first.
    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, change: Change) {
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(change);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.client.generate_oauth_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics
            .topics
            .get(&self.topic)
            .map(|topic| &topic.partitions);
        for (partition, state) in partitions
            .into_iter()
            .flatten()
            .filter(|(_, state)| state.consumer_lag_stored >= 0)
        {
            let label = partition.to_string();
            self.metrics
                .consumer_lag
                .with_label_values(&[label.as_str()])
                .set(state.consumer_lag_stored);
        }
        self.client.stats(statistics);
    }
}

impl ConsumerContext for Context {
    /// New partitions are taken but not read: the database knows where to begin, and the answer may take a while.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions: Vec<_> = list
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect();
        let outcome = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            info!(self.client.log, "partitions assigned"; "partitions" => ?partitions);
            list.set_all_offsets(Offset::Beginning)
                .and_then(|()| consumer.incremental_assign(list))
                .and_then(|()| consumer.pause(list))
                .map(|()| self.note(Change::Assigned(partitions)))
        } else {
            info!(self.client.log, "partitions revoked"; "partitions" => ?partitions);
            for partition in &partitions {
                // Absent if nothing was read from it.
                let _ = self
                    .metrics
                    .consumer_lag
                    .remove_label_values(&[partition.to_string().as_str()]);
            }
            self.note(Change::Revoked(partitions));
            consumer.incremental_unassign(list)
        };
        if let Err(problem) = outcome {
            warn!(self.client.log, "a rebalance failed"; "error" => %problem);
        }
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        // A hint only: the database holds the truth.
        if let Err(problem) = result
            && problem.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset)
        {
            slog::debug!(self.client.log, "offsets not committed to Kafka"; "error" => %problem);
        }
    }
}
