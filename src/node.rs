//! Builds the actor tree of a role, runs it, and ends it in order.

use std::{sync::Arc, time::Duration};

use actix_rt::{Arbiter, ArbiterHandle, System};
use sitewatch_actors::{
    consumer::Consumer,
    housekeeping::Housekeeper,
    intake::Intake,
    kafka,
    metrics::Metrics,
    publisher::{Publisher, PublisherParts, Real},
    site::{Sites, Surroundings},
    supervision::{ChildSpec, Exit, Fault, Group, LocalLife, SupervisedActor, Supervision, Unborn},
    writer::{Postgres, Writer},
};
use sitewatch_config::{RestartSettings, Role, Settings, Sources, load};
use slog::{Logger, info, o, warn};
use tokio::sync::oneshot;

use crate::{
    SCHEMA, demo_site,
    ending::{Signals, end_in_order},
    exit::Failure,
    http::{self, Status},
    logging::{LogControl, Logging},
    settings::{Concerned, InForce, Overlay, SettingsActor, warn_of},
    standalone::{Embedded, Watch},
};

/// Results that may wait for the publisher, or be in its hands.
const PUBLISHER_INTAKE: usize = 4096;
/// Batches that may wait for the writer, or be in its hands: one in work and one behind it.
const WRITER_INTAKE: usize = 2;
/// Orders from a reload that may wait.
const CONTROL_INTAKE: usize = 4;

/// Files that are open besides the connections of checks.
const SPARE_FILES: u64 = 200;

/// Runs the role until it is told to stop or fails for good.
///
/// # Errors
/// If the settings are wrong, a part can't be started, or an actor failed beyond its restart intensity.
pub(crate) fn run(
    role: Role,
    sources: Sources,
    watch: bool,
    demo_site: Option<u16>,
) -> Result<(), Failure> {
    if role != Role::Standalone {
        if watch {
            return Err(Failure::usage(format!(
                "--watch shows what a standalone stores: it goes with --role standalone, not with --role {role}"
            )));
        }
        if demo_site.is_some() {
            return Err(Failure::usage(format!(
                "--demo-site is for --role standalone, not for {role}"
            )));
        }
    }
    let settings = load(role, &sources).map_err(Failure::config)?;
    kafka::try_out(&settings.kafka).map_err(Failure::config)?;
    let logging = Logging::start(&settings.node.log);
    let log = logging.log.clone();
    warn_of(&settings, &log);
    if role != Role::Consumer {
        allow_connections(settings.node.max_checks, &log);
    }
    let system = System::new();
    let end = system.block_on(async {
        let signals = Signals::listen()?;
        if let Some(port) = demo_site {
            actix_rt::spawn(demo_site::serve(port, log.clone())?);
        }
        let metrics = Metrics::new().map_err(Failure::software)?;
        if role == Role::Standalone {
            return standalone(sources, settings, watch, &logging, metrics, signals).await;
        }
        let overlay = Arc::new(|_: &mut Settings| {});
        let tree = build_tree(role, sources, overlay, settings, &logging, metrics)?;
        tree.live(signals).await
    });
    // What there was to wait for has been waited for. Dropped, it would also wait for a flush that nobody has time for.
    std::mem::forget(system);
    end
}

/// Runs all roles on embedded parts, which are stopped last, whatever the end.
async fn standalone(
    sources: Sources,
    mut settings: Settings,
    watch: bool,
    logging: &Logging,
    metrics: Metrics,
    mut signals: Signals,
) -> Result<(), Failure> {
    let log = logging.log.clone();
    let Some(mut embedded) = Embedded::start(&settings, &metrics, &mut signals, &log).await? else {
        info!(log, "ended in order, before all parts were there");
        return Ok(());
    };
    let overlay = embedded.overlay();
    overlay(&mut settings);
    let postgres = settings.postgres.clone();
    let role = Role::Standalone;
    let end = match build_tree(role, sources, overlay, settings, logging, metrics) {
        Ok(tree) => {
            let shown = watch.then(|| Watch::start(postgres, log.clone()));
            let end = tokio::select! {
                end = tree.live(signals) => end,
                failure = embedded.failed() => Err(failure),
            };
            if let Some(shown) = shown {
                shown.stop().await;
            }
            end
        }
        Err(failure) => Err(failure),
    };
    embedded.stop(&log).await;
    end
}

