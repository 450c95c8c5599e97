//! The settings actor: on SIGHUP loads, validates, compares, and tells each actor what has changed for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use actix::prelude::*;
use sitewatch_actors::{
    consumer::ConsumerControl,
    housekeeping::HousekeepingControl,
    intake::Intake,
    kafka,
    metrics::Metrics,
    publisher::PublisherOrder,
    site::SitesOrder,
    supervision::{Fault, Stop},
    writer::WriterControl,
};
use sitewatch_config::{KafkaSettings, NodeSettings, Problem, Role, Settings, Sources, load};
use slog::{Logger, error, info, warn};
use tokio::signal::unix::{SignalKind, signal};

use crate::logging::LogControl;

/// The settings in force: what a restarted group starts from.
#[derive(Clone)]
pub(crate) struct InForce(Arc<Mutex<Settings>>);

impl InForce {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(settings)))
    }

    pub(crate) fn get(&self) -> Settings {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, settings: Settings) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}

/// The actors that a reload may concern; none where the role has none.
#[derive(Clone, Default)]
pub(crate) struct Concerned {
    pub(crate) sites: Option<Intake<SitesOrder>>,
    pub(crate) publisher: Option<Intake<PublisherOrder>>,
    pub(crate) consumer: Option<Intake<ConsumerControl>>,
    pub(crate) writers: Vec<Intake<WriterControl>>,
    pub(crate) housekeeper: Option<Intake<HousekeepingControl>>,
}

/// What standalone lays over the settings that it reads: where its embedded parts are.
pub(crate) type Overlay = Arc<dyn Fn(&mut Settings) + Send + Sync>;

/// Reads the settings, and tries out what only the Kafka client can tell: what it does not take must not end the one that
/// works. What is `in_use` was tried out before: a trial takes a tenth of a second.
fn read(role: Role, sources: &Sources, in_use: &KafkaSettings) -> Result<Settings, Vec<String>> {
    let lines = |problem: &Problem| problem.to_string();
    let settings =
        load(role, sources).map_err(|problems| problems.0.iter().map(lines).collect::<Vec<_>>())?;
    // Where the brokers are does not count, and is an embedded one's in standalone.
    let brokers = in_use.brokers.clone();
    let comparable = KafkaSettings {
        brokers,
        in_memory: in_use.in_memory,
        ..settings.kafka.clone()
    };
    if comparable != *in_use {
        kafka::try_out(&settings.kafka).map_err(|problem| vec![problem])?;
    }
    Ok(settings)
}

/// Logs what is valid but should be looked at.
pub(crate) fn warn_of(settings: &Settings, log: &Logger) {
    for warning in settings.warnings(SystemTime::now()) {
        warn!(log, "{}", warning);
    }
    for unused in &settings.unused {
        info!(log, "{}", unused);
    }
}

/// Reloads the settings.
pub(crate) struct SettingsActor {
    pub(crate) role: Role,
    pub(crate) sources: Sources,
    pub(crate) overlay: Overlay,
    pub(crate) in_force: InForce,
    pub(crate) concerned: Concerned,
    pub(crate) logging: LogControl,
    pub(crate) metrics: Metrics,
    pub(crate) log: Logger,
    pub(crate) fault: Fault,
}

/// The hang-up signal has come.
struct HangUp;

impl SettingsActor {
    fn begin(&mut self, ctx: &mut Context<Self>) {
        let signals = match signal(SignalKind::hangup()) {
            Ok(signals) => signals,
            Err(problem) => {
                self.fault
                    .raise(format!("can't listen for SIGHUP: {problem}"));
                return ctx.stop();
            }
        };
        ctx.add_stream(futures_util::stream::unfold(
            signals,
            |mut signals| async move { signals.recv().await.map(|()| (HangUp, signals)) },
        ));
    }

