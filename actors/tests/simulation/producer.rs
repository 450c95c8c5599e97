//! A producer's process as in production: a supervised publisher with its spool, and sites that hand results to it. It is
//! killed at any await, its machine crashes, its disk fails, its turns at the disk panic; some lives end in order.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    path::Path,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{self, Either, LocalBoxFuture},
};
use sitewatch_actors::{
    intake::Intake,
    metrics::Metrics,
    model::{CheckResult, Outcome, Report, Slot},
    publisher::{
        Ends, OpenDisk, Outside, Publisher, PublisherParts,
        spool::{DiskFault, Limits, MemoryDisk, Spool},
    },
    supervision::{Exit, Supervision, Unborn},
};
use sitewatch_config::{KafkaSettings, QueueSettings, RestartSettings, SpoolSettings, WhenFull};
use slog::Logger;
use tokio::{sync::oneshot, time::sleep};

use super::{
    database::Key,
    kafka::Kafka,
    link::FakeLink,
    mortal::Mortal,
    world::{World, wall_clock},
};

const SITES: u64 = 3;

/// What a producer has told, over all its lives.
#[derive(Default)]
pub(crate) struct Checked {
    /// Results that were handed to a publisher. They may be stored.
    pub(crate) offered: BTreeSet<Key>,
    /// Results that counted as checked. They must be stored.
    pub(crate) accepted: BTreeSet<Key>,
}

/// A machine with a disk, on which one producer lives after the other.
#[derive(Clone)]
pub(crate) struct Producer {
    pub(crate) number: u64,
    pub(crate) world: Rc<World>,
    pub(crate) kafka: Rc<Kafka>,
    pub(crate) disk: MemoryDisk,
    pub(crate) checked: Rc<RefCell<Checked>>,
    pub(crate) log: Logger,
}

impl Producer {
    /// Lives again and again.
    pub(crate) async fn live(self) {
        loop {
            let alive = Arc::new(AtomicBool::new(true));
            let most = [300, 1500, 6000][self.world.below(3) as usize];
            let polls = 20 + self.world.below(most);
            let life = Mortal::new(self.one_life(&alive), polls, &self.world).await;
            alive.store(false, Ordering::Relaxed);
            match life {
                Some(Exit::Stopped) => self.world.count("a producer ends in order"),
                // As when a turn panics while all waits for its end: what is left is for the next life.
                Some(exit) => {
                    self.world.note(format_args!("{exit}"));
                    self.world.count("a producer fails at its end");
                }
                None if self.world.below(2) == 0 => {
                    self.world.count("a machine crashes");
                    let world = Rc::clone(&self.world);
                    self.disk.crash(&mut || world.below(u64::MAX));
                }
                None => self.world.count("a producer is killed"),
            }
            // Down for a while; what was on the wire arrives or does not.
            sleep(self.world.millis(1500)).await;
        }
    }

    /// What is left in the spool.
    pub(crate) fn left(&self) -> Result<u64, String> {
        match Spool::open(self.disk.clone(), Limits::default()) {
            Ok((_, opened)) => Ok(opened.results),
            Err(problem) => Err(problem.to_string()),
        }
    }

