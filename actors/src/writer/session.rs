//! A session with PostgreSQL: connected, on the right schema, with its partitions.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::IntGauge;
use sitewatch_config::{PostgresSettings, PostgresUrl, SslMode};
use slog::{Logger, info, warn};
use tokio_postgres::{Client, Config, NoTls, config::SslMode as WireMode};

use super::{
    error::{SessionError, plain},
    origins::Origins,
    partitions::Partitions,
    schema, secure,
};
use crate::model::Slot;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that has vanished without a word is noticed within about this time.
const SILENCE: Duration = Duration::from_secs(30);

/// Where rows wait on the slower way that absorbs duplicates. Its rows go with each transaction.
const STAGE: &str = "
    CREATE TEMPORARY TABLE staged_check (
        slot timestamptz, site_id int4, location_id int4, total_us int4, lateness_ms int4, status int2, outcome int2,
        error int2, detail text, facts jsonb, capture jsonb
    ) ON COMMIT DELETE ROWS";

/// A session. Dropped, it closes.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) partitions: Partitions,
    pub(super) origins: Origins,
}

impl Session {
    /// Connects, brings the schema up to date and makes partitions ahead.
    pub(super) async fn open(
        settings: &PostgresSettings,
        schema: &str,
        up: &IntGauge,
        log: &Logger,
    ) -> Result<Self, SessionError> {
        let url = settings.url.as_ref().ok_or(SessionError::NoUrl)?;
        let mut client = connect(url, up, log).await?;
        schema::apply(&mut client, schema, log).await?;
        client.batch_execute(STAGE).await?;
        let mut partitions = Partitions::new(settings.partition_days);
        partitions
            .make_ahead(&mut client, log, Slot::from_system_time(SystemTime::now()))
            .await?;
        up.set(1);
        info!(log, "connected to PostgreSQL"; "url" => %url);
        Ok(Self {
            client,
            partitions,
            origins: Origins::default(),
        })
    }
}

/// Connects and brings the schema up to date, once: the command `migrate`.
///
/// # Errors
/// If PostgreSQL does not answer, refuses, or has a newer schema.
pub async fn migrate(
    settings: &PostgresSettings,
    schema: &str,
    log: &Logger,
) -> Result<(), SessionError> {
    let up = IntGauge::new("unused", "not registered")
        .unwrap_or_else(|_| unreachable!("the name is valid"));
    Session::open(settings, schema, &up, log).await.map(drop)
}

pub(super) async fn connect(
    url: &PostgresUrl,
    up: &IntGauge,
    log: &Logger,
) -> Result<Client, SessionError> {
    let mut config: Config = url.connection_url().parse()?;
    config
        .ssl_mode(match url.ssl_mode() {
            SslMode::Disable => WireMode::Disable,
            SslMode::Prefer => WireMode::Prefer,
            _ => WireMode::Require,
        })
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(SILENCE)
        .tcp_user_timeout(SILENCE);
    if config.get_application_name().is_none() {
        config.application_name("sitewatch-node");
    }
    let lost = Lost {
        up: up.clone(),
        log: log.clone(),
    };
    let client = if url.ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await?;
        actix_rt::spawn(async move { lost.tell(connection.await) });
        client
    } else {
        let (client, connection) = config.connect(secure::connector(url)?).await?;
        actix_rt::spawn(async move { lost.tell(connection.await) });
        client
    };
    client
        .batch_execute("SET TIME ZONE 'UTC'; SET client_min_messages = warning")
        .await?;
    Ok(client)
}

/// Tells of a connection's end.
struct Lost {
    up: IntGauge,
    log: Logger,
}

impl Lost {
    fn tell(&self, end: Result<(), tokio_postgres::Error>) {
        self.up.set(0);
        if let Err(error) = end {
            warn!(self.log, "the connection to PostgreSQL is lost"; "reason" => plain(&error));
        }
    }
}

/// The text of `schema.sql`, shared.
pub type SchemaText = Arc<str>;