    /// Reads the settings on a thread for such work: ten thousand sites take a while, in which results go on to Kafka.
    fn reload(&self, ctx: &mut Context<Self>) {
        fail::fail_point!("settings::reload");
        let (role, sources, begun) = (self.role, self.sources.clone(), Instant::now());
        let kafka = self.in_force.get().kafka;
        // The environment of a process does not change: files do.
        let loading = tokio::task::spawn_blocking(move || read(role, &sources, &kafka));
        // One after the other: what came last wins.
        ctx.wait(
            loading
                .into_actor(self)
                .map(move |loaded, me, ctx| match loaded {
                    Ok(loaded) => me.take_over(loaded, begun),
                    Err(problem) => {
                        me.fault.raise(format!("reading the settings: {problem}"));
                        ctx.stop();
                    }
                }),
        );
    }

    fn take_over(&self, loaded: Result<Settings, Vec<String>>, begun: Instant) {
        match loaded {
            Err(problems) => {
                self.metrics.reloads.with_label_values(&["invalid"]).inc();
                error!(self.log, "settings not reloaded, nothing has changed"; "problems" => problems.len());
                for problem in &problems {
                    error!(self.log, "{}", problem);
                }
            }
            Ok(mut new) => {
                warn_of(&new, &self.log);
                (self.overlay)(&mut new);
                let old = self.in_force.get();
                self.in_force.set(new.clone());
                let sites = new.sites.len();
                self.apply(&old, new);
                info!(self.log, "settings reloaded"; "sites" => sites, "took_ms" => begun.elapsed().as_millis());
                self.metrics.reloads.with_label_values(&["ok"]).inc();
            }
        }
    }

    fn apply(&self, old: &Settings, new: Settings) {
        self.logging.set(&new.node.log);
        let (was, is) = (&old.node, &new.node);
        let fixed = |node: &NodeSettings| {
            (
                node.location.clone(),
                node.listen,
                (node.workers, node.max_checks, node.max_checks_per_host),
                node.data_dir.clone(),
            )
        };
        if fixed(was) != fixed(is) {
            warn!(
                self.log,
                "node.location, listen, workers, max_checks, max_checks_per_host and data_dir apply at the next start only"
            );
        }
        if new.kafka != old.kafka {
            self.tell(
                self.concerned.publisher.as_ref(),
                "publisher",
                PublisherOrder::Reconfigure(Box::new(new.kafka.clone())),
            );
        }
        if new.spool.dir != old.spool.dir {
            warn!(self.log, "spool.dir applies at the next start only");
        }
        if new.spool != old.spool {
            self.tell(
                self.concerned.publisher.as_ref(),
                "publisher",
                PublisherOrder::Respool(new.spool),
            );
        }
        if new.postgres.writers != old.postgres.writers {
            warn!(self.log, "postgres.writers applies at the next start only");
        }
        if new.postgres != old.postgres {
            for writer in &self.concerned.writers {
                let order = WriterControl::Reconfigure(new.postgres.clone());
                self.tell(Some(writer), "writer", order);
            }
            self.tell(
                self.concerned.housekeeper.as_ref(),
                "housekeeping",
                HousekeepingControl::Reconfigure(Box::new(new.postgres.clone())),
            );
        }
        if new.kafka != old.kafka || new.postgres != old.postgres {
            let order = ConsumerControl::Reconfigure(new.kafka, new.postgres);
            self.tell(self.concerned.consumer.as_ref(), "consumer", order);
        }
        if new.sites != old.sites {
            self.tell(
                self.concerned.sites.as_ref(),
                "sites",
                SitesOrder::Replace(new.sites),
            );
        }
    }

    fn tell<M: Send + 'static>(&self, intake: Option<&Intake<M>>, actor: &str, order: M) {
        if intake.is_some_and(|intake| intake.try_offer(order).is_err()) {
            error!(self.log, "an actor is still busy with earlier reloads, send SIGHUP again later"; "actor" => actor);
        }
    }
}

impl Actor for SettingsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Supervised for SettingsActor {}

impl StreamHandler<HangUp> for SettingsActor {
    fn handle(&mut self, _: HangUp, ctx: &mut Self::Context) {
        fail::fail_point!("settings::fault", |_| {
            self.fault.raise("injected fault");
            ctx.stop();
        });
        self.reload(ctx);
    }
}

impl Handler<Stop> for SettingsActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
