//! Carries out the schedule: begins each fault at its time, and ends it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    Failure,
    fault::{Fault, Node},
    poison,
    rig::{Rig, mend},
    schedule::Event,
};

/// How often the nodes are looked after.
const TICK: Duration = Duration::from_millis(50);
/// How often a line tells how it goes.
const PROGRESS: Duration = Duration::from_secs(10);

/// What was done.
#[derive(Default)]
pub(crate) struct Done {
    /// Faults by kind.
    pub(crate) faults: BTreeMap<&'static str, u32>,
    /// Why some were not, by kind.
    pub(crate) skipped: BTreeMap<&'static str, (u32, String)>,
    /// Services that ended by themselves.
    pub(crate) unexplained: Vec<String>,
}

/// What is under way.
struct Director<'a> {
    rig: &'a mut Rig,
    seed: u64,
    done: Done,
    /// Faults that last, and when they end.
    lasting: Vec<(Instant, Event)>,
    /// Messages on their way into the topic.
    pouring: Vec<JoinHandle<Result<(), String>>>,
}

/// Lets the faults of `events` come, for `duration`. Afterwards some may still be in force.
pub(crate) async fn direct(
    rig: &mut Rig,
    events: &[Event],
    duration: Duration,
    seed: u64,
) -> Result<Done, Failure> {
    let begin = Instant::now();
    let mut director = Director {
        rig,
        seed,
        done: Done::default(),
        lasting: Vec::new(),
        pouring: Vec::new(),
    };
    let stop = Arc::<AtomicBool>::default();
    let stopped = Arc::clone(&stop);
    director.pour(move |inside, seed| poison::trickle(inside, seed, &stopped));
    let mut events = events.iter().peekable();
    let mut next_progress = PROGRESS;
    while begin.elapsed() < duration {
        let now = Instant::now();
        let (over, lasting) = director
            .lasting
            .iter()
            .partition(|(until, _)| *until <= now);
        director.lasting = lasting;
        let over: Vec<(Instant, Event)> = over;
        for (_, event) in over {
            director.end(event).await?;
        }
        while let Some(event) = events.next_if(|event| event.at <= begin.elapsed()) {
            director.begin(*event).await?;
        }
        director.rig.nodes.look_after()?;
        director.look_after_services()?;
        if begin.elapsed() >= next_progress {
            next_progress += PROGRESS;
            director.tell(begin.elapsed());
        }
        tokio::time::sleep(TICK).await;
    }
    let Director {
        mut done,
        pouring,
        rig,
        ..
    } = director;
    stop.store(true, Ordering::Relaxed);
    // They need Kafka, which may be away.
    rig.heal().await?;
    for messages in pouring {
        if let Err(problem) = messages.await? {
            let entry = done.skipped.entry("poison").or_default();
            *entry = (entry.0 + 1, problem);
        }
    }
    Ok(done)
}

