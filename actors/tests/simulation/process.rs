//! A consumer's process as in production: a reader and a supervised writer with the intake between them. It dies at any await
//! and is started again.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future};
use sitewatch_actors::{
    consumer::{Parts, Reader},
    database::DatabaseClock,
    health::{Obstacles, Pulse},
    intake::Intake,
    metrics::Metrics,
    supervision::{Supervision, Unborn},
    wanted::{Offer, way},
    writer::Writer,
};
use sitewatch_config::{BatchSettings, PostgresSettings, RestartSettings};
use slog::Logger;
use tokio::{sync::oneshot, time::sleep};

use super::{
    database::{Database, FakeStore},
    kafka::{Kafka, Member, TOPIC},
    mortal::Mortal,
    world::{World, wall_clock},
};

pub(crate) struct Process {
    pub(crate) number: u64,
    pub(crate) world: Rc<World>,
    pub(crate) kafka: Rc<Kafka>,
    pub(crate) database: Rc<Database>,
    pub(crate) metrics: Metrics,
    pub(crate) log: Logger,
}

impl Process {
    /// Lives again and again.
    pub(crate) async fn live(self) {
        loop {
            // Some die young.
            let most = [100, 1000, 6000][self.world.below(3) as usize];
            let polls = 1 + self.world.below(most);
            let life = Mortal::new(self.one_life(), polls, &self.world).await;
            let died = life.is_none();
            self.world.count(if died {
                "a consumer is killed"
            } else {
                "a consumer ends in order"
            });
            self.world
                .note(format_args!("process {} ends, died: {died}", self.number));
            sleep(self.world.millis(4000)).await;
        }
    }

    async fn one_life(&self) {
        let world = &self.world;
        let settings = PostgresSettings {
            batch: BatchSettings {
                max_rows: 1 + world.below(12) as usize,
                max_age: Duration::from_millis(50) + world.millis(1000),
            },
            ..PostgresSettings::default()
        };
        let supervision = Arc::new(Supervision {
            kind: "writer",
            log: self.log.clone(),
            restart: RestartSettings {
                max: 5,
                within: Duration::from_secs(10),
                base: Duration::from_millis(100),
                cap: Duration::from_secs(1),
            },
            metrics: self.metrics.clone(),
        });
        let (mut intakes, mut writers, mut offers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..1 + world.below(3) {
            let unborn = Unborn::<Writer<FakeStore>>::default();
            intakes.push(Intake::new(unborn.address().recipient(), 2));
            let store = FakeStore(Rc::clone(&self.database));
            let (offer, settings) = way(PostgresSettings::default());
            offers.push(offer);
            let (metrics, log) = (self.metrics.clone(), self.log.clone());
            // Dropped with this life.
            let (alive, stop) = oneshot::channel();
            let life = unborn.live(
                |fault| Writer::new(store, settings, Pulse::default(), metrics, log, fault),
                Arc::clone(&supervision),
                stop,
            );
            writers.push(Box::pin(async move {
                let _alive = alive;
                life.await
            }));
        }
        let stop = Arc::new(AtomicBool::new(false));
        self.stop_some_time(&stop);
        let reading = async {
            loop {
                let reader = Reader::new(
                    Member::join(&self.kafka),
                    Parts {
                        topic: TOPIC,
                        postgres: &settings,
                        patience: Duration::from_secs(5),
                        writers: intakes.clone(),
                        stop: Arc::clone(&stop),
                        clock: wall_clock,
                        database_clock: DatabaseClock::default(),
                        obstacles: Obstacles::default(),
                        pulse: Pulse::default(),
                        metrics: self.metrics.clone(),
                        log: self.log.clone(),
                    },
                );
                let end = AssertUnwindSafe(reader.run()).catch_unwind().await;
                if matches!(end, Ok(Ok(()))) {
                    return;
                }
                sleep(world.millis(500)).await;
            }
        };
        let (reading, reloading) = (pin!(reading), pin!(self.reload(&offers)));
        let living = future::select(future::select_all(writers), reading);
        future::select(living, reloading).await;
    }

    /// Gives the writers other settings now and then, whatever they are doing: each lets go of its session.
    async fn reload(&self, offers: &[Offer<PostgresSettings>]) {
        loop {
            sleep(self.world.millis(20_000)).await;
            if self.world.has_faults() {
                self.world.count("settings are reloaded");
                for offer in offers {
                    offer.send(PostgresSettings::default());
                }
            }
        }
    }

    /// Some lives end in order.
    fn stop_some_time(&self, stop: &Arc<AtomicBool>) {
        if self.world.chance(300) {
            let (stop, world) = (Arc::clone(stop), Rc::clone(&self.world));
            actix_rt::spawn(async move {
                sleep(world.millis(20_000)).await;
                stop.store(world.has_faults(), Ordering::Relaxed);
            });
        }
    }
}
