//! The ends of nodes and commands: by a signal, by a failure, in order.

use std::{fs, io, thread, time::Duration};

use futures_util::future::LocalBoxFuture;
use sitewatch_actors::supervision::Exit;
use slog::{Logger, error, info};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

use crate::{exit::Failure, standalone};

/// Completes when the process is to end. It is not polled after that.
pub(crate) type Stopped<'a> = LocalBoxFuture<'a, ()>;

/// Waits for the tree's end. The first SIGTERM or SIGINT makes it drain, for as long as is allowed. A part outside of the tree
/// that has `failed` for good makes it drain too, and is the reason of the end then.
pub(crate) async fn end_in_order(
    mut life: impl Future<Output = Exit> + Unpin,
    stop: oneshot::Sender<()>,
    interruption: &Interruption,
    failed: impl Future<Output = Failure>,
    patience: Duration,
    log: &Logger,
) -> Result<Exit, Failure> {
    let failure = tokio::select! {
        exit = &mut life => return Ok(exit),
        _ = interruption.comes() => None,
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
    let exit = tokio::time::timeout(patience, life).await;
    match (failure, exit) {
        (Some(failure), _) => Err(failure),
        (None, Ok(exit)) => Ok(exit),
        (None, Err(_)) => Err(Failure::undone(format!(
            "not everything was done within node.drain_timeout ({}); the next start goes on with what the spool and Kafka hold",
            humantime::format_duration(patience)
        ))),
    }
}

/// The signal that ends the process in order. A thread of its own waits for it, and ends the process itself at a second one:
/// whatever the others wait for, they are not asked. It does so at the first one too once this value and its clones are gone:
/// nothing has to be put in order then, and the main thread may be waiting for a reader of its output.
#[derive(Clone)]
pub(crate) struct Interruption {
    signal: watch::Receiver<Option<SignalKind>>,
}

impl Interruption {
    /// Listens from now on for what ends a command: SIGTERM, SIGINT, or SIGHUP where the terminal has gone.
    ///
    /// # Errors
    /// If the system has no thread for it, or refuses to tell of signals.
    pub(crate) fn of_command() -> Result<Self, Failure> {
        Self::listen(!ignores_hangup())
    }

    /// Listens from now on for what ends a node: SIGTERM or SIGINT. A SIGHUP that comes before the settings can be reloaded must
    /// not end it either.
    ///
    /// # Errors
    /// As of [`Interruption::of_command`].
    pub(crate) fn of_node() -> Result<Self, Failure> {
        Self::listen(false)
    }

    fn listen(ends_by_hangup: bool) -> Result<Self, Failure> {
        let (tell, comes) = watch::channel(None);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::software)?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::listen(ends_by_hangup)
                .map_err(|error| Failure::software(format!("can't listen for signals: {error}")))?
        };
        let wait = move || {
            runtime.block_on(async {
                loop {
                    let signal = signals.next().await;
                    let is_second = tell.borrow().is_some();
                    // Who closes a terminal often sends several.
                    if is_second && signal == SignalKind::hangup() {
                        continue;
                    }
                    if is_second || tell.send(Some(signal)).is_err() {
                        end_at_once(signal);
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

    /// Waits for the signal and returns the end by it. It stays once it has come: each later call returns it at once.
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

    /// Returns the end by the signal that has come, if one has.
    pub(crate) fn has_come(&self) -> Option<Failure> {
        self.signal.borrow().map(Failure::interrupted)
    }
}

/// Ends the process without a look at anything that could wait: no destructor, no `atexit`, no flush.
fn end_at_once(signal: SignalKind) -> ! {
    // They end in order by themselves, with nobody waiting.
    standalone::ask_servers_to_end();
    standalone::give_terminal_back();
    signal_hook::low_level::exit(Failure::interrupted(signal).code().into())
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    ends_by_hangup: bool,
}

impl Signals {
    fn listen(ends_by_hangup: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            ends_by_hangup,
        })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.hangup.recv(), if self.ends_by_hangup => SignalKind::hangup(),
        }
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