impl Director<'_> {
    async fn begin(&mut self, event: Event) -> Result<(), Failure> {
        let begun = self.try_begin(event).await?;
        match begun {
            Ok(()) => {
                *self.done.faults.entry(event.fault.kind()).or_default() += 1;
                if !event.lasts.is_zero() {
                    self.lasting.push((Instant::now() + event.lasts, event));
                }
            }
            Err(why) => {
                let entry = self.done.skipped.entry(event.fault.kind()).or_default();
                *entry = (entry.0 + 1, why);
            }
        }
        Ok(())
    }

    /// Begins a fault. The inner error says why it makes no sense now.
    async fn try_begin(&mut self, event: Event) -> Result<Result<(), String>, Failure> {
        let rig = &mut *self.rig;
        let runs = |runs: bool| {
            if runs {
                Ok(())
            } else {
                Err("the process did not run".to_owned())
            }
        };
        Ok(match event.fault {
            Fault::Kill(node) | Fault::JumpClock(node, _) => {
                rig.nodes.kill(node);
                Ok(())
            }
            Fault::Freeze(node) => runs(rig.nodes.freeze(node)),
            Fault::Restart(node) => runs(rig.nodes.restart(node, event.armed)),
            Fault::Reload(node) => runs(rig.nodes.reload(node, true)?),
            Fault::ReloadBad(node) => runs(rig.nodes.reload(node, false)?),
            Fault::KillBroker(broker) => {
                rig.kafka.kill(broker);
                Ok(())
            }
            Fault::KillTwoBrokers(spared) => {
                for broker in (0..3).filter(|broker| *broker != spared) {
                    rig.kafka.kill(broker);
                }
                Ok(())
            }
            Fault::FreezeBroker(broker) => {
                rig.kafka.signal(broker, "STOP");
                Ok(())
            }
            Fault::StopPostgres => {
                rig.postgres.stop_at_once().await;
                Ok(())
            }
            Fault::KillBackend => match rig.postgres.kill_backend().await {
                Ok(true) => Ok(()),
                Ok(false) => Err("no node was connected".to_owned()),
                Err(problem) => Err(problem.to_string()),
            },
            Fault::Cut(line) => {
                rig.set_line(line, |link| link.cuts += 1);
                Ok(())
            }
            Fault::Refuse(line) => {
                rig.set_line(line, |link| {
                    link.refuses = true;
                    link.cuts += 1;
                });
                Ok(())
            }
            Fault::BlackHole(line) => {
                rig.set_line(line, |link| link.black_hole = true);
                Ok(())
            }
            Fault::Slow(line, delay) => {
                rig.set_line(line, |link| link.delay = delay);
                Ok(())
            }
            Fault::FillDisk(node) => self.fill(node)?,
            Fault::Poison(messages) => {
                self.pour(move |inside, seed| poison::poison(inside, seed, messages));
                Ok(())
            }
            Fault::Doubles(messages) => {
                self.pour(move |inside, seed| poison::doubles(inside, seed, messages));
                Ok(())
            }
        })
    }

    fn fill(&self, node: Node) -> Result<Result<(), String>, Failure> {
        let disk = self.rig.disks.get(&node).filter(|disk| disk.is_small());
        Ok(match disk {
            None => Err("mounting a small disk is not allowed here".to_owned()),
            Some(disk) => {
                disk.fill()?;
                Ok(())
            }
        })
    }

    fn pour(&mut self, pour: impl FnOnce(&str, u64) -> Result<(), Failure> + Send + 'static) {
        self.seed += 1;
        let (inside, seed) = (self.rig.kafka.inside(), self.seed);
        self.pouring.push(tokio::task::spawn_blocking(move || {
            pour(&inside, seed).map_err(|problem| problem.to_string())
        }));
    }

    async fn end(&mut self, event: Event) -> Result<(), Failure> {
        let rig = &mut *self.rig;
        match event.fault {
            Fault::Kill(node) => rig.nodes.revive(node, event.armed, None)?,
            Fault::JumpClock(node, seconds) => {
                rig.nodes.revive(node, event.armed, Some(seconds))?
            }
            Fault::Freeze(node) => rig.nodes.thaw(node),
            Fault::ReloadBad(node) => rig.nodes.mend_settings(node)?,
            Fault::KillBroker(broker) => rig.kafka.start(broker)?,
            Fault::KillTwoBrokers(_) => {
                for broker in 0..3 {
                    rig.kafka.start(broker)?;
                }
            }
            Fault::FreezeBroker(broker) => rig.kafka.signal(broker, "CONT"),
            Fault::StopPostgres => rig.postgres.start()?,
            Fault::Refuse(line) | Fault::BlackHole(line) | Fault::Slow(line, _) => {
                rig.set_line(line, mend);
            }
            Fault::FillDisk(node) => {
                if let Some(disk) = rig.disks.get(&node) {
                    disk.free();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Kafka and PostgreSQL are only killed: by themselves they don't end. Were they to, the run would say so and go on.
    fn look_after_services(&mut self) -> Result<(), Failure> {
        for broker in self.rig.kafka.ended() {
            let problem = format!("broker {} ended by itself, see its log", broker + 1);
            self.done.unexplained.push(problem);
            self.rig.kafka.start(broker)?;
        }
        if self.rig.postgres.has_ended() {
            let problem = "PostgreSQL ended by itself, see its log".to_owned();
            self.done.unexplained.push(problem);
            self.rig.postgres.start()?;
        }
        Ok(())
    }

    fn tell(&self, since: Duration) {
        let now: Vec<_> = self
            .lasting
            .iter()
            .map(|(_, event)| event.fault.to_string())
            .collect();
        let mut ailing = self.rig.nodes.ailing();
        ailing.retain(|what| {
            !now.iter().any(|fault| {
                what.split(' ')
                    .next()
                    .is_some_and(|name| fault.contains(name))
            })
        });
        println!(
            "{:5.0} s  {} faults, {} requests, {} MB through the proxies; now: {}",
            since.as_secs_f64(),
            self.done.faults.values().sum::<u32>(),
            self.rig.web.requests(),
            self.rig.passed() / 1_000_000,
            [now, ailing].concat().join(", ")
        );
    }
}
