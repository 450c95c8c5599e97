//! Processes that the harness has started. None outlives it: each is ended when it is dropped, by [`end_all`], and, where
//! `setpriv` is there, by the kernel when the harness itself is killed.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{signals, small_disk};

/// What still runs, and the signal that ends it for good.
static RUNNING: Mutex<BTreeMap<u32, &str>> = Mutex::new(BTreeMap::new());

/// Folders on which a file system was mounted.
static MOUNTED: Mutex<Vec<std::path::PathBuf>> = Mutex::new(Vec::new());

/// A process. Dropped, it is ended.
pub(crate) struct Process {
    child: Child,
    last_resort: &'static str,
}

/// What to start.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a OsStr,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'a str, String)>,
    pub(crate) folder: &'a Path,
    /// Takes standard output and standard error.
    pub(crate) log: &'a Path,
    /// Another user to run as, where the harness is root.
    pub(crate) user: Option<&'a str>,
    /// The signal that ends it for good.
    pub(crate) last_resort: &'static str,
}

impl Start<'_> {
    /// Starts it. Only from the main thread: the kernel ends it with the thread that it was started from.
    pub(crate) fn start(self) -> io::Result<Process> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log)?;
        let mut command = tied(self.user);
        let child = command
            .arg(self.program)
            .args(&self.arguments)
            .envs(self.environment)
            .env_remove("URL_CONFIG_FILE")
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(child.id(), self.last_resort);
        Ok(Process {
            child,
            last_resort: self.last_resort,
        })
    }
}

/// `setpriv` becomes the program that it starts, so the process id is the program's.
fn tied(user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--");
    command
}

impl Process {
    pub(crate) fn signal(&self, signal: &str) {
        send(self.child.id(), signal);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.try_wait().ok().flatten();
        if ended.is_some() {
            forget(self.child.id());
        }
        ended
    }

    /// Waits for its end, at most so long.
    pub(crate) async fn wait(&mut self, longest: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + longest;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() > deadline {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL, which needs no consent and takes effect within moments.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        forget(self.child.id());
    }

    /// The most memory that it has had in RAM, in bytes.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            send(self.child.id(), self.last_resort);
            if self.last_resort != "KILL" {
                let deadline = Instant::now() + Duration::from_secs(5);
                while self.ended().is_none() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            self.kill();
        }
    }
}

/// Sends a signal to a process; one that is gone needs none.
pub(crate) fn send(id: u32, signal: &str) {
    let _ = signals::send(id, signal);
}

/// Notes a mounted file system.
pub(crate) fn mounted(folder: &Path) {
    let mut mounts = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    mounts.push(folder.to_owned());
}

/// Ends everything at once: after a signal, or when the watchdog has lost its patience.
pub(crate) fn end_all() {
    for (id, signal) in &*RUNNING.lock().unwrap_or_else(PoisonError::into_inner) {
        send(*id, signal);
    }
    unmount_all();
}

/// Takes away all file systems that were mounted.
pub(crate) fn unmount_all() {
    let mut mounts = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    for folder in mounts.drain(..) {
        small_disk::unmount(&folder);
    }
}

fn forget(id: u32) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.remove(&id);
}
