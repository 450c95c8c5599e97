//! The actor tree of a role: which actors there are, what they are made of, and how they are connected.

use std::{sync::Arc, time::Duration};

use actix_rt::{Arbiter, ArbiterHandle};
use sitewatch_actors::{
    consumer::{Consumer, ConsumerParts, ConsumerSettings},
    database::DatabaseClock,
    health::{Obstacles, Watchdog},
    housekeeping::Housekeeper,
    intake::Intake,
    metrics::Metrics,
    model::Report,
    publisher::{Publisher, PublisherParts, PublisherSettings, Real},
    site::{Sites, Surroundings},
    supervision::{ChildSpec, Exit, Fault, Group, LocalLife, SupervisedActor, Supervision, Unborn},
    wanted::way,
    writer::{Postgres, Writer},
};
use sitewatch_config::{RestartSettings, Role, Settings, Sources};
use slog::{Logger, info, o};
use tokio::sync::oneshot;

use crate::{
    SCHEMA,
    ending::{Interruption, end_in_order},
    exit::Failure,
    http::{Gauge, Status},
    logging::LogControl,
    settings::{InForce, Offers, Overlay, SettingsActor},
};

/// Results that may wait for the publisher, or be in its hands.
const PUBLISHER_INTAKE: usize = 4096;
/// What these may weigh, in bytes: with captures of 64 kB so many would be gigabytes.
const PUBLISHER_BYTES: usize = 64 << 20;
/// Batches that may wait for the writer, or be in its hands: one in work and one behind it.
const WRITER_INTAKE: usize = 2;
/// News of the Kafka client that may wait for the publisher.
const ORDERS_INTAKE: usize = 4;

/// The parts of which the actors of a role are made.
pub(crate) struct Tree {
    role: Role,
    sources: Sources,
    overlay: Overlay,
    in_force: InForce,
    logging: LogControl,
    around: Arc<Surroundings>,
    workers: Vec<ArbiterHandle>,
    metrics: Metrics,
    status: Status,
    watchdog: Watchdog,
    obstacles: Obstacles,
    log: Logger,
}

/// The parts of a [`Tree`] that come from outside.
pub(crate) struct TreeParts {
    pub(crate) role: Role,
    pub(crate) sources: Sources,
    pub(crate) overlay: Overlay,
    pub(crate) logging: LogControl,
    pub(crate) metrics: Metrics,
    pub(crate) status: Status,
    pub(crate) log: Logger,
}

/// The children of the root as they are added, with what others know of them.
#[derive(Default)]
struct Plan {
    specs: Vec<ChildSpec>,
    /// The use of each intake, for `/metrics`.
    gauges: Vec<Gauge>,
    /// The ways for reloaded settings to the actors.
    offers: Offers,
}

impl Tree {
    pub(crate) fn new(parts: TreeParts, settings: Settings) -> Self {
        let TreeParts {
            role,
            sources,
            overlay,
            logging,
            metrics,
            status,
            log,
        } = parts;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = match role {
            Role::Consumer => 0,
            _ => settings.node.workers.unwrap_or(cores).max(1),
        };
        let around = Arc::new(Surroundings::new(
            settings.node.location.clone(),
            (settings.node.max_checks, settings.node.max_checks_per_host),
            metrics.clone(),
            log.clone(),
        ));
        let watchdog = status.watchdog.clone();
        let obstacles = status.obstacles.clone();
        let worker = |number: usize| {
            let worker = Arbiter::new().handle();
            let pulse = watchdog.pulse(format!("worker {number}"));
            pulse.beat();
            // Refused only if the thread is gone: then the pulse stands still.
            worker.spawn(pulse.beat_on());
            worker
        };
        let workers = (1..=workers).map(worker).collect();
        let in_force = InForce::new(settings);
        Self {
            role,
            sources,
            overlay,
            in_force,
            logging,
            around,
            workers,
            metrics,
            status,
            watchdog,
            obstacles,
            log,
        }
    }

