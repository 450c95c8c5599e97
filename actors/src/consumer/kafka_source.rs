//! Kafka behind the reader's seam. Its calls block: the reader has a thread of its own.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use sitewatch_config::KafkaSettings;
use slog::Logger;

use super::{
    client::{Context, properties},
    source::{Change, Source},
};
use crate::{
    kafka::{Client, Reachability, RiskGauge, Watch},
    metrics::Metrics,
    model::Watermarks,
};

/// How long the broker may take to say what it holds.
const WATERMARKS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a seek may take.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// A subscribed client.
pub(super) struct KafkaSource {
    consumer: BaseConsumer<Context>,
    topic: String,
    /// Looks at the topic while this client lives.
    _watch: Option<Watch>,
}

impl KafkaSource {
    /// Makes the client and subscribes.
    ///
    /// # Errors
    /// If a property or a certificate is not usable; an absent broker is no error.
    pub(super) fn new(
        settings: &KafkaSettings,
        client_id: &str,
        metrics: &Metrics,
        log: &Logger,
    ) -> Result<Self, KafkaError> {
        let up = metrics.kafka_up.with_label_values(&["consumer"]);
        let reachability = Reachability::new(log.clone(), up);
        let client = Client::new(settings, Arc::clone(&reachability), log);
        let context = Context::new(client, metrics.clone(), settings.topic.clone());
        let consumer: BaseConsumer<_> =
            properties(settings, client_id).create_with_context(context)?;
        consumer.subscribe(&[&settings.topic])?;
        let at_risk = RiskGauge::new(&metrics.kafka_topic_at_risk, "consumer");
        Ok(Self {
            consumer,
            topic: settings.topic.clone(),
            _watch: Watch::start(settings, client_id, &reachability, at_risk, log),
        })
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }
}

impl Source for KafkaSource {
    type Message<'a> = BorrowedMessage<'a>;

    async fn poll(&self, wait: Duration) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.consumer.poll(wait)
    }

    fn take_changes(&self) -> Vec<Change> {
        self.consumer.context().take_changes()
    }

    async fn watermarks(&self, partition: i32) -> Result<Watermarks, KafkaError> {
        let (low, high) =
            self.consumer
                .fetch_watermarks(&self.topic, partition, WATERMARKS_TIMEOUT)?;
        Ok(Watermarks {
            partition,
            low,
            high,
        })
    }

    async fn seek(&self, partition: i32, next: i64) -> Result<(), KafkaError> {
        let offset = Offset::Offset(next);
        self.consumer
            .seek(&self.topic, partition, offset, SEEK_TIMEOUT)
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.pause(&self.list(partitions))
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.resume(&self.list(partitions))
    }

    fn hint(&self, positions: &[(i32, i64)]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in positions {
            // The list's own offset is the next one to read; it adds nothing.
            let _ = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*next));
        }
        self.consumer.store_offsets(&list)
    }

    async fn commit(&self) -> Result<(), KafkaError> {
        self.consumer.commit_consumer_state(CommitMode::Sync)
    }

    fn seen_up(&self) {
        self.consumer.context().client.reachability.seen_up();
    }

    fn complaint(&self, problem: &KafkaError) {
        let client = &self.consumer.context().client;
        client.reachability.complaint(problem, &problem.to_string());
    }
}