    async fn one_life(&self, alive: &Arc<AtomicBool>) -> Exit {
        let world = &self.world;
        let metrics = Metrics::new().expect("the names are valid");
        // What decides how long an orderly end waits: the simulated Kafka answers.
        metrics.kafka_up.with_label_values(&["producer"]).set(1);
        let publisher = Unborn::<Publisher<Machine>>::default();
        let results = Intake::<Report>::new(publisher.address().recipient(), 8);
        let parts = PublisherParts {
            kafka: KafkaSettings {
                queue: QueueSettings {
                    max_messages: 20,
                    max_kbytes: 64,
                },
                ..KafkaSettings::default()
            },
            spool: SpoolSettings {
                dir: "simulated".into(),
                max_bytes: 30_000 + world.below(200_000),
                when_full: WhenFull::Block,
                sync_interval: world.millis(60),
            },
            patience: Duration::from_secs(300),
            outside: Machine {
                producer: self.clone(),
                alive: Arc::clone(alive),
            },
            orders: Intake::new(publisher.address().recipient(), 4),
            metrics: metrics.clone(),
            log: self.log.clone(),
        };
        let supervision = Arc::new(Supervision {
            kind: "publisher",
            log: self.log.clone(),
            restart: RestartSettings {
                max: 10_000,
                ..RestartSettings::default()
            },
            metrics,
        });
        let (stop, stopped) = oneshot::channel();
        let life = publisher.live(
            move |fault| Publisher::new(parts, fault),
            supervision,
            stopped,
        );
        let sites = future::join_all((0..SITES).map(|n| self.check(n, results.clone())));
        let ending = async {
            if world.chance(300) {
                sleep(world.millis(20_000)).await;
            } else {
                future::pending::<()>().await;
            }
        };
        let mut life = pin!(life);
        // The sites end first, as in the node.
        let others = pin!(future::select(
            Box::pin(sites.then(|_| future::pending::<()>())),
            Box::pin(ending)
        ));
        match future::select(life.as_mut(), others).await {
            Either::Left((exit, _)) => exit,
            Either::Right((others, _)) => {
                drop(others);
                // One that has ended needs no word.
                let _ = stop.send(());
                life.await
            }
        }
    }

    /// A site: a result now and then, each of its own slot, as long as there are faults.
    async fn check(&self, n: u64, results: Intake<Report>) {
        let world = &self.world;
        let site = format!("producer-{}-site-{n}", self.number);
        while world.has_faults() {
            sleep(Duration::from_millis(20) + world.millis(400)).await;
            let slot = wall_clock();
            let key = (site.clone(), slot.as_micros());
            self.checked.borrow_mut().offered.insert(key);
            let result = CheckResult::of(&site, "http://site/", "here", slot, Outcome::Up);
            results.offer(Report::Check(result)).await;
        }
    }
}

/// What a publisher has around it.
struct Machine {
    producer: Producer,
    /// Whether the process lives.
    alive: Arc<AtomicBool>,
}

impl Outside for Machine {
    type Disk = MemoryDisk;
    type Link = FakeLink;

    fn disk(&self, _: &Path) -> OpenDisk<MemoryDisk> {
        let disk = self.producer.disk.clone();
        Box::new(move || Ok(disk))
    }

    fn connect(&self, _: &KafkaSettings, ends: Ends) -> Result<FakeLink, String> {
        let Producer { world, kafka, .. } = &self.producer;
        Ok(FakeLink::connect(world, kafka, ends, &self.alive))
    }

    fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> LocalBoxFuture<'static, Option<T>> {
        let (world, disk) = (Rc::clone(&self.producer.world), self.producer.disk.clone());
        Box::pin(async move {
            sleep(Duration::from_micros(world.below(3000))).await;
            if world.chance(60) {
                let fault = match world.below(4) {
                    0 => DiskFault::Write(io::ErrorKind::StorageFull),
                    1 => DiskFault::Write(io::ErrorKind::ReadOnlyFilesystem),
                    2 => DiskFault::ShortWrite,
                    _ => DiskFault::Sync,
                };
                world.count("a disk fails");
                disk.fail_next(fault);
            }
            if world.chance(10) {
                // The work is never done.
                world.count("a turn at a disk panics");
                return None;
            }
            let done = work();
            sleep(Duration::from_micros(world.below(3000))).await;
            if world.chance(5) {
                // The work was done, and nobody hears of it.
                world.count("a turn at a disk panics at its end");
                return None;
            }
            Some(done)
        })
    }

    fn now(&self) -> Slot {
        wall_clock()
    }

    fn accepted(&self, result: &CheckResult) {
        self.producer
            .world
            .note(format_args!("accepted {} {}", result.site, result.slot));
        self.producer.world.count("a result is accepted");
        let key = (result.site.to_string(), result.slot.as_micros());
        self.producer.checked.borrow_mut().accepted.insert(key);
    }
}
