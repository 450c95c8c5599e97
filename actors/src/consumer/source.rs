//! What the reader asks of Kafka: the seam between its decisions and the client.
//!
//! Kafka's own client is behind it in production; the simulation (actors/tests/simulation) puts a broker there that moves
//! partitions, delays and fails at will. Messages and errors are the client's own types.

use std::{sync::Arc, time::Duration};

use rdkafka::{Message, error::KafkaError};

use crate::model::Watermarks;

/// A change of the partitions that this consumer owns.
#[derive(Debug)]
pub enum Change {
    /// These came; nothing is read from them before they are resumed.
    Assigned(Vec<i32>),
    /// These went.
    Revoked(Vec<i32>),
}

/// A member of a consumer group that reads one topic. Its methods take `&self`, since a message borrows it while the reader
/// goes on to ask other things of it.
#[allow(
    async_fn_in_trait,
    reason = "a reader and all that it awaits live on one thread"
)]
pub trait Source: 'static {
    /// A message that was read.
    type Message<'a>: Message
    where
        Self: 'a;

    /// The next message or problem, if there is one within `wait`.
    async fn poll(&self, wait: Duration) -> Option<Result<Self::Message<'_>, KafkaError>>;

    /// The changes since the last call, oldest first.
    fn take_changes(&self) -> Vec<Change>;

    /// What the broker holds of a partition.
    ///
    /// # Errors
    /// What the client says.
    async fn watermarks(&self, partition: i32) -> Result<Watermarks, KafkaError>;

    /// The id of the cluster, once a broker has said it.
    fn cluster(&self) -> Option<Arc<str>>;

    /// Returns the [fingerprint](crate::model::fingerprint) of the message at each of these places, partition and offset; `None` where the
    /// broker holds none.
    ///
    /// # Errors
    /// What the client says; it may work later.
    async fn fingerprints(
        &self,
        places: &[(i32, i64)],
    ) -> Result<Vec<(i32, Option<i64>)>, KafkaError>;

    /// Reads these partitions on, each from an offset, whatever it has done with them before, once they are resumed. A message that was
    /// read ahead before does not come any more.
    ///
    /// # Errors
    /// What the client says; it may work later.
    async fn go_to(&self, places: &[(i32, i64)]) -> Result<(), KafkaError>;

    /// Reads no more from these partitions.
    ///
    /// # Errors
    /// What the client says.
    fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError>;

    /// Reads from these partitions again.
    ///
    /// # Errors
    /// What the client says.
    fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError>;

    /// Tells Kafka how far the database is. Only a hint, for people and for lag monitors.
    ///
    /// # Errors
    /// What the client says.
    fn hint(&self, positions: &[(i32, i64)]) -> Result<(), KafkaError>;

    /// Sends the hints now.
    ///
    /// # Errors
    /// What the client says.
    async fn commit(&self) -> Result<(), KafkaError>;

    /// Notes that Kafka answers.
    fn seen_up(&self);

    /// Notes a problem, in one log line for each outage.
    fn complaint(&self, problem: &KafkaError);
}
