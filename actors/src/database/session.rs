//! Opens a session with PostgreSQL, for all of this program. Each session is on a server that can be used, through a connection of its
//! own, with the parameters that the program relies on.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus::IntGauge;
use sitewatch_config::{Migrate, PostgresServer, PostgresSettings, SslMode};
use slog::{Discard, Logger, debug, info, o, warn};
use tokio_postgres::{
    Client, Config, NoTls, Socket,
    config::{SslMode as WireMode, TargetSessionAttrs},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    error::{SessionError, plain},
    parameters::{self, Purpose, SILENCE},
    pooler, schema, secure, server,
};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects, and brings the schema up to date unless `postgres.migrate` is `never`. Gives the name of the server, too.
///
/// # Errors
/// If PostgreSQL does not answer, refuses, or has a schema that this program can't use.
pub(crate) async fn open(
    settings: &PostgresSettings,
    schema: &str,
    up: &IntGauge,
    log: &Logger,
) -> Result<(Client, String), SessionError> {
    let (mut client, server) = connect(settings, Purpose::Work, up, log).await?;
    schema::apply(&mut client, schema, settings.migrate, log).await?;
    end_abandoned(&client, settings.statement_timeout, log).await?;
    up.set(1);
    Ok((client, server))
}

/// Logs that there is a session, the server it is on, and a private key that others can read.
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

/// Makes a gauge that is not registered: only the sessions of writers decide about `postgres_up`.
pub(crate) fn untold() -> IntGauge {
    IntGauge::new("unused", "not registered").unwrap_or_else(|_| unreachable!("the name is valid"))
}

/// Connects and brings the schema up to date, once, whatever `postgres.migrate` says: the command `migrate`.
///
/// # Errors
/// If PostgreSQL does not answer, refuses, or has a newer schema.
pub async fn migrate(
    settings: &PostgresSettings,
    schema: &str,
    log: &Logger,
) -> Result<(), SessionError> {
    let settings = PostgresSettings {
        migrate: Migrate::Auto,
        ..settings.clone()
    };
    let (_, server) = open(&settings, schema, &untold(), log).await?;
    tell_connected(&settings, &server, log);
    Ok(())
}

/// Reads what a session needs from disk, without a connection: what can't be used is known before anything is changed.
///
/// # Errors
/// If a certificate or a key can't be used, or the URL is none that the driver takes.
pub fn try_out(settings: &PostgresSettings) -> Result<(), SessionError> {
    let Some(url) = &settings.url else {
        return Ok(());
    };
    secure::connector(url)?;
    for server in url.servers() {
        configure(&server.url, url.ssl_mode())?;
    }
    Ok(())
}

