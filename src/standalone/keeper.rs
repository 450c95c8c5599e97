//! Keeps the private PostgreSQL running: one that ends by itself is started again, with the delays and the limit of an actor.

use std::{convert::Infallible, time::Duration};

use actix_rt::task::JoinHandle;
use sitewatch_actors::{metrics::Metrics, supervision::RestartPolicy};
use sitewatch_config::{PostgresUrl, RestartSettings};
use slog::{Logger, error, info, warn};
use tokio::{sync::oneshot, time::Instant};

use super::{postgres::Server, running::Running};
use crate::{ending::Stopped, exit::Failure};

/// The pause between two looks at the length of the server's log.
const LOOK: Duration = Duration::from_secs(60);

/// A PostgreSQL of this process's own, which is kept running.
pub(super) struct Kept {
    /// How to connect to it: the same after each start.
    pub(super) url: PostgresUrl,
    stop: oneshot::Sender<()>,
    life: JoinHandle<Result<(), Failure>>,
}

impl Kept {
    /// Keeps a server running that has been started.
    pub(super) fn keep(
        server: Server,
        running: Running,
        restart: &RestartSettings,
        metrics: Metrics,
        log: &Logger,
    ) -> Self {
        let url = server.url.clone();
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper {
            server,
            restart: restart.clone(),
            metrics,
            log: log.clone(),
        };
        let stopped = Box::pin(async {
            // A sender that is gone means the same.
            let _ = stopped.await;
        });
        let life = actix_rt::spawn(keeper.keep(running, stopped));
        Self { url, stop, life }
    }

    /// Waits until the server has ended for good; gives why.
    pub(super) async fn failed(&mut self) -> Failure {
        match (&mut self.life).await {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) => Failure::software("the private PostgreSQL was stopped"),
            Err(problem) => {
                Failure::software(format!("the keeper of the private PostgreSQL: {problem}"))
            }
        }
    }

    /// Stops the server, the data kept. One that has failed for good is stopped already.
    pub(super) async fn stop(self, log: &Logger) {
        if self.life.is_finished() {
            return;
        }
        // A keeper that has ended meanwhile needs no word.
        let _ = self.stop.send(());
        match self.life.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                warn!(log, "the private PostgreSQL did not stop"; "reason" => %failure)
            }
            Err(problem) => warn!(log, "the private PostgreSQL did not stop"; "reason" => %problem),
        }
    }
}

struct Keeper {
    server: Server,
    restart: RestartSettings,
    metrics: Metrics,
    log: Logger,
}

impl Keeper {
    async fn keep(
        self,
        mut running: Running,
        mut stopped: Stopped<'static>,
    ) -> Result<(), Failure> {
        let mut policy = RestartPolicy::new(&self.restart);
        loop {
            let mut reason = tokio::select! {
                end = running.ended() => format!("it ended by itself ({end})"),
                never = self.look_after_log() => match never {},
                () = &mut stopped => return running.stop().await,
            };
            running = loop {
                let delay = self.after_failure(&mut policy, &reason)?;
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = &mut stopped => return Ok(()),
                }
                match self.server.start(&mut stopped).await {
                    Ok(Some(running)) => break running,
                    Ok(None) => return Ok(()),
                    Err(failure) => reason = failure.to_string(),
                }
            };
            info!(
                self.log,
                "the private PostgreSQL runs again, with all that was committed"
            );
        }
    }

    /// Never ends: the server's log is cut whenever it is long.
    async fn look_after_log(&self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.server.log.cut_if_long() {
                warn!(self.log, "the log of the private PostgreSQL can't be cut, it grows"; "reason" => %error,
                    "path" => %self.server.log.path().display());
            }
        }
    }

    /// The delay before the next start.
    fn after_failure(&self, policy: &mut RestartPolicy, reason: &str) -> Result<Duration, Failure> {
        self.metrics
            .restarts
            .with_label_values(&["private_postgres", "failed"])
            .inc();
        let Some(delay) = policy.after_failure(Instant::now()) else {
            let (max, within) = (self.restart.max, self.restart.within);
            error!(self.log, "the private PostgreSQL failed too often, giving up"; "reason" => reason);
            return Err(Failure::software(format!(
                "the private PostgreSQL failed more than {max} times within {} (node.restart), at last: {reason}",
                humantime::format_duration(within)
            )));
        };
        warn!(self.log, "the private PostgreSQL failed, starting it again";
            "reason" => reason, "delay_ms" => delay.as_millis());
        Ok(delay)
    }
}
