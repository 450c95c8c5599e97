//! The ends of nodes and commands: by a signal, by a failure, in order.

use std::{fs, process, thread, time::Duration};

use futures_util::future::LocalBoxFuture;
use sitewatch_actors::supervision::Exit;
use slog::{Logger, error, info};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

use crate::exit::Failure;

/// Completes when the process is to end. It is not polled after that.
pub(crate) type Stopped<'a> = LocalBoxFuture<'a, ()>;

/// Waits for the tree's end. The first SIGTERM or SIGINT makes it drain, for as long as is allowed; the second ends it at
/// once. A part outside of the tree that has `failed` for good makes it drain too, and is the reason of the end then.
pub(crate) async fn end_in_order(
    mut life: impl Future<Output = Exit> + Unpin,
    stop: oneshot::Sender<()>,
    mut signals: Signals,
    failed: impl Future<Output = Failure>,
    patience: Duration,
    log: &Logger,
) -> Result<Exit, Failure> {
    let failure = tokio::select! {
        exit = &mut life => return Ok(exit),
        _ = signals.either() => None,
        failure = failed => Some(failure),
    };
    match &failure {
        None => info!(log, "stopping: draining in order"; "at_most" => ?patience),
        Some(failure) => {
            error!(log, "stopping: draining in order"; "at_most" => ?patience, "reason" => %failure)
        }
    }
    // A tree that has ended meanwhile needs no word.
    let _ = stop.send(());
    let exit = tokio::select! {
        drained = tokio::time::timeout(patience, life) => drained,
        signal = signals.either() => return Err(Failure::interrupted(signal)),
    };
    match (failure, exit) {
        (Some(failure), _) => Err(failure),
        (None, Ok(exit)) => Ok(exit),
        (None, Err(_)) => Err(Failure::undone(format!(
            "not everything was done within node.drain_timeout ({}); the next start goes on with what the spool and Kafka hold",
            humantime::format_duration(patience)
        ))),
    }
}

/// The signals that end the process.
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

    /// Waits for the next one and returns it.
    pub(crate) async fn either(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// The signal that ends a command: SIGTERM, SIGINT, or SIGHUP where the terminal has gone. A thread of its own waits for it, and
/// ends the process itself once this value and its clones are gone: nothing has to be put in order then, and the command's own
/// thread may be waiting for a reader of its output.
#[derive(Clone)]
pub(crate) struct Interruption {
    signal: watch::Receiver<Option<SignalKind>>,
}

impl Interruption {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the system has no thread for it, or refuses to tell of signals.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let (tell, comes) = watch::channel(None);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::software)?;
        let keeps_on = ignores_hangup();
        let (mut signals, mut hangup) = {
            let _inside = runtime.enter();
            let hangup = signal(SignalKind::hangup()).map_err(Failure::software)?;
            (Signals::listen()?, hangup)
        };
        let wait = move || {
            runtime.block_on(async {
                loop {
                    let signal = tokio::select! {
                        signal = signals.either() => signal,
                        _ = hangup.recv(), if !keeps_on => SignalKind::hangup(),
                    };
                    if tell.send(Some(signal)).is_err() {
                        process::exit(Failure::interrupted(signal).code().into());
                    }
                }
            })
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .map_err(Failure::software)?;
        Ok(Self { signal: comes })
    }

    /// Waits for the signal and returns the command's end by it.
    pub(crate) async fn comes(&self) -> Failure {
        let mut signal = self.signal.clone();
        if let Ok(signal) = signal.wait_for(Option::is_some).await
            && let Some(signal) = *signal
        {
            return Failure::interrupted(signal);
        }
        // The thread does not end while there is somebody who listens.
        std::future::pending().await
    }

    /// Returns the command's end by the signal that has come, if one has.
    pub(crate) fn has_come(&self) -> Option<Failure> {
        self.signal.borrow().map(Failure::interrupted)
    }
}

/// Returns true if the process was started so that it outlives its terminal, as by `nohup`.
fn ignores_hangup() -> bool {
    // Without /proc it is like most processes, which don't.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is number 1, the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}
