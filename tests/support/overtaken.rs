//! Which results overtook which on their way into a topic of three partitions.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::support::{World, required};

/// How many results of before `back_at` stand in the topic behind one of after it, in the same partition.
pub(crate) fn overtaken(world: &World, back_at: &str) -> usize {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", required("KAFKA_SERVER"))
        .set("group.id", format!("{}-look", world.topic))
        // A commit would end a poll without a message.
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let (mut positions, mut left) = (TopicPartitionList::new(), 0);
    for partition in 0..3 {
        let place = (&*world.topic, partition);
        let (low, high) = consumer
            .fetch_watermarks(place.0, place.1, Duration::from_secs(10))
            .unwrap();
        left += high - low;
        positions
            .add_partition_offset(place.0, place.1, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&positions).unwrap();
    let (mut fresh, mut overtaken) = ([false; 3], 0);
    while left > 0 {
        let message = consumer.poll(Duration::from_secs(60));
        let message = message.expect("messages that are there come").unwrap();
        left -= 1;
        let payload: serde_json::Value =
            serde_json::from_slice(message.payload().unwrap()).unwrap();
        let Some(slot) = payload["slot"].as_str() else {
            continue;
        };
        let fresh = &mut fresh[usize::try_from(message.partition()).unwrap()];
        if slot > back_at {
            *fresh = true;
        } else if *fresh {
            overtaken += 1;
        }
    }
    overtaken
}
