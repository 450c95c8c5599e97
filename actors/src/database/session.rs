//! A session with PostgreSQL: connected, with its timeouts, on the right schema.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use prometheus::IntGauge;
use sitewatch_config::{PostgresSettings, PostgresUrl, SslMode};
use slog::{Logger, info, warn};
use tokio_postgres::{
    Client, Config, NoTls, Socket,
    config::{SslMode as WireMode, TargetSessionAttrs},
    tls::MakeTlsConnect,
};

use super::{
    error::{SessionError, plain},
    schema, secure,
};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that has vanished without a word is noticed within about this time.
const SILENCE: Duration = Duration::from_secs(30);

/// Connects and brings the schema up to date. Gives the name of the server, too.
///
/// # Errors
/// If PostgreSQL does not answer, refuses, or has a schema that this program can't use.
pub(crate) async fn open(
    settings: &PostgresSettings,
    schema: &str,
    up: &IntGauge,
    log: &Logger,
) -> Result<(Client, String), SessionError> {
    let url = settings.url.as_ref().ok_or(SessionError::NoUrl)?;
    let (mut client, server) = connect(url, up, log).await?;
    client.batch_execute(&session_settings(settings)).await?;
    schema::apply(&mut client, schema, log).await?;
    end_abandoned(&client, settings.statement_timeout, log).await?;
    up.set(1);
    Ok((client, server))
}

/// Says that there is a session, with which of several servers, and what should be looked at.
pub(crate) fn tell_connected(settings: &PostgresSettings, server: &str, log: &Logger) {
    let Some(url) = &settings.url else { return };
    info!(log, "connected to PostgreSQL"; "url" => %url);
    if url.servers().len() > 1 {
        info!(log, "PostgreSQL server in use"; "server" => server);
    }
    if let Some((file, mode)) = secure::exposed_key(url) {
        warn!(log, "others can read the private key of the database's client certificate"; "right" => "chmod 600",
            "mode" => format!("{mode:o}"), "file" => %file.display());
    }
}

/// A gauge that nobody reads: whether PostgreSQL can be used is the writers' to tell.
pub(crate) fn untold() -> IntGauge {
    IntGauge::new("unused", "not registered").unwrap_or_else(|_| unreachable!("the name is valid"))
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
    let up = untold();
    let (_, server) = open(settings, schema, &up, log).await?;
    tell_connected(settings, &server, log);
    Ok(())
}

/// Connects to the first server that takes writes, each in its turn, and gives its name.
pub(super) async fn connect(
    url: &PostgresUrl,
    up: &IntGauge,
    log: &Logger,
) -> Result<(Client, String), SessionError> {
    let lost = Lost {
        up: up.clone(),
        log: log.clone(),
    };
    let tls = secure::connector(url)?;
    let mut servers: Vec<_> = url.servers().iter().collect();
    if url.is_shuffled() {
        let order = RandomState::new();
        servers.sort_by_cached_key(|server| order.hash_one(&server.name));
    }
    let mut refusals: Vec<(String, SessionError)> = Vec::new();
    for server in servers {
        let config = configure(&server.url, url.ssl_mode())?;
        let connected = if url.ssl_mode() == SslMode::Disable {
            connect_to(&config, NoTls, lost.clone()).await
        } else {
            connect_to(&config, tls.clone(), lost.clone()).await
        };
        match connected {
            Ok(client) => {
                for (server, reason) in &refusals {
                    info!(log, "PostgreSQL server passed over"; "reason" => %reason, "server" => server);
                }
                return Ok((client, server.name.clone()));
            }
            Err(problem) => refusals.push((server.name.clone(), problem)),
        }
    }
    Err(SessionError::NoServer(refusals))
}

/// The driver's settings for one server: ours where the URL is silent.
fn configure(url: &str, mode: SslMode) -> Result<Config, SessionError> {
    let mut config: Config = url.parse()?;
    config
        .ssl_mode(match mode {
            SslMode::Disable => WireMode::Disable,
            SslMode::Prefer => WireMode::Prefer,
            _ => WireMode::Require,
        })
        // Who writes has no use for a standby, whatever the URL allows.
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(SILENCE);
    }
    if config.get_application_name().is_none() {
        config.application_name("sitewatch-node");
    }
    Ok(config)
}

/// The driver bounds only the time until the connection is there: a server that hangs takes connections and then says
/// nothing. So the whole is bounded here, to twice that.
async fn connect_to<T>(config: &Config, tls: T, lost: Lost) -> Result<Client, SessionError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: 'static,
{
    let limit = 2 * config
        .get_connect_timeout()
        .copied()
        .unwrap_or(CONNECT_TIMEOUT);
    let (client, connection) = tokio::time::timeout(limit, config.connect(tls))
        .await
        .map_err(|_| SessionError::Silent(limit))??;
    actix_rt::spawn(async move { lost.tell(connection.await) });
    Ok(client)
}

/// What holds for all that this session does. The server itself watches over the time that its locks are held: the client
/// that should do so may be what hangs. It also notices by itself when the client's machine has vanished.
fn session_settings(settings: &PostgresSettings) -> String {
    let millis = |duration: Duration| duration.as_millis().clamp(1, i32::MAX as u128);
    let silence = SILENCE.as_secs();
    format!(
        "SET TIME ZONE 'UTC'; SET client_min_messages = warning;
         SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {};
         SET tcp_keepalives_idle = {silence}; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
         SET tcp_user_timeout = {}",
        millis(settings.statement_timeout),
        millis(settings.lock_timeout),
        millis(settings.idle_in_transaction_timeout),
        millis(SILENCE),
    )
}

/// Ends sessions of this user and program that have sat in one statement, waiting for their client, for longer than a
/// statement may take: a process that was stopped in the middle of a COPY. No timeout of the server interrupts that (it
/// looks at them only between a client's messages), and the locks of such a session would hold up its successor for ever.
async fn end_abandoned(
    client: &Client,
    after: Duration,
    log: &Logger,
) -> Result<(), tokio_postgres::Error> {
    let ended = client
        .query(
            // Materialized, so that nothing is ended before all conditions have been looked at.
            "WITH abandoned AS MATERIALIZED (
                SELECT pid FROM pg_stat_activity
                 WHERE pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user
                   AND application_name = current_setting('application_name')
                   AND state = 'active' AND wait_event = 'ClientRead'
                   AND clock_timestamp() - state_change > $1 * interval '1 second')
             SELECT pid FROM abandoned WHERE pg_terminate_backend(pid)",
            &[&after.as_secs_f64()],
        )
        .await?;
    for row in ended {
        warn!(log, "ended a session that its process had left in the middle of a COPY"; "pid" => row.get::<_, i32>(0));
    }
    Ok(())
}

/// Tells of a connection's end.
#[derive(Clone)]
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
