//! Runs a producer from a seed: it is killed at any await, its machine crashes, its disk fails, its actor panics, Kafka is
//! away. At the end all is well, and what is in the spool must reach Kafka.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::LocalBoxFuture;
use sitewatch_actors::{
    intake::Intake,
    metrics::Metrics,
    model::{CheckResult, Outcome, Report, Slot},
    publisher::{
        Ends, OpenDisk, Outside, Publisher, PublisherParts,
        spool::{DiskFault, MemoryDisk},
    },
    supervision::{Exit, Supervision, Unborn},
};
use sitewatch_config::{KafkaSettings, QueueSettings, RestartSettings, SpoolSettings, WhenFull};
use slog::{Discard, Logger, o};
use tokio::sync::oneshot;

use crate::{
    link::FakeLink,
    world::{Mutation, Verdict, World},
};

/// The simulated surroundings of a publisher.
#[derive(Clone)]
struct Simulated {
    world: World,
    disk: MemoryDisk,
    /// Whether the process lives.
    alive: Arc<AtomicBool>,
}

impl Outside for Simulated {
    type Disk = MemoryDisk;
    type Link = FakeLink;

    fn disk(&self, _: &Path) -> OpenDisk<MemoryDisk> {
        let disk = self.disk.clone();
        Box::new(move || Ok(disk))
    }

    fn connect(&self, _: &KafkaSettings, ends: Ends) -> Result<FakeLink, String> {
        Ok(FakeLink::new(
            self.world.clone(),
            ends,
            Arc::clone(&self.alive),
        ))
    }

    fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> LocalBoxFuture<'static, Option<T>> {
        let world = self.world.clone();
        let disk = self.disk.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros(world.below(3000))).await;
            if world.happens(60) {
                let fault = match world.below(4) {
                    0 => DiskFault::Write(io::ErrorKind::StorageFull),
                    1 => DiskFault::Write(io::ErrorKind::ReadOnlyFilesystem),
                    2 => DiskFault::ShortWrite,
                    _ => DiskFault::Sync,
                };
                world.note(&format!("disk: {fault:?}"));
                world.state().told.disk_faults += 1;
                disk.fail_next(fault);
            }
            if world.happens(10) {
                // The work is never done.
                world.note("a turn panics");
                world.state().told.panics += 1;
                return None;
            }
            let done = work();
            tokio::time::sleep(Duration::from_micros(world.below(3000))).await;
            if world.happens(5) {
                // The work was done, and nobody hears of it.
                world.note("a turn panics at its end");
                world.state().told.panics += 1;
                return None;
            }
            Some(done)
        })
    }

    fn now(&self) -> Slot {
        Slot::from_micros(0)
    }

    fn accepted(&self, result: &CheckResult) {
        self.world
            .note(&format!("accepted {} {}", result.site, result.slot));
        let identity = (result.site.to_string(), result.slot.as_micros());
        self.world.state().accepted.insert(identity);
    }
}

/// A process, dropped at one of its awaits: after so many of them.
struct Killed<F> {
    process: Option<Pin<Box<F>>>,
    awaits: u64,
}

impl<F: Future> Future for Killed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.awaits == 0 {
            self.process = None;
            return Poll::Ready(None);
        }
        self.awaits -= 1;
        match &mut self.process {
            None => Poll::Ready(None),
            Some(process) => process.as_mut().poll(context).map(Some),
        }
    }
}

const SITES: usize = 4;
/// How long the end may take, in simulated time: longer is a producer that stands still.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a seed.
pub(crate) fn run(seed: u64, mutation: Mutation, print: bool) -> Result<Verdict, String> {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    // The delays between tries draw from this thread's generator.
    fastrand::seed(seed);
    actix_rt::System::with_tokio_rt(runtime).block_on(async move {
        let world = World::new(seed, print);
        let disk = MemoryDisk::new();
        disk.lie_about_sync(mutation == Mutation::NoSpool);
        let weather = actix_rt::spawn(weather(world.clone()));
        let mut slot = 0;
        for _ in 0..=world.below(5) {
            live_and_die(&world, &disk, &mut slot).await;
        }
        weather.abort();
        {
            let state = &mut *world.state();
            (state.rough, state.outage) = (false, false);
        }
        live_and_end(&world, &disk, &mut slot).await?;
        world.verdict()
    })
}

/// Kafka goes away and comes back.
async fn weather(world: World) {
    loop {
        tokio::time::sleep(Duration::from_millis(200 + world.below(6000))).await;
        world.state().outage = true;
        world.state().told.outages += 1;
        world.note("kafka is away");
        tokio::time::sleep(Duration::from_millis(100 + world.below(4000))).await;
        world.state().outage = false;
        world.note("kafka is back");
    }
}