/// Serves the pages, and builds the actor tree.
fn build_tree(
    role: Role,
    sources: Sources,
    overlay: Overlay,
    settings: Settings,
    logging: &Logging,
    metrics: Metrics,
) -> Result<Tree, Failure> {
    let log = logging.log.clone();
    let status = Status::new(role, metrics.clone());
    if let Some(address) = settings.node.listen {
        actix_rt::spawn(http::serve(address, status.clone())?);
        info!(log, "serving /metrics, /healthz and /readyz"; "address" => %address);
    }
    Tree::new(
        role,
        sources,
        overlay,
        settings,
        logging.control(),
        metrics,
        status,
        log,
    )
}

/// Lets the process have as many connections open as the system allows: distributions start with 1,024, for programs of
/// another time.
fn allow_connections(max_checks: usize, log: &Logger) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= max_checks as u64 + SPARE_FILES => {}
        Ok(limit) => {
            warn!(log, "fewer files may be open than node.max_checks asks for; raise the limit (ulimit -n, LimitNOFILE=)";
                "files" => limit, "max_checks" => max_checks);
        }
        Err(error) => warn!(log, "can't raise the limit of open files"; "reason" => %error),
    }
}

/// What the actors are made of.
struct Tree {
    role: Role,
    sources: Sources,
    overlay: Overlay,
    in_force: InForce,
    logging: LogControl,
    around: Arc<Surroundings>,
    workers: Vec<ArbiterHandle>,
    metrics: Metrics,
    status: Status,
    log: Logger,
}