    /// Runs the actors until a signal, until one of them fails for good, or until a part outside of the tree has `failed` so.
    ///
    /// # Errors
    /// If an actor failed beyond its restart intensity, or refuses its settings; and what `failed` gives.
    pub(crate) async fn live(
        self,
        interruption: &Interruption,
        failed: impl Future<Output = Failure>,
    ) -> Result<(), Failure> {
        let (log, settings) = (self.log.clone(), self.in_force.get());
        info!(log, "starting"; "role" => %self.role, "version" => env!("CARGO_PKG_VERSION"),
            "location" => &settings.node.location);
        let supervision = self.supervision("node", &settings.node.restart);
        let (stop, stopped) = oneshot::channel();
        let group_log = log.clone();
        let root = Unborn::default();
        let life = root.live(
            move |fault| Group::new(group_log, fault, move || self.plan()),
            supervision,
            stopped,
        );
        let exit = end_in_order(
            Box::pin(life),
            stop,
            interruption,
            failed,
            settings.node.drain_timeout,
            &log,
        )
        .await?;
        match exit {
            Exit::Stopped => {
                info!(log, "ended in order");
                Ok(())
            }
            exit => match exit.refusal() {
                Some(reason) => Err(Failure::config(reason)),
                None => Err(Failure::software(format!("failed for good: {exit}"))),
            },
        }
    }

