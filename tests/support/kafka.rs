//! The topic of a world, and the broker's users.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    metadata::MetadataPartition,
    producer::{BaseRecord, Producer, ThreadedProducer},
};

use super::{PATIENCE, World, required};

/// The time that the broker may take for an answer on a loaded machine.
const KAFKA_ANSWERS: Duration = Duration::from_secs(20);

/// Gives a user of the broker this password, and no other.
pub fn scram_password(mechanism: &str, user: &str, password: &str) {
    services(&["password", mechanism, user, password]);
}

/// Adds a rule of who may do what, in the words of kafka-acls.
pub fn allow(user: &str, rule: &str) {
    let rule: Vec<_> = rule.split(' ').collect();
    let who = format!("User:{user}");
    services(&[&["acl", "--add", "--allow-principal", &who], &rule[..]].concat());
}

fn services(arguments: &[&str]) {
    let status = Command::new(required("SITEWATCH_TEST_SERVICES"))
        .args(arguments)
        .status();
    assert!(status.unwrap().success());
}

impl World {
    pub async fn create_topic(&self, partitions: i32) {
        self.create_topic_with(partitions, &[]).await;
    }

    /// The same with properties of its own.
    pub async fn create_topic_with(&self, partitions: i32, properties: &[(&str, &str)]) {
        let mut topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in properties {
            topic = topic.set(name, value);
        }
        self.admin()
            .create_topics([&topic], &AdminOptions::new())
            .await
            .unwrap();
    }

    /// The same; an error while the broker still has one of that name.
    pub async fn try_create_topic(&self, partitions: i32) -> Result<(), RDKafkaErrorCode> {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        let made = self
            .admin()
            .create_topics([&topic], &AdminOptions::new())
            .await
            .unwrap();
        made.into_iter()
            .next()
            .unwrap()
            .map(drop)
            .map_err(|(_, code)| code)
    }

    /// Gives the topic more partitions, `partitions` in all: many keys have another one from then on.
    pub async fn grow_topic(&self, partitions: usize) {
        let more = NewPartitions::new(&self.topic, partitions);
        self.admin()
            .create_partitions([&more], &AdminOptions::new())
            .await
            .unwrap();
    }

    /// Gives the topic these properties instead of those that it has.
    pub async fn alter_topic(&self, properties: &[(&str, &str)]) {
        let resource = ResourceSpecifier::Topic(&self.topic);
        let mut config = AlterConfig::new(resource);
        for (name, value) in properties {
            config = config.set(name, value);
        }
        let altered = self
            .admin()
            .alter_configs([&config], &AdminOptions::new())
            .await;
        altered.unwrap().remove(0).unwrap();
    }

    pub async fn delete_topic(&self) {
        self.admin()
            .delete_topics(&[&self.topic], &AdminOptions::new())
            .await
            .unwrap();
    }

    /// Deletes the topic and makes it again. The broker makes a topic by itself for whoever asks for it just then: that one goes, too.
    pub async fn make_topic_again(&self, partitions: i32) {
        let made = async || {
            self.delete_topic().await;
            self.try_create_topic(partitions).await.is_ok()
        };
        self.wait_until("the old topic to go", made).await;
    }

    /// Lets Kafka forget the messages before `offset` of the first partition, as retention does.
    pub async fn expire_before(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(offset))
            .unwrap();
        self.admin()
            .delete_records(&list, &AdminOptions::new())
            .await
            .unwrap();
    }

    /// Puts messages into the topic, all acknowledged.
    pub fn produce(&self, payloads: impl IntoIterator<Item = Vec<u8>>) {
        let numbered = payloads.into_iter().enumerate();
        self.produce_keyed(numbered.map(|(n, payload)| (n.to_string(), payload)));
    }

    /// Puts messages with their keys into the topic, all acknowledged.
    pub fn produce_keyed(&self, messages: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let mut config = self.client();
        let producer: ThreadedProducer<_> = config
            .set("linger.ms", "20")
            .set("compression.type", "zstd")
            .create()
            .unwrap();
        for (key, payload) in messages {
            let mut record = BaseRecord::to(&self.topic).key(&key).payload(&payload);
            while let Err((problem, back)) = producer.send(record) {
                let full = RDKafkaErrorCode::QueueFull;
                assert_eq!(problem.rdkafka_error_code(), Some(full), "{problem}");
                std::thread::sleep(Duration::from_millis(10));
                record = back;
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// Counts the messages that have ever been in the topic.
    pub fn topic_ends(&self) -> i64 {
        self.ends_of(&self.topic)
    }

    fn ends_of(&self, topic: &str) -> i64 {
        let mut config = self.client();
        let consumer: BaseConsumer = config
            .set("allow.auto.create.topics", "false")
            .create()
            .unwrap();
        let ends = Self::partitions(&consumer, topic)
            .into_iter()
            .map(|partition| {
                let ends = consumer.fetch_watermarks(topic, partition, KAFKA_ANSWERS);
                ends.unwrap().1
            });
        ends.sum()
    }

    /// Waits until the offsets in the database have come to where the topic ends now.
    pub async fn wait_until_stored(&self) {
        self.wait_until_stored_from(&self.topic).await;
    }

    /// The same of another topic of this world's own.
    pub async fn wait_until_stored_from(&self, topic: &str) {
        let next = format!(
            "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset WHERE topic = '{topic}'"
        );
        self.wait_for("the offset stored", &next, self.ends_of(topic))
            .await;
    }

    /// Waits until the consumers' group has committed at least `wanted` offsets to Kafka, summed over its partitions.
    pub async fn wait_for_group_offsets(&self, wanted: i64) {
        let mut config = self.client();
        let consumer: BaseConsumer = config.set("group.id", &self.topic).create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in Self::partitions(&consumer, &self.topic) {
            list.add_partition(&self.topic, partition);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let committed = consumer.committed_offsets(list.clone(), KAFKA_ANSWERS);
            let elements = committed.unwrap();
            let elements = elements.elements();
            let offsets = elements.iter().filter_map(|it| it.offset().to_raw());
            let sum: i64 = offsets.filter(|offset| *offset > 0).sum();
            if sum >= wanted {
                return;
            }
            assert!(Instant::now() < deadline, "committed {sum} of {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Numbers of the partitions of `topic`, in order; none if there is no such topic.
    fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
        let metadata = consumer.fetch_metadata(Some(topic), KAFKA_ANSWERS);
        let metadata = metadata.unwrap();
        let partitions = metadata.topics()[0].partitions().iter();
        partitions.map(MetadataPartition::id).collect()
    }
}