impl Tree {
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a thing of its own, named at the only call"
    )]
    fn new(
        role: Role,
        sources: Sources,
        overlay: Overlay,
        settings: Settings,
        logging: LogControl,
        metrics: Metrics,
        status: Status,
        log: Logger,
    ) -> Result<Self, Failure> {
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
        let workers = (0..workers).map(|_| Arbiter::new().handle()).collect();
        let in_force = InForce::new(settings);
        Ok(Self {
            role,
            sources,
            overlay,
            in_force,
            logging,
            around,
            workers,
            metrics,
            status,
            log,
        })
    }

    async fn live(self, signals: Signals) -> Result<(), Failure> {
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
            signals,
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

    /// The children of the root, connected to each other, in the order in which they are stopped.
    fn plan(&self) -> Vec<ChildSpec> {
        let settings = self.in_force.get();
        let (mut specs, mut gauges) = (
            Vec::new(),
            Vec::<(&'static str, Box<dyn Fn() -> usize + Send>)>::new(),
        );
        let mut concerned = Concerned::default();
        if self.role != Role::Consumer {
            let (publisher, sites) = (Unborn::<Publisher>::default(), Unborn::<Sites>::default());
            let results = Intake::new(publisher.address().recipient(), PUBLISHER_INTAKE);
            let orders = Intake::new(publisher.address().recipient(), CONTROL_INTAKE);
            concerned.publisher = Some(orders.clone());
            concerned.sites = Some(Intake::new(sites.address().recipient(), CONTROL_INTAKE));
            let gauge = results.clone();
            gauges.push(("publisher", Box::new(move || gauge.in_use())));
            let (around, workers, list) = (
                Arc::clone(&self.around),
                self.workers.clone(),
                settings.sites.clone(),
            );
            let restart = settings.node.restart.clone();
            specs.push(self.child("sites", &settings, sites, move |fault| {
                Sites::new(list, around, results, workers, restart, fault)
            }));
            let (metrics, log) = (self.metrics.clone(), self.log.clone());
            let parts = PublisherParts {
                kafka: settings.kafka.clone(),
                spool: settings.spool.clone(),
                patience: patience(&settings),
                yields: true,
                outside: Real {
                    client_id: client_id(&settings, "producer"),
                    metrics: metrics.clone(),
                    log: log.clone(),
                },
                orders,
                metrics,
                log,
            };
            specs.push(self.child("publisher", &settings, publisher, move |fault| {
                Publisher::new(parts, fault)
            }));
        }
        if self.role != Role::Producer {
            let consumer = Unborn::<Consumer>::default();
            let writers: Vec<_> = (0..writers(&settings))
                .map(|_| Unborn::<Writer<Postgres>>::default())
                .collect();
            let intakes = |writer: &Unborn<Writer<Postgres>>| {
                Intake::new(writer.address().recipient(), WRITER_INTAKE)
            };
            let batches: Vec<_> = writers.iter().map(intakes).collect();
            concerned.writers = writers
                .iter()
                .map(|writer| Intake::new(writer.address().recipient(), CONTROL_INTAKE))
                .collect();
            concerned.consumer = Some(Intake::new(consumer.address().recipient(), CONTROL_INTAKE));
            let gauge = batches.clone();
            gauges.push((
                "writer",
                Box::new(move || gauge.iter().map(Intake::in_use).sum()),
            ));
            let (kafka, postgres, id) = (
                settings.kafka.clone(),
                settings.postgres.clone(),
                client_id(&settings, "consumer"),
            );
            let (patience, metrics, log) =
                (patience(&settings), self.metrics.clone(), self.log.clone());
            specs.push(self.child("consumer", &settings, consumer, move |fault| {
                Consumer::new(kafka, postgres, id, patience, batches, metrics, log, fault)
            }));
            for (number, writer) in writers.into_iter().enumerate() {
                let (postgres, metrics) = (settings.postgres.clone(), self.metrics.clone());
                let log = match number {
                    0 => self.log.clone(),
                    _ => self.log.new(o!("writer" => number)),
                };
                let spec = self.child("writer", &settings, writer, move |fault| {
                    let store = Postgres::new(postgres, SCHEMA.into(), metrics.postgres_up.clone());
                    Writer::new(store, metrics, log, fault)
                });
                specs.push(ChildSpec {
                    id: format!("writer-{number}"),
                    ..spec
                });
            }
            let housekeeper = Unborn::<Housekeeper>::default();
            let controls = Intake::new(housekeeper.address().recipient(), CONTROL_INTAKE);
            concerned.housekeeper = Some(controls);
            let (postgres, metrics) = (settings.postgres.clone(), self.metrics.clone());
            let log = self.log.new(o!("actor" => "housekeeping"));
            specs.push(
                self.child("housekeeping", &settings, housekeeper, move |fault| {
                    Housekeeper::new(postgres, SCHEMA.into(), metrics, log, fault)
                }),
            );
        }
        let (role, sources, overlay) = (self.role, self.sources.clone(), Arc::clone(&self.overlay));
        let (in_force, logging) = (self.in_force.clone(), self.logging.clone());
        let (metrics, log) = (self.metrics.clone(), self.log.clone());
        specs.push(
            self.child("settings", &settings, Unborn::default(), move |fault| {
                SettingsActor {
                    role,
                    sources,
                    overlay,
                    in_force,
                    concerned,
                    logging,
                    metrics,
                    log,
                    fault,
                }
            }),
        );
        self.status.show_intakes(gauges);
        specs
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

/// How many writers a consumer has. A transaction keeps a core of PostgreSQL's machine busy, which is often this one, and
/// half a core of this one.
fn writers(settings: &Settings) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    settings
        .postgres
        .writers
        .unwrap_or_else(|| (cores / 2).clamp(1, 4))
}

/// How long one actor may take to drain: a little less than the whole node, so that it can still say what is lost.
fn patience(settings: &Settings) -> Duration {
    settings.node.drain_timeout * 9 / 10
}

/// Unique among the processes of a host, readable in the broker's logs.
fn client_id(settings: &Settings, role: &str) -> String {
    format!(
        "sitewatch-{role}-{}-{}",
        settings.node.location,
        std::process::id()
    )
}
