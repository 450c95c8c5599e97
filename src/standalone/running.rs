//! A PostgreSQL that runs: how it ends, and how it is ended.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::ExitStatus,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;

use crate::exit::Failure;

const FAST_STOP: Duration = Duration::from_secs(60);
const KILLED: Duration = Duration::from_secs(10);

/// The servers of this process that run, for an end that can't wait for them.
static SERVERS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Asks the servers of this process to end, and waits for nothing.
pub(crate) fn ask_servers_to_end() {
    for server in servers().iter() {
        // One that has ended meanwhile needs no signal.
        let _ = kill_process(*server, Signal::INT);
    }
}

fn servers() -> MutexGuard<'static, Vec<Pid>> {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A PostgreSQL that runs.
pub(super) struct Running {
    process: Child,
    listed: Option<Pid>,
}

impl Running {
    pub(super) fn new(process: Child) -> Self {
        let listed = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        servers().extend(listed);
        Self { process, listed }
    }

    /// How the server has ended, if it has.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn has_ended(&mut self) -> Result<Option<String>, Failure> {
        let status = self.process.try_wait().map_err(Failure::software)?;
        Ok(status.map(|status| {
            self.unlist();
            shown_end(status)
        }))
    }

    /// Waits until the server ends by itself; gives how.
    pub(super) async fn ended(&mut self) -> String {
        let end = self.process.wait().await;
        self.unlist();
        end.map_or_else(|error| error.to_string(), shown_end)
    }

    /// The process has ended: its number may be another's from now on.
    fn unlist(&mut self) {
        let gone = self.listed.take();
        servers().retain(|server| Some(*server) != gone);
    }

    /// Stops the server in order, or by force if it takes too long: its data is sound either way.
    ///
    /// # Errors
    /// If it does not end even so.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let id = self.process.id();
        for (signal, patience) in [
            (Signal::INT, FAST_STOP),
            (Signal::QUIT, KILLED),
            (Signal::KILL, KILLED),
        ] {
            let Some(process) = id.and_then(|id| Pid::from_raw(id.cast_signed())) else {
                return Ok(());
            };
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(process, signal);
            if let Ok(end) = tokio::time::timeout(patience, self.process.wait()).await {
                return end.map(drop).map_err(Failure::software);
            }
        }
        Err(Failure::software(format!(
            "the private PostgreSQL (process {id:?}) does not end, not even by SIGKILL"
        )))
    }
}

impl Drop for Running {
    /// Asks it to end where nobody has waited for that, as after a panic.
    fn drop(&mut self) {
        self.unlist();
        if let Some(process) = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
        {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(process, Signal::INT);
        }
    }
}

/// Sends a signal to a program that leads a group of its own, and to all that it has started.
pub(super) fn end_group(leader: Option<u32>, signal: Signal) {
    if let Some(leader) = leader.and_then(|id| Pid::from_raw(id.cast_signed())) {
        // One that has ended meanwhile needs no signal.
        let _ = kill_process_group(leader, signal);
    }
}

/// The end of a process, for people.
pub(super) fn shown_end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The process of the server that runs on this data.
pub(super) fn runs(cluster: &Path) -> Option<u32> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let process: u32 = text.lines().next()?.trim().parse().ok()?;
    // The file stays when the machine or the container ends; the number may be another server's then. Each works in its data.
    let works_in = fs::read_link(format!("/proc/{process}/cwd")).ok()?;
    (works_in == fs::canonicalize(cluster).ok()?).then_some(process)
}

/// The node that has started this server, if it still lives.
pub(super) fn node_above(server: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{server}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    let parent: u32 = parent.trim().parse().ok()?;
    let program = fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    (parent != std::process::id() && program.trim() == "sitewatch-node").then_some(parent)
}
