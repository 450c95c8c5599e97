//! The processes of the node: killed, frozen, told to end and started again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    Failure, failpoints,
    fault::Node,
    process::{Process, Start},
    settings::{PROGRAM, Settings},
};

/// How long an orderly end may take: the drain timeout and a little more.
pub(crate) const LONGEST_END: Duration = Duration::from_secs(45);
/// After which time a process that ended by itself is started again, as an init system does.
const RESPAWN: Duration = Duration::from_secs(1);
/// The exit code after an actor has failed too often.
const GAVE_UP: i32 = 70;

/// All of them.
pub(crate) struct Nodes {
    pub(crate) settings: Settings,
    each: BTreeMap<Node, Life>,
    rng: Rng,
    /// Processes that gave up because of failpoints, and were started again.
    pub(crate) gave_up: u32,
    /// Ends that nothing explains.
    pub(crate) unexplained: Vec<String>,
    peaks: BTreeMap<Node, u64>,
}

struct Life {
    process: Option<Process>,
    state: State,
    /// Which life this is, from 1.
    number: u32,
    armed: bool,
    variant: usize,
    log: PathBuf,
}

impl Life {
    /// A signal that comes before a process listens for it ends it, before it has said a word.
    fn was_too_young_for(&self, status: ExitStatus) -> bool {
        const HANG_UP: i32 = 1;
        const TERMINATE: i32 = 15;
        let silent = fs::metadata(&self.log).is_ok_and(|log| log.len() == 0);
        silent && matches!(status.signal(), Some(HANG_UP | TERMINATE))
    }
}

#[derive(Clone, Copy)]
enum State {
    Runs,
    Frozen,
    /// It was told to end, and is then to be started again, with failpoints or without.
    Ends {
        since: Instant,
        then_armed: bool,
    },
    /// It was killed, and is started again by the schedule.
    Down,
    /// It ended by itself, and is started again at this time.
    Respawns(Instant),
}

impl Nodes {
    pub(crate) fn new(settings: Settings, seed: u64) -> Self {
        let life = || Life {
            process: None,
            state: State::Down,
            number: 0,
            armed: false,
            variant: 0,
            log: PathBuf::new(),
        };
        Self {
            settings,
            each: Node::ALL.into_iter().map(|node| (node, life())).collect(),
            rng: Rng::with_seed(seed),
            gave_up: 0,
            unexplained: Vec::new(),
            peaks: BTreeMap::new(),
        }
    }

    fn life(&mut self, node: Node) -> &mut Life {
        self.each
            .entry(node)
            .or_insert_with(|| unreachable!("every node has its life"))
    }

    /// Starts a node that does not run.
    pub(crate) fn start(
        &mut self,
        node: Node,
        armed: bool,
        jump: Option<i32>,
    ) -> Result<(), Failure> {
        let points = failpoints::of(node.is_producer(), armed, jump, &mut self.rng);
        let life = self.life(node);
        life.number += 1;
        life.armed = armed || jump.is_some();
        let (variant, number) = (life.variant, life.number);
        let armed = if points.is_empty() { "" } else { ".armed" };
        self.settings.write(node, variant)?;
        let log = format!("{}.{number:03}{armed}.log", node.name());
        let log = self.settings.folder.join(log);
        let process = Start {
            program: PROGRAM.as_ref(),
            arguments: vec![
                "--role".to_owned(),
                node.role().to_owned(),
                "--config".to_owned(),
                self.settings.file(node).display().to_string(),
            ],
            environment: vec![
                ("FAILPOINTS", points),
                // To look up what a backtrace names takes 150 MB, which would be all that is seen of the memory.
                ("RUST_BACKTRACE", u8::from(armed.is_empty()).to_string()),
            ],
            folder: &self.settings.folder,
            log: &log,
            user: None,
            last_resort: "KILL",
        }
        .start()?;
        let life = self.life(node);
        life.process = Some(process);
        life.state = State::Runs;
        life.log = log;
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: Node) {
        self.measure(node);
        let life = self.life(node);
        // Dropped, it is killed.
        life.process = None;
        life.state = State::Down;
    }

    /// Starts a node again that the schedule has killed.
    pub(crate) fn revive(
        &mut self,
        node: Node,
        armed: bool,
        jump: Option<i32>,
    ) -> Result<(), Failure> {
        match self.life(node).process {
            Some(_) => Ok(()),
            None => self.start(node, armed, jump),
        }
    }

    /// SIGSTOP; `false` if it does not run.
    pub(crate) fn freeze(&mut self, node: Node) -> bool {
        let life = self.life(node);
        let runs = matches!(life.state, State::Runs);
        if let (true, Some(process)) = (runs, &life.process) {
            process.signal("STOP");
            life.state = State::Frozen;
        }
        runs
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self, node: Node) {
        let life = self.life(node);
        if let (State::Frozen, Some(process)) = (life.state, &life.process) {
            process.signal("CONT");
            life.state = State::Runs;
        }
    }

    /// SIGTERM, and a new start when it has ended; `false` if it does not run.
    pub(crate) fn restart(&mut self, node: Node, then_armed: bool) -> bool {
        let life = self.life(node);
        let runs = matches!(life.state, State::Runs);
        if let (true, Some(process)) = (runs, &life.process) {
            process.signal("TERM");
            let since = Instant::now();
            life.state = State::Ends { since, then_armed };
        }
        runs
    }