    fn supervision(&self, kind: &'static str, restart: &RestartSettings) -> Arc<Supervision> {
        Arc::new(Supervision {
            kind,
            log: self.log.clone(),
            restart: restart.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// Makes the children of the root, connected to each other, in the order in which they are stopped.
    fn plan(&self) -> Vec<ChildSpec> {
        let settings = self.in_force.get();
        let mut plan = Plan::default();
        if self.role != Role::Consumer {
            self.plan_checks(&settings, &mut plan);
        }
        if self.role != Role::Producer {
            self.plan_storage(&settings, &mut plan);
        }
        self.plan_settings(&settings, &mut plan);
        self.status.show_intakes(plan.gauges);
        plan.specs
    }

    /// Adds sites and publisher.
    fn plan_checks(&self, settings: &Settings, plan: &mut Plan) {
        let (publisher, sites) = (Unborn::<Publisher>::default(), Unborn::<Sites>::default());
        let results = Intake::new(publisher.address().recipient(), PUBLISHER_INTAKE)
            .weighing(PUBLISHER_BYTES, Report::weight);
        let orders = Intake::new(publisher.address().recipient(), ORDERS_INTAKE);
        let gauge = results.clone();
        plan.gauges
            .push(("publisher", Box::new(move || gauge.in_use())));
        let (around, workers) = (Arc::clone(&self.around), self.workers.clone());
        let (offer, list) = way(settings.sites.clone());
        plan.offers.sites = Some(offer);
        let restart = settings.node.restart.clone();
        plan.specs
            .push(self.child("sites", settings, sites, move |fault| {
                Sites::new(list, around, results, workers, restart, fault)
            }));
        let (metrics, log) = (self.metrics.clone(), self.log.clone());
        let (offer, wanted) = way(PublisherSettings::of(settings));
        plan.offers.publisher = Some(offer);
        let parts = PublisherParts {
            settings: wanted,
            patience: patience(settings),
            yields: true,
            outside: Real {
                client_id: client_id(settings, "producer"),
                metrics: metrics.clone(),
                log: log.clone(),
            },
            orders,
            pulse: self.watchdog.pulse("publisher"),
            metrics,
            log,
        };
        plan.specs
            .push(self.child("publisher", settings, publisher, move |fault| {
                Publisher::new(parts, fault)
            }));
    }

    /// Adds consumer, writers and housekeeping.
    fn plan_storage(&self, settings: &Settings, plan: &mut Plan) {
        let consumer = Unborn::<Consumer>::default();
        let writers: Vec<_> = (0..writers(settings))
            .map(|_| Unborn::<Writer<Postgres>>::default())
            .collect();
        let intakes = |writer: &Unborn<Writer<Postgres>>| {
            Intake::new(writer.address().recipient(), WRITER_INTAKE)
        };
        let batches: Vec<_> = writers.iter().map(intakes).collect();
        let gauge = batches.clone();
        plan.gauges.push((
            "writer",
            Box::new(move || gauge.iter().map(Intake::in_use).sum()),
        ));
        let database_clock = DatabaseClock::default();
        let (offer, wanted) = way(ConsumerSettings::of(settings));
        plan.offers.consumer = Some(offer);
        let parts = ConsumerParts {
            settings: wanted,
            client_id: client_id(settings, "consumer"),
            patience: patience(settings),
            writers: batches,
            pulse: self.watchdog.pulse("reader of Kafka"),
            database_clock: database_clock.clone(),
            obstacles: self.obstacles.clone(),
            metrics: self.metrics.clone(),
            log: self.log.clone(),
        };
        plan.specs
            .push(self.child("consumer", settings, consumer, move |fault| {
                Consumer::new(parts, fault)
            }));
        for (number, writer) in writers.into_iter().enumerate() {
            let clock = database_clock.clone();
            self.plan_writer(number, writer, clock, settings, plan);
        }
        self.plan_housekeeping(settings, plan);
    }

    fn plan_writer(
        &self,
        number: usize,
        writer: Unborn<Writer<Postgres>>,
        clock: DatabaseClock,
        settings: &Settings,
        plan: &mut Plan,
    ) {
        let (offer, wanted) = way(settings.postgres.clone());
        plan.offers.writers.push(offer);
        let (postgres, metrics) = (settings.postgres.clone(), self.metrics.clone());
        let log = match number {
            0 => self.log.clone(),
            _ => self.log.new(o!("writer" => number)),
        };
        let id = format!("writer {}", number + 1);
        let pulse = self.watchdog.pulse(id);
        let spec = self.child("writer", settings, writer, move |fault| {
            let store = Postgres::new(postgres, SCHEMA.into(), clock, metrics.postgres_up.clone());
            Writer::new(store, wanted, pulse, metrics, log, fault)
        });
        plan.specs.push(ChildSpec {
            id: format!("writer-{number}"),
            ..spec
        });
    }

    fn plan_housekeeping(&self, settings: &Settings, plan: &mut Plan) {
        let housekeeper = Unborn::<Housekeeper>::default();
        let (offer, wanted) = way(settings.postgres.clone());
        plan.offers.housekeeper = Some(offer);
        let metrics = self.metrics.clone();
        let log = self.log.new(o!("actor" => "housekeeping"));
        plan.specs.push(
            self.child("housekeeping", settings, housekeeper, move |fault| {
                Housekeeper::new(wanted, SCHEMA.into(), metrics, log, fault)
            }),
        );
    }

    /// Adds the actor that reloads the settings, and hands changes to the actors of the plan.
    fn plan_settings(&self, settings: &Settings, plan: &mut Plan) {
        let offers = std::mem::take(&mut plan.offers);
        let (role, sources, overlay) = (self.role, self.sources.clone(), Arc::clone(&self.overlay));
        let (in_force, logging) = (self.in_force.clone(), self.logging.clone());
        let proven = settings.kafka.clone();
        let (metrics, log) = (self.metrics.clone(), self.log.clone());
        plan.specs.push(
            self.child("settings", settings, Unborn::default(), move |fault| {
                SettingsActor {
                    role,
                    sources,
                    overlay,
                    in_force,
                    offers,
                    proven,
                    confirming: None,
                    logging,
                    metrics,
                    log,
                    fault,
                }
            }),
        );
    }

    fn child<A: SupervisedActor>(
        &self,
        id: &'static str,
        settings: &Settings,
        unborn: Unborn<A>,
        make: impl FnOnce(Fault) -> A + 'static,
    ) -> ChildSpec {
        let supervision = self.supervision(id, &settings.node.restart);
        let life: LocalLife = Box::new(move |stop| Box::pin(unborn.live(make, supervision, stop)));
        ChildSpec {
            id: id.to_owned(),
            life,
        }
    }
}

/// Returns the number of writers of a consumer. A transaction keeps one core of PostgreSQL's machine busy, which is often this one
/// too, and half a core of this one.
fn writers(settings: &Settings) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    settings
        .postgres
        .writers
        .unwrap_or_else(|| (cores / 2).clamp(1, 4))
}

/// Returns the time for which one actor may drain: a little less than the whole node has, so that it can still log what is lost.
fn patience(settings: &Settings) -> Duration {
    settings.node.drain_timeout * 9 / 10
}

/// Returns a name that is unique among the processes of a host, readable in the broker's logs.
fn client_id(settings: &Settings, role: &str) -> String {
    format!(
        "sitewatch-{role}-{}-{}",
        settings.node.location,
        std::process::id()
    )
}
