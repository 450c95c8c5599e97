//! Asks the brokers about the topic: its replicas and its settings.

use std::{
    io,
    pin::pin,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier},
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use sitewatch_config::KafkaSettings;
use slog::{Logger, debug};
use thiserror::Error;

use super::{
    super::{admin, client_problem},
    finding::{Configs, Seen, Unread},
};
use crate::model::printable;

/// The time in which the brokers must answer one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The interval at which a look checks whether it was cancelled.
const SLICE: Duration = Duration::from_millis(250);

/// The reason why a look found nothing.
#[derive(Debug, Error)]
pub(super) enum LookError {
    #[error("{}", client_problem(.0))]
    Client(KafkaError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    Refused(RDKafkaErrorCode),
    #[error("there is no such topic")]
    NoTopic,
    #[error("the broker's answer to DescribeConfigs is empty")]
    Empty,
    #[error("no runtime for the question: {0}")]
    Runtime(#[from] io::Error),
    #[error("the node is stopping")]
    Cancelled,
}

/// Asks the brokers, with a client that lives for this look only. Stops early once `is_over` returns true.
///
/// # Errors
/// If there is no such topic, if the brokers do not answer, or if the look is cancelled.
pub(super) fn look(
    settings: &KafkaSettings,
    client_id: &str,
    is_over: &dyn Fn() -> bool,
    log: &Logger,
) -> Result<Seen, LookError> {
    let admin: AdminClient<Quiet> = admin(settings, client_id)
        .create_with_context(Quiet(log.clone()))
        .map_err(LookError::Client)?;
    let topic = &settings.topic;
    // Settings first: this question does not make a topic that is not there.
    let configs = configs(&admin, topic, is_over)?;
    let metadata = metadata(&admin, topic, is_over)?;
    let mut topics = metadata.topics().iter();
    let found = topics.find(|it| it.name() == topic && it.error().is_none());
    let partitions = found.ok_or(LookError::NoTopic)?.partitions().iter();
    let replicas = partitions.map(|partition| partition.replicas().len()).min();
    Ok(Seen {
        brokers: metadata.brokers().len(),
        replicas: replicas.ok_or(LookError::NoTopic)?,
        configs,
    })
}

fn metadata(
    admin: &AdminClient<Quiet>,
    topic: &str,
    is_over: &dyn Fn() -> bool,
) -> Result<Metadata, LookError> {
    let begun = Instant::now();
    loop {
        match admin.inner().fetch_metadata(Some(topic), SLICE) {
            Ok(metadata) => return Ok(metadata),
            Err(_) if is_over() => return Err(LookError::Cancelled),
            Err(problem) if begun.elapsed() > TIMEOUT => return Err(problem.into()),
            Err(_) => {}
        }
    }
}

fn configs(
    admin: &AdminClient<Quiet>,
    topic: &str,
    is_over: &dyn Fn() -> bool,
) -> Result<Result<Configs, Unread>, LookError> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut answer = runtime.block_on(async {
        let mut answer = pin!(admin.describe_configs(&asked, &options));
        loop {
            match tokio::time::timeout(SLICE, answer.as_mut()).await {
                Ok(answer) => return Ok(answer?),
                Err(_) if is_over() => return Err(LookError::Cancelled),
                Err(_) => {}
            }
        }
    })?;
    match answer.pop().ok_or(LookError::Empty)? {
        Ok(resource) => Ok(read(&resource).ok_or(Unread::NotReported)),
        Err(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ) => Ok(Err(Unread::Refused)),
        Err(RDKafkaErrorCode::UnknownTopicOrPartition) => Err(LookError::NoTopic),
        Err(code) => Err(LookError::Refused(code)),
    }
}

/// Returns `None` if the broker does not report the settings.
fn read(resource: &ConfigResource) -> Option<Configs> {
    let value = |name: &str| resource.get(name)?.value.as_deref();
    Some(Configs {
        min_insync: value("min.insync.replicas")?.parse().ok()?,
        unclean_election: value("unclean.leader.election.enable")? == "true",
    })
}

/// Logs at debug level only: the client that delivers results uses the same brokers and logs whether they answer.
struct Quiet(Logger);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(self.0, "librdkafka"; "facility" => facility, "line" => printable(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(self.0, "Kafka client error"; "error" => %error, "reason" => printable(reason));
    }
}
