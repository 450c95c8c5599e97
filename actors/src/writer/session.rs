//! The writer's session with PostgreSQL.

use prometheus::IntGauge;
use sitewatch_config::PostgresSettings;
use slog::Logger;
use tokio_postgres::Client;

use super::{judging::Judges, origins::Origins, stage::STAGE};
use crate::database::{CHECKS, DatabaseClock, Partitions, SessionError, open, tell_connected};

/// A session. Dropped, it closes.
pub struct Session {
    pub(super) client: Client,
    pub(super) partitions: Partitions,
    pub(super) origins: Origins,
    pub(super) judges: Judges,
    pub(super) clock: DatabaseClock,
}

impl Session {
    /// Connects, brings the schema up to date.
    pub(super) async fn open(
        settings: &PostgresSettings,
        schema: &str,
        clock: DatabaseClock,
        up: &IntGauge,
        log: &Logger,
    ) -> Result<Self, SessionError> {
        let (client, server) = open(settings, schema, up, log).await?;
        tell_connected(settings, &server, log);
        client.batch_execute(STAGE).await?;
        clock.ask(&client).await?;
        Ok(Self {
            client,
            partitions: Partitions::new(CHECKS, settings.partition_width),
            origins: Origins::default(),
            judges: Judges::default(),
            clock,
        })
    }
}
