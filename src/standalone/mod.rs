//! The embedded parts of the role `standalone`: a broker and a private PostgreSQL. For evaluation and small users.

mod postgres;
mod table;

use std::sync::Arc;

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use sitewatch_config::{Migrate, Settings};
use slog::{Logger, warn};

use self::postgres::PrivatePostgres;
pub(crate) use self::table::watch;
use crate::{exit::Failure, settings::Overlay};

/// The embedded parts that the settings do not replace.
pub(crate) struct Embedded {
    broker: Option<MockCluster<'static, DefaultProducerContext>>,
    postgres: Option<PrivatePostgres>,
}

impl Embedded {
    /// Starts a broker unless the settings name one, and a PostgreSQL unless they do.
    ///
    /// # Errors
    /// If a part can't be started: what is missing and what would help.
    pub(crate) async fn start(settings: &Settings, log: &Logger) -> Result<Self, Failure> {
        let broker = if settings.kafka.brokers.is_some() {
            None
        } else {
            Some(start_broker(&settings.kafka.topic)?)
        };
        let postgres = if settings.postgres.url.is_some() {
            None
        } else {
            Some(PrivatePostgres::start(&settings.node.data_dir, log).await?)
        };
        if broker.is_some() {
            let mut database = settings.postgres.clone();
            if let Some(private) = &postgres {
                database.url = Some(private.url.clone());
            }
            postgres::forget_offsets(&database, &settings.kafka.topic).await?;
        }
        let parts = [
            broker.is_some().then_some("a broker in memory"),
            postgres.is_some().then_some("a private PostgreSQL"),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            warn!(log, "embedded, for evaluation only: {}", parts.join(" and ");
                "data_dir" => %settings.node.data_dir.display(), "replace_by" => "KAFKA_SERVER, POSTGRES_URL");
        }
        Ok(Self { broker, postgres })
    }

    /// Lays the addresses of the embedded parts over settings.
    pub(crate) fn overlay(&self) -> Overlay {
        let brokers = self.broker.as_ref().map(MockCluster::bootstrap_servers);
        let url = self.postgres.as_ref().map(|postgres| postgres.url.clone());
        Arc::new(move |settings| {
            settings.kafka.in_memory = settings.kafka.brokers.is_none();
            settings.kafka.brokers = settings.kafka.brokers.take().or_else(|| brokers.clone());
            if settings.postgres.url.is_none() && url.is_some() {
                settings.postgres.url.clone_from(&url);
                // Nobody else looks after a private one.
                settings.postgres.migrate = Migrate::Auto;
            }
        })
    }

    /// Stops them, the data kept.
    pub(crate) async fn stop(self, log: &Logger) {
        if let Some(postgres) = self.postgres {
            postgres.stop(log).await;
        }
    }
}

fn start_broker(topic: &str) -> Result<MockCluster<'static, DefaultProducerContext>, Failure> {
    let failed = |error| Failure::software(format!("the embedded broker does not start: {error}"));
    let broker = MockCluster::new(1).map_err(failed)?;
    broker.create_topic(topic, 3, 1).map_err(failed)?;
    Ok(broker)
}
