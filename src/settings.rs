//! The settings actor: on SIGHUP loads, validates, compares, offers each actor what has changed for it, and waits for its answer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use actix::prelude::*;
use futures_util::future::join_all;
use sitewatch_actors::{
    consumer::ConsumerSettings,
    database, kafka,
    metrics::Metrics,
    publisher::PublisherSettings,
    site::SiteList,
    supervision::{Fault, Stop},
    wanted::{Answer, Offer},
};
use sitewatch_config::{
    KafkaSettings, NodeSettings, PostgresSettings, Problem, Role, Settings, Sources, load,
};
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

/// The ways for reloaded settings to the actors; none where the role has none.
#[derive(Default)]
pub(crate) struct Offers {
    pub(crate) sites: Option<Offer<SiteList>>,
    pub(crate) publisher: Option<Offer<PublisherSettings>>,
    pub(crate) consumer: Option<Offer<ConsumerSettings>>,
    pub(crate) writers: Vec<Offer<PostgresSettings>>,
    pub(crate) housekeeper: Option<Offer<PostgresSettings>>,
}

impl Offers {
    /// Offers to each actor what has changed for it, and what it has refused before.
    fn send(&self, old: &Settings, new: &Settings) {
        offer(&self.sites, old, new, |of| of.sites.clone());
        offer(&self.publisher, old, new, PublisherSettings::of);
        offer(&self.consumer, old, new, ConsumerSettings::of);
        offer(&self.writers, old, new, |of| of.postgres.clone());
        offer(&self.housekeeper, old, new, |of| of.postgres.clone());
    }

    /// Returns what each actor will say to the latest settings, by its name.
    fn answers(&self) -> Vec<(&'static str, Answer)> {
        let mut answers = Vec::new();
        answers.extend(self.sites.iter().map(|it| ("sites", it.answer())));
        answers.extend(self.publisher.iter().map(|it| ("publisher", it.answer())));
        answers.extend(self.consumer.iter().map(|it| ("consumer", it.answer())));
        answers.extend(self.writers.iter().map(|it| ("writer", it.answer())));
        let housekeeper = self.housekeeper.iter();
        answers.extend(housekeeper.map(|it| ("housekeeping", it.answer())));
        answers
    }
}

fn offer<'a, T: PartialEq + 'static>(
    offers: impl IntoIterator<Item = &'a Offer<T>>,
    old: &Settings,
    new: &Settings,
    part: impl Fn(&Settings) -> T,
) {
    let has_changed = part(old) != part(new);
    for offer in offers {
        if has_changed || offer.was_refused() {
            offer.send(part(new));
        }
    }
}

/// Waits for the answer of an actor. One that takes long is named.
async fn heard(
    (actor, answer): (&'static str, Answer),
    log: Logger,
) -> Result<(), (&'static str, String)> {
    let mut answer = std::pin::pin!(answer.comes());
    let heard = match tokio::time::timeout(CONFIRMED, &mut answer).await {
        Ok(heard) => heard,
        Err(_) => {
            warn!(log, "an actor does not use the reloaded settings yet, waiting for it"; "actor" => actor,
                "waited_s" => CONFIRMED.as_secs());
            answer.await
        }
    };
    heard.map_err(|reason| (actor, reason))
}

/// What standalone lays over the settings that it reads: where its embedded parts are.
pub(crate) type Overlay = Arc<dyn Fn(&mut Settings) + Send + Sync>;

/// How long an actor may take to use reloaded settings before it is named.
const CONFIRMED: Duration = Duration::from_secs(10);

/// Reads the settings, and tries out what only the clients can tell: what they do not take must not end those that work. What
/// is `in_use` of Kafka was tried out before: a trial takes some tenths of a second.
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
    database::try_out(&settings.postgres)
        .map_err(|problem| vec![format!("postgres.url: {problem}")])?;
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
    pub(crate) offers: Offers,
    /// The settings of Kafka with which all actors have worked last: what a restarted group starts from after a refusal.
    pub(crate) proven: KafkaSettings,
    /// The wait for the actors' answers to the last reload.
    pub(crate) confirming: Option<SpawnHandle>,
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
                    Ok(loaded) => me.take_over(loaded, begun, ctx),
                    Err(problem) => {
                        me.fault.raise(format!("reading the settings: {problem}"));
                        ctx.stop();
                    }
                }),
        );
    }

    fn take_over(
        &mut self,
        loaded: Result<Settings, Vec<String>>,
        begun: Instant,
        ctx: &mut Context<Self>,
    ) {
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
                self.logging.set(&new.node.log);
                self.warn_of_fixed(&old, &new);
                self.offers.send(&old, &new);
                self.confirm(new.sites.len(), begun, ctx);
            }
        }
    }

    /// Waits until each actor uses the settings, or says why it does not. A later reload takes the place of this wait, and waits
    /// for all that this one has offered.
    fn confirm(&mut self, sites: usize, begun: Instant, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.confirming.take() {
            ctx.cancel_future(earlier);
        }
        let answers = self.offers.answers().into_iter();
        let answers = join_all(answers.map(|answer| heard(answer, self.log.clone())));
        let told = answers.into_actor(self).map(move |answers, me, _| {
            me.confirming = None;
            let refusals: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
            for (actor, reason) in &refusals {
                error!(me.log, "settings not reloaded in whole: an actor goes on with those before"; "actor" => actor, "reason" => reason);
            }
            if refusals.is_empty() {
                me.proven = me.in_force.get().kafka;
                info!(me.log, "settings reloaded"; "sites" => sites, "took_ms" => begun.elapsed().as_millis());
            }
            if !refusals.is_empty() {
                let kafka = me.proven.clone();
                me.in_force.set(Settings {
                    kafka,
                    ..me.in_force.get()
                });
            }
            let result = if refusals.is_empty() { "ok" } else { "refused" };
            me.metrics.reloads.with_label_values(&[result]).inc();
        });
        self.confirming = Some(ctx.spawn(told));
    }

    /// Names what has changed and applies at the next start only.
    fn warn_of_fixed(&self, old: &Settings, new: &Settings) {
        let fixed = |node: &NodeSettings| {
            (
                node.location.clone(),
                node.listen,
                (node.workers, node.max_checks, node.max_checks_per_host),
                node.data_dir.clone(),
            )
        };
        if fixed(&old.node) != fixed(&new.node) {
            warn!(
                self.log,
                "node.location, listen, workers, max_checks, max_checks_per_host and data_dir apply at the next start only"
            );
        }
        if new.spool.dir != old.spool.dir {
            warn!(self.log, "spool.dir applies at the next start only");
        }
        if new.postgres.writers != old.postgres.writers {
            warn!(self.log, "postgres.writers applies at the next start only");
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