    /// SIGHUP with other settings, good or bad; `false` if it does not run.
    pub(crate) fn reload(&mut self, node: Node, good: bool) -> Result<bool, Failure> {
        let life = self.life(node);
        life.variant += usize::from(good);
        let (variant, number) = (life.variant, life.number as usize);
        if good {
            self.settings.write(node, variant)?;
        } else {
            self.settings.spoil(node, variant + number)?;
        }
        let life = self.life(node);
        let runs = matches!(life.state, State::Runs);
        if let (true, Some(process)) = (runs, &life.process) {
            process.signal("HUP");
        }
        Ok(runs)
    }

    /// Writes the settings in force again, after they were spoiled.
    pub(crate) fn mend_settings(&mut self, node: Node) -> Result<(), Failure> {
        let variant = self.life(node).variant;
        Ok(self.settings.write(node, variant)?)
    }

    /// Notes which have ended, and starts again what is due.
    pub(crate) fn look_after(&mut self) -> Result<(), Failure> {
        for node in Node::ALL {
            self.measure(node);
            let life = self.life(node);
            let ended = life.process.as_mut().and_then(Process::ended);
            let (state, armed, number) = (life.state, life.armed, life.number);
            if let Some(status) = ended {
                life.process = None;
                let explained = match state {
                    _ if life.was_too_young_for(status) => true,
                    State::Ends { .. } => status.code() == Some(0) || (armed && gave_up(status)),
                    _ => armed && gave_up(status),
                };
                self.gave_up += u32::from(gave_up(status) && armed);
                if !explained {
                    let what = if matches!(state, State::Ends { .. }) {
                        "was told to end, and ended with"
                    } else {
                        "ended by itself with"
                    };
                    self.unexplained
                        .push(format!("{} (life {number}) {what} {status}", node.name()));
                }
                match state {
                    State::Ends { then_armed, .. } => self.start(node, then_armed, None)?,
                    _ => self.life(node).state = State::Respawns(Instant::now() + RESPAWN),
                }
            }
            match self.life(node).state {
                State::Respawns(at) if at <= Instant::now() => self.start(node, armed, None)?,
                State::Ends { since, then_armed } if since.elapsed() > LONGEST_END => {
                    self.unexplained
                        .push(format!("{} (life {number}) does not end", node.name()));
                    self.kill(node);
                    self.start(node, then_armed, None)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn measure(&mut self, node: Node) {
        let peak = self
            .life(node)
            .process
            .as_ref()
            .and_then(Process::peak_memory);
        let known = self.peaks.entry(node).or_default();
        *known = (*known).max(peak.unwrap_or(0));
    }

    /// The most memory that each has had, over all its lives, in bytes.
    pub(crate) fn peaks(&self) -> &BTreeMap<Node, u64> {
        &self.peaks
    }

    /// Lives that were begun.
    pub(crate) fn lives(&self) -> u32 {
        self.each.values().map(|life| life.number).sum()
    }

    /// Which do not run as they should, in a few words.
    pub(crate) fn ailing(&self) -> Vec<String> {
        let ailing = self.each.iter().filter_map(|(node, life)| {
            let how = match life.state {
                State::Runs => return None,
                State::Frozen => "frozen",
                State::Ends { .. } => "ending",
                State::Down | State::Respawns(_) => "down",
            };
            Some(format!("{} {how}", node.name()))
        });
        ailing.collect()
    }

    /// Ends the faults: what is frozen goes on, what is down is started, what has failpoints is killed and started without.
    pub(crate) async fn calm(&mut self) -> Result<(), Failure> {
        for node in Node::ALL {
            self.thaw(node);
            self.mend_settings(node)?;
        }
        let deadline = Instant::now() + LONGEST_END + RESPAWN;
        let ending = |nodes: &Self| {
            let mut lives = nodes.each.values();
            lives.any(|life| matches!(life.state, State::Ends { .. }))
        };
        while ending(self) && Instant::now() < deadline {
            self.look_after()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for node in Node::ALL {
            if self.life(node).armed {
                self.kill(node);
            }
            self.revive(node, false, None)?;
        }
        Ok(())
    }

    /// SIGTERM to these, and their ends; each must come in time and with exit code 0.
    pub(crate) async fn stop(&mut self, nodes: [Node; 2]) {
        for node in nodes {
            if let Some(process) = &self.life(node).process {
                process.signal("TERM");
            }
        }
        for node in nodes {
            self.measure(node);
            let life = self.life(node);
            let (process, number) = (life.process.take(), life.number);
            life.state = State::Down;
            let problem = match process {
                None => Some("does not run at the end".to_owned()),
                Some(mut process) => match process.wait(LONGEST_END).await {
                    Some(status) if status.code() == Some(0) => None,
                    Some(status) => Some(format!("was told to end, and ended with {status}")),
                    None => Some("does not end".to_owned()),
                },
            };
            if let Some(problem) = problem {
                self.unexplained
                    .push(format!("{} (life {number}) {problem}", node.name()));
            }
        }
    }
}

fn gave_up(status: ExitStatus) -> bool {
    status.code() == Some(GAVE_UP) && status.signal().is_none()
}
