//! The embedded parts of the role `standalone`: a broker and a private PostgreSQL. For evaluation and small users.

mod command;
mod folder;
mod keeper;
mod place;
mod postgres;
mod programs;
mod running;
mod server_log;
mod socket;
mod users;
mod watch;

use std::sync::Arc;

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use sitewatch_actors::{
    database::{AskError, ask},
    metrics::Metrics,
};
use sitewatch_config::{Migrate, PostgresSettings, Settings};
use slog::{Logger, info, warn};

pub(crate) use self::{
    command::with_database,
    running::ask_servers_to_end,
    watch::{ResultsView, give_terminal_back},
};
use self::{
    folder::{DataDir, STANDALONE, Taken},
    keeper::Kept,
    place::Place,
    postgres::Server,
};
use crate::{
    audit::failure,
    ending::{Interruption, Stopped},
    exit::Failure,
    settings::Overlay,
};

/// The embedded parts that the settings do not replace.
pub(crate) struct Embedded {
    broker: Option<MockCluster<'static, DefaultProducerContext>>,
    postgres: Option<Kept>,
    /// Held until both have ended.
    _folder: DataDir,
}

impl Embedded {
    /// Takes the folder, then starts a broker unless the settings name one, and a PostgreSQL unless they do. `None` if a signal
    /// has come before they were there.
    ///
    /// # Errors
    /// If another process has the folder, or a part can't be started: what is missing and what would help.
    pub(crate) async fn start(
        settings: &Settings,
        metrics: &Metrics,
        interruption: &Interruption,
        log: &Logger,
    ) -> Result<Option<Self>, Failure> {
        let data_dir = &settings.node.data_dir;
        let taken = tokio::select! {
            taken = DataDir::take(data_dir, STANDALONE) => taken?,
            _ = interruption.comes() => return Ok(None),
        };
        let folder = match taken {
            Taken::Ours(folder) => folder,
            Taken::Standalone(holder) => return Err(holder.in_use(data_dir)),
        };
        let broker = if settings.kafka.brokers.is_some() {
            None
        } else {
            Some(start_broker(&settings.kafka.topic)?)
        };
        let postgres = if settings.postgres.url.is_some() {
            None
        } else {
            let place = Place::find_or_make(&folder.path, log)?;
            // Data may have to be fetched, made or recovered first, which takes a while.
            let mut stopped: Stopped = Box::pin(async { _ = interruption.comes().await });
            let brought_up = Server::bring_up(place, &mut stopped, log).await?;
            let Some((server, running)) = brought_up else {
                return Ok(None);
            };
            let restart = &settings.node.restart;
            Some(Kept::keep(server, running, restart, metrics.clone(), log))
        };
        let embedded = Self {
            broker,
            postgres,
            _folder: folder,
        };
        let introduced = tokio::select! {
            introduced = embedded.introduce(settings, log) => introduced.map(Some),
            _ = interruption.comes() => Ok(None),
        };
        if let Ok(Some(())) = introduced {
            return Ok(Some(embedded));
        }
        embedded.stop(log).await;
        introduced.map(|_| None)
    }

    async fn introduce(&self, settings: &Settings, log: &Logger) -> Result<(), Failure> {
        if self.broker.is_some() {
            let mut postgres = settings.postgres.clone();
            postgres.url = postgres.url.or_else(|| self.url());
            forget_offsets(&postgres, &settings.kafka.topic).await?;
        }
        let parts = [
            self.broker.is_some().then_some("a broker in memory"),
            self.postgres.is_some().then_some("a private PostgreSQL"),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            warn!(log, "embedded, for evaluation only: {}", parts.join(" and ");
                "data_dir" => %settings.node.data_dir.display(), "replace_by" => "KAFKA_SERVER, POSTGRES_URL");
        }
        if let Some(url) = self.url() {
            info!(log, "the private PostgreSQL can be asked by psql as this user"; "command" => format!("psql '{}'", url.connection_url()));
        }
        Ok(())
    }

    fn url(&self) -> Option<sitewatch_config::PostgresUrl> {
        self.postgres.as_ref().map(|postgres| postgres.url.clone())
    }

    /// Lays the addresses of the embedded parts over settings.
    pub(crate) fn overlay(&self) -> Overlay {
        let brokers = self.broker.as_ref().map(MockCluster::bootstrap_servers);
        let url = self.url();
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

    /// Waits until a part has failed for good; gives why.
    pub(crate) async fn failed(&mut self) -> Failure {
        match &mut self.postgres {
            Some(postgres) => postgres.failed().await,
            None => std::future::pending().await,
        }
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

/// The embedded broker begins at offset 0 each time: what the database remembers of an earlier one says nothing of it.
///
/// # Errors
/// If PostgreSQL does not answer.
async fn forget_offsets(settings: &PostgresSettings, topic: &str) -> Result<(), Failure> {
    let client = match ask(settings, &["kafka_offset"]).await {
        // A new database remembers nothing.
        Err(AskError::NoTable(_)) => return Ok(()),
        asked => asked.map_err(|error| failure(&error))?,
    };
    let forget = "DELETE FROM kafka_offset WHERE topic = $1";
    let forgotten = client.execute(forget, &[&topic]).await;
    forgotten.map(drop).map_err(|error| failure(&error.into()))
}
