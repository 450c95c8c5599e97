//! The signals that end a node, and an end in order.

use std::time::Duration;

use futures_util::future::{Either, select};
use sitewatch_actors::supervision::Exit;
use slog::{Logger, info, warn};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::exit::Failure;

/// Waits for the tree's end. The first SIGTERM or SIGINT makes it drain, for as long as is allowed; the second ends it at
/// once.
pub(crate) async fn end_in_order(
    life: impl Future<Output = Exit> + Unpin,
    stop: oneshot::Sender<()>,
    mut signals: Signals,
    patience: Duration,
    log: &Logger,
) -> Result<Exit, Failure> {
    let life = match select(life, Box::pin(signals.either())).await {
        Either::Left((exit, _)) => return Ok(exit),
        Either::Right(((), life)) => life,
    };
    info!(log, "stopping: draining in order"; "at_most" => ?patience);
    // A tree that has ended meanwhile needs no word.
    let _ = stop.send(());
    let bounded = tokio::time::timeout(patience, life);
    match select(Box::pin(bounded), Box::pin(signals.either())).await {
        Either::Left((Ok(exit), _)) => Ok(exit),
        Either::Left((Err(_), _)) => {
            warn!(
                log,
                "not everything could be drained in time; what is in the spool and in Kafka is taken up again at the next start"
            );
            Ok(Exit::Stopped)
        }
        Either::Right(_) => Err(Failure::software(
            "a second signal: ended at once, without draining",
        )),
    }
}

/// The signals that end the node.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on: what comes before the actors are there waits for them, instead of ending the process at once and
    /// leaving an embedded PostgreSQL behind. A SIGHUP so early has nothing to reload, and must not end it either.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::software(format!("can't listen for signals: {error}")))
        };
        drop(listen(SignalKind::hangup())?);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn either(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
