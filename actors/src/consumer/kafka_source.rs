//! Kafka behind the reader's seam. Its calls block: the reader has a thread of its own.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use sitewatch_config::KafkaSettings;
use slog::Logger;

use super::{
    client::Context,
    inspector::Inspector,
    source::{Change, Source},
};
use crate::{
    kafka::{self, Client, Reachability, RiskGauge, Watch},
    metrics::Metrics,
    model::Watermarks,
};

/// How long the broker may take to say what it holds.
const WATERMARKS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take to say which cluster it is of. It has said so with the first metadata.
const CLUSTER_TIMEOUT: Duration = Duration::from_millis(200);

/// A subscribed client.
pub(super) struct KafkaSource {
    consumer: BaseConsumer<Context>,
    inspector: Inspector,
    topic: String,
    cluster: OnceLock<Arc<str>>,
    /// Looks at the topic while this client lives.
    _watch: Option<Watch>,
}

impl KafkaSource {
    /// Makes the client. It reads nothing before it has subscribed.
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
            kafka::consumer(settings, client_id).create_with_context(context)?;
        let at_risk = RiskGauge::new(&metrics.kafka_topic_at_risk, "consumer");
        Ok(Self {
            consumer,
            inspector: Inspector::new(settings, client_id, log),
            topic: settings.topic.clone(),
            cluster: OnceLock::new(),
            _watch: Watch::start(settings, client_id, &reachability, at_risk, log),
        })
    }

    /// Joins the group, in the place of an earlier client.
    ///
    /// # Errors
    /// If the topic's name is not usable.
    pub(super) fn subscribe(&self) -> Result<(), KafkaError> {
        self.consumer.context().client.reachability.show();
        self.consumer.subscribe(&[&self.topic])
    }

    fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    fn list_at(&self, places: &[(i32, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            // Refused is only an offset that means something else, as -1 does.
            let _ = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
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

    fn cluster(&self) -> Option<Arc<str>> {
        if let Some(known) = self.cluster.get() {
            return Some(Arc::clone(known));
        }
        let said = self.consumer.client().fetch_cluster_id(CLUSTER_TIMEOUT)?;
        Some(Arc::clone(self.cluster.get_or_init(|| said.into())))
    }

    async fn fingerprints(
        &self,
        places: &[(i32, i64)],
    ) -> Result<Vec<(i32, Option<i64>)>, KafkaError> {
        let (mut held, mut found) = (Vec::new(), Vec::new());
        for (partition, offset) in places {
            let Watermarks { low, high, .. } = self.watermarks(*partition).await?;
            if (low..high).contains(offset) {
                held.push((*partition, *offset));
            } else {
                found.push((*partition, None));
            }
        }
        if !held.is_empty() {
            let deadline = Instant::now() + WATERMARKS_TIMEOUT;
            found.extend(self.inspector.look(&self.list_at(&held), deadline)?);
        }
        Ok(found)
    }

    async fn go_to(&self, places: &[(i32, i64)]) -> Result<(), KafkaError> {
        // A seek would do nothing in a partition whose fetching has ended, as by an offset that the broker does not hold.
        let partitions = self.list(places.iter().map(|(partition, _)| *partition));
        self.consumer.incremental_unassign(&partitions)?;
        self.consumer.incremental_assign(&self.list_at(places))?;
        self.consumer.pause(&partitions)
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.pause(&self.list(partitions.iter().copied()))
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.resume(&self.list(partitions.iter().copied()))
    }

    fn hint(&self, positions: &[(i32, i64)]) -> Result<(), KafkaError> {
        // The list's own offset is the next one to read; it adds nothing.
        self.consumer.store_offsets(&self.list_at(positions))
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
