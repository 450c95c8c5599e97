//! A producer's process as in production: a supervised publisher with its spool, and sites that hand results to it. It is
//! killed at any await, its machine crashes, its disk fails, its turns at the disk panic; some lives end in order.

use std::{
    cell::RefCell,
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

use actix_rt::Arbiter;
use futures_util::future::{self, Either, LocalBoxFuture};
use sitewatch_actors::{
    health::Pulse,
    intake::Intake,
    metrics::Metrics,
    model::{CheckResult, ErrorKind, Report, Slot},
    publisher::{
        Ends, OpenDisk, Outside, Publisher, PublisherParts, PublisherSettings,
        spool::{DiskFault, Limits, MemoryDisk, Spool},
    },
    site::{Clock, Sites, Surroundings},
    supervision::{Exit, Supervision, Unborn},
    wanted::{Wanted, way},
};
use sitewatch_config::{KafkaSettings, QueueSettings, RestartSettings, SpoolSettings, WhenFull};
use slog::Logger;
use tokio::{sync::oneshot, time::sleep};

use super::{
    checked::{Checked, End},
    database::Said,
    kafka::Kafka,
    link::FakeLink,
    mortal::Mortal,
    sites::{Answers, changed, sites},
    world::{World, set_clock},
};

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
    /// Lives again and again, for a last time when no fault happens any more.
    pub(crate) async fn live(self) {
        let mut last = false;
        while !last {
            last = !self.world.has_faults();
            let alive = Arc::new(AtomicBool::new(true));
            let most = [150, 500, 2500][self.world.below(3) as usize];
            let polls = 20 + self.world.below(most);
            let number = self.checked.borrow_mut().new_life();
            let life = Mortal::new(self.one_life(number, &alive), polls, &self.world).await;
            alive.store(false, Ordering::Relaxed);
            let end = match life {
                Some((Exit::Stopped, end)) => {
                    self.world.count("a producer ends in order");
                    end
                }
                // As when a turn panics while all waits for its end: what is left is for the next life.
                Some((exit, _)) => {
                    self.world.note(format_args!("{exit}"));
                    self.world.count("a producer fails at its end");
                    End::Killed
                }
                None if self.world.below(2) == 0 => {
                    self.world.count("a machine crashes");
                    let world = Rc::clone(&self.world);
                    self.disk.crash(&mut || world.below(u64::MAX));
                    End::Killed
                }
                None => {
                    self.world.count("a producer is killed");
                    End::Killed
                }
            };
            self.checked.borrow_mut().end(number, end);
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

    /// How the publisher ended, and how the life did.
    async fn one_life(&self, life: usize, alive: &Arc<AtomicBool>) -> (Exit, End) {
        let world = &self.world;
        let metrics = Metrics::new().expect("the names are valid");
        // What decides how long an orderly end waits: the simulated Kafka answers.
        metrics.kafka_up.with_label_values(&["producer"]).set(1);
        let publisher = Unborn::<Publisher<Machine>>::default();
        let results = Intake::<Report>::new(publisher.address().recipient(), 8);
        let parts = PublisherParts {
            settings: Wanted::fixed(PublisherSettings {
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
            }),
            patience: Duration::from_secs(300),
            yields: true,
            outside: Machine {
                producer: self.clone(),
                alive: Arc::clone(alive),
            },
            orders: Intake::new(publisher.address().recipient(), 4),
            pulse: Pulse::default(),
            metrics: metrics.clone(),
            log: self.log.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let publishing = publisher.live(
            move |fault| Publisher::new(parts, fault),
            self.supervision("publisher", &metrics),
            stopped,
        );
        // The sites end first, as in the node.
        let sites = async {
            let end = self.check(life, results, metrics.clone()).await;
            // One that has ended needs no word.
            let _ = stop.send(());
            end
        };
        match future::select(pin!(publishing), pin!(sites)).await {
            Either::Left((exit, _)) => (exit, End::Killed),
            Either::Right((end, publishing)) => (publishing.await, end),
        }
    }

    fn supervision(&self, kind: &'static str, metrics: &Metrics) -> Arc<Supervision> {
        Arc::new(Supervision {
            kind,
            log: self.log.clone(),
            restart: RestartSettings {
                max: 10_000,
                ..RestartSettings::default()
            },
            metrics: metrics.clone(),
        })
    }

    /// The group of sites, whose settings change now and then, until they have ended in order.
    async fn check(&self, life: usize, results: Intake<Report>, metrics: Metrics) -> End {
        let (world, checked) = (&self.world, &self.checked);
        let supervision = self.supervision("sites", &metrics);
        let restart = supervision.restart.clone();
        let around = Arc::new(Surroundings::with(
            Box::new(Answers),
            Clock::by(set_clock),
            "here".to_owned(),
            (1 + world.below(3) as usize, 1 + world.below(2) as usize),
            metrics,
            self.log.clone(),
        ));
        let mut known = sites(self.number, world);
        let group = Unborn::<Sites>::default();
        let (offer, wanted) = way(known.clone());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&around);
        let group = group.live(
            move |fault| {
                let workers = vec![Arbiter::current()];
                Sites::new(wanted, shared, results, workers, restart, fault)
            },
            supervision,
            stopped,
        );
        for site in &known {
            checked.borrow_mut().begin(life, site, around.clock.now());
        }
        let orders = async {
            while world.has_faults() && !world.chance(200) {
                sleep(world.millis(6000)).await;
                if world.chance(500) {
                    let one = world.below(known.len() as u64) as usize;
                    known[one] = changed(&known[one], world);
                    checked
                        .borrow_mut()
                        .begin(life, &known[one], around.clock.now());
                    world.count("a site is replaced");
                    offer.send(known.clone());
                }
            }
            let end = if world.has_faults() {
                End::InOrder
            } else {
                End::Calm
            };
            if end == End::Calm {
                // What a fault holds up has gone on.
                sleep(Duration::from_secs(2)).await;
            }
            let _ = stop.send(());
            end
        };
        let (_, end) = future::join(group, orders).await;
        end
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
        set_clock()
    }

    fn accepted(&self, result: &CheckResult) {
        self.producer
            .world
            .note(format_args!("accepted {} {}", result.site, result.slot));
        self.producer.world.count(match result.error {
            Some(ErrorKind::Missed) => "a slot is missed",
            Some(ErrorKind::InternalError) => "a check is interrupted",
            _ => "a result is accepted",
        });
        let key = (result.site.to_string(), result.slot.as_micros());
        let said = Said {
            outcome: result.outcome,
            error: result.error,
            status: result.status.map(Into::into),
            total_us: result.phases.total_us.map(Into::into),
        };
        self.producer
            .checked
            .borrow_mut()
            .accepted
            .push((key, said));
    }
}