/// Connects to the first server that takes writes, each in its turn, and gives its name.
pub(super) async fn connect(
    settings: &PostgresSettings,
    purpose: Purpose,
    up: &IntGauge,
    log: &Logger,
) -> Result<(Client, String), SessionError> {
    let url = settings.url.as_ref().ok_or(SessionError::NoUrl)?;
    let door = Door {
        settings,
        purpose,
        mode: url.ssl_mode(),
        tls: secure::connector(url)?,
        log,
    };
    let mut servers: Vec<_> = url.servers().iter().collect();
    if url.is_shuffled() {
        let order = RandomState::new();
        servers.sort_by_cached_key(|server| order.hash_one(&server.name));
    }
    let mut refusals: Vec<(String, SessionError)> = Vec::new();
    for server in servers {
        // The end of a connection that is not used does not mean that PostgreSQL is down.
        let in_use = Arc::new(AtomicBool::new(false));
        let lost = Lost {
            in_use: Arc::clone(&in_use),
            up: up.clone(),
            log: log.clone(),
        };
        match door.enter(server, lost).await {
            Ok(client) => {
                in_use.store(true, Ordering::Relaxed);
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

/// The parts of a session that are the same for each server.
struct Door<'a> {
    settings: &'a PostgresSettings,
    purpose: Purpose,
    mode: SslMode,
    tls: MakeRustlsConnect,
    log: &'a Logger,
}

impl Door<'_> {
    /// A session with this server that can be relied on.
    async fn enter(&self, server: &PostgresServer, lost: Lost) -> Result<Client, SessionError> {
        let config = configure(&server.url, self.mode)?;
        let limit = limit(&config);
        let client = self.connect_to(&config, lost).await?;
        tokio::time::timeout(limit, server::refuse_unfit(&client))
            .await
            .map_err(|_| SessionError::Silent(limit))??;
        // Before the parameters: they must not be set in a session that other clients get next.
        self.refuse_shared(&config, &client).await?;
        let prepared = async {
            let path = parameters::leave_path(&client).await?;
            server::refuse_read_only(&client).await?;
            parameters::set(&client, self.purpose, self.settings).await?;
            parameters::settle(&client, path).await
        };
        tokio::time::timeout(limit, prepared)
            .await
            .map_err(|_| SessionError::Silent(limit))??;
        Ok(client)
    }

    async fn refuse_shared(&self, config: &Config, client: &Client) -> Result<(), SessionError> {
        let unheard = Lost {
            in_use: Arc::default(),
            up: untold(),
            log: Logger::root(Discard, o!()),
        };
        match self.connect_to(config, unheard).await {
            Ok(other) => {
                let limit = limit(config);
                tokio::time::timeout(limit, pooler::refuse_shared(client, &other))
                    .await
                    .map_err(|_| SessionError::Silent(limit))?
            }
            // The user may be at its limit of connections. The session is used without this check.
            Err(problem) => {
                debug!(self.log, "no second connection to PostgreSQL, using the first one without looking for a pooler"; "reason" => %problem);
                Ok(())
            }
        }
    }

    async fn connect_to(&self, config: &Config, lost: Lost) -> Result<Client, SessionError> {
        if self.mode == SslMode::Disable {
            connect_to(config, NoTls, lost).await
        } else {
            connect_to(config, self.tls.clone(), lost).await
        }
    }
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
        // This program refuses a standby itself. The driver would also refuse a role that is read-only by default.
        .target_session_attrs(TargetSessionAttrs::Any);
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

/// Returns the limit for a whole step. The driver limits only the time until TCP is connected, but a server that hangs accepts
/// connections and sends nothing: so twice that time.
fn limit(config: &Config) -> Duration {
    2 * config
        .get_connect_timeout()
        .copied()
        .unwrap_or(CONNECT_TIMEOUT)
}

async fn connect_to<T>(config: &Config, tls: T, lost: Lost) -> Result<Client, SessionError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: 'static,
{
    let limit = limit(config);
    let (client, connection) = tokio::time::timeout(limit, config.connect(tls))
        .await
        .map_err(|_| SessionError::Silent(limit))??;
    actix_rt::spawn(async move { lost.tell(connection.await) });
    Ok(client)
}

/// Ends sessions of this user and program whose client was stopped in the middle of a COPY: they have waited for it for longer
/// than a statement may take. No timeout of the server ends them, since it checks timeouts only between a client's messages, and
/// their locks would block the next consumer for ever.
async fn end_abandoned(
    client: &Client,
    after: Duration,
    log: &Logger,
) -> Result<(), tokio_postgres::Error> {
    let ended = client
        .query(
            // MATERIALIZED: all conditions are checked before the first session is ended.
            "WITH abandoned AS MATERIALIZED (
                SELECT pid FROM pg_stat_activity
                 WHERE pid <> pg_backend_pid() AND datname = current_database() AND usename = session_user
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

/// Logs the end of a connection.
struct Lost {
    /// True once the connection is the one in use; the end of another one is not logged.
    in_use: Arc<AtomicBool>,
    up: IntGauge,
    log: Logger,
}

impl Lost {
    fn tell(&self, end: Result<(), tokio_postgres::Error>) {
        if !self.in_use.load(Ordering::Relaxed) {
            return;
        }
        self.up.set(0);
        if let Err(error) = end {
            warn!(self.log, "the connection to PostgreSQL is lost"; "reason" => plain(&error));
        }
    }
}

/// The text of `schema.sql`, shared.
pub type SchemaText = Arc<str>;