/// A life of the process that is ended by a kill, or by a crash of the machine.
async fn live_and_die(world: &World, disk: &MemoryDisk, slot: &mut i64) {
    let alive = Arc::new(AtomicBool::new(true));
    let (_stop, stopped) = oneshot::channel();
    let life = process(world, disk, &alive, slot, stopped);
    let awaits = 20 + world.below(1500);
    Killed {
        process: Some(Box::pin(life)),
        awaits,
    }
    .await;
    alive.store(false, Ordering::Relaxed);
    *slot += 1_000_000;
    if world.below(2) == 0 {
        world.note("the machine crashes");
        world.state().told.crashes += 1;
        let chance = world.clone();
        disk.crash(&mut || chance.below(u64::MAX));
    } else {
        world.note("the process is killed");
        world.state().told.kills += 1;
    }
    // Down for a while; what was on the wire arrives or does not.
    tokio::time::sleep(Duration::from_millis(world.below(1000))).await;
}

/// A last life, in which nothing fails: it ends in order with an empty spool.
async fn live_and_end(world: &World, disk: &MemoryDisk, slot: &mut i64) -> Result<(), String> {
    world.note("all is well from now on");
    let alive = Arc::new(AtomicBool::new(true));
    let (stop, stopped) = oneshot::channel();
    let life = process(world, disk, &alive, slot, stopped);
    let asked = async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let _ = stop.send(());
        std::future::pending::<()>().await
    };
    let end = tokio::time::timeout(
        PATIENCE,
        futures_util::future::select(Box::pin(life), Box::pin(asked)),
    );
    let Ok(futures_util::future::Either::Left((exit, _))) = end.await else {
        return Err("the producer stands still".to_owned());
    };
    if exit != Exit::Stopped {
        return Err(format!("the producer ended by {exit}"));
    }
    let (spool, opened) = sitewatch_actors::publisher::spool::Spool::open(
        disk.clone(),
        sitewatch_actors::publisher::spool::Limits::default(),
    )
    .map_err(|error| error.to_string())?;
    drop(spool);
    if opened.results > 0 {
        return Err(format!("{} results are left in the spool", opened.results));
    }
    Ok(())
}

/// A producer: its publisher, and sites that hand results to it.
fn process(
    world: &World,
    disk: &MemoryDisk,
    alive: &Arc<AtomicBool>,
    slot: &mut i64,
    stopped: oneshot::Receiver<()>,
) -> impl Future<Output = Exit> + use<> {
    let metrics = Metrics::new().unwrap();
    // What decides how long an orderly end waits: the fake Kafka answers.
    metrics.kafka_up.with_label_values(&["producer"]).set(1);
    let log = Logger::root(Discard, o!());
    let publisher = Unborn::<Publisher<Simulated>>::default();
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
            sync_interval: Duration::from_millis(world.below(60)),
        },
        patience: Duration::from_secs(300),
        outside: Simulated {
            world: world.clone(),
            disk: disk.clone(),
            alive: Arc::clone(alive),
        },
        orders: Intake::new(publisher.address().recipient(), 4),
        metrics: metrics.clone(),
        log: log.clone(),
    };
    let supervision = Arc::new(Supervision {
        kind: "publisher",
        log,
        restart: RestartSettings {
            max: 10_000,
            ..RestartSettings::default()
        },
        metrics,
    });
    let life = publisher.live(
        move |fault| Publisher::new(parts, fault),
        supervision,
        stopped,
    );
    let (begin, end) = (*slot, *slot + 1000);
    *slot = end;
    let sites: Vec<_> = (0..SITES)
        .map(|n| site(world.clone(), results.clone(), n, begin, end))
        .collect();
    async move {
        let sites = futures_util::future::join_all(sites);
        let sites = async {
            sites.await;
            std::future::pending::<()>().await
        };
        match futures_util::future::select(Box::pin(life), Box::pin(sites)).await {
            futures_util::future::Either::Left((exit, _)) => exit,
            futures_util::future::Either::Right(_) => unreachable!("sites are pending for ever"),
        }
    }
}

/// A site: a result now and then, each of its own slot. In the last life it ends early enough.
async fn site(world: World, results: Intake<Report>, n: usize, begin: i64, end: i64) {
    let name = format!("site-{n}");
    for slot in begin..end {
        tokio::time::sleep(Duration::from_millis(20 + world.below(200))).await;
        if !world.state().rough && slot > begin + 50 {
            return;
        }
        let result = CheckResult::of(
            &name,
            "http://a/",
            "here",
            Slot::from_micros(slot),
            Outcome::Up,
        );
        results.offer(Report::Check(result)).await;
    }
}
