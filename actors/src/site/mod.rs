//! The site actor: checks one site, slot by slot.
//!
//! A check, then its result on its way, then the next slot: one after the other, so that checks of one site never pile
//! up, whatever the site does. Slots that pass meanwhile are reported as `missed`.

mod attempt;
mod link;
mod probe;
mod schedule;
mod sites;
mod verdict;

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix::prelude::*;
use rustls::ClientConfig;
use sitewatch_config::{Site as SiteSettings, Url};
use slog::{Logger, warn};

pub use self::{
    attempt::{Attempt, Failure},
    schedule::Schedule,
    sites::{Sites, SitesOrder},
};
use crate::{
    intake::Intake,
    metrics::Metrics,
    model::{CheckResult, ErrorKind, MESSAGE_VERSION, Outcome, Slot},
    supervision::{Fault, Stop},
};

/// The most missed slots that are reported one by one after a long hold-up; of more, only the number is logged. A day at
/// one a minute.
const MAX_MISSED: usize = 1440;

/// What all sites of a node share.
pub struct Surroundings {
    /// Where this node checks from.
    pub location: String,
    /// Whom to trust over TLS.
    pub tls: Arc<ClientConfig>,
    /// Counters.
    pub metrics: Metrics,
    /// Log.
    pub log: Logger,
}

/// Makes one check now, for the slot `slot`: what the actor does, also for the command `check`.
pub async fn check(site: &SiteSettings, slot: Slot, around: &Surroundings) -> CheckResult {
    let lateness = now().micros_since(slot);
    let attempt = probe::probe(site, &around.tls).await;
    let verdict = verdict::judge(site, &attempt);
    report(site, slot, lateness, &attempt, verdict, &around.location)
}

fn report(
    site: &SiteSettings,
    slot: Slot,
    lateness_us: i64,
    attempt: &Attempt,
    verdict: verdict::Verdict,
    location: &str,
) -> CheckResult {
    let (error, error_detail) = verdict
        .failure
        .map(|failure| (failure.kind, failure.detail))
        .unzip();
    let exchanged = !matches!(error, Some(ErrorKind::Missed | ErrorKind::InternalError));
    CheckResult {
        v: MESSAGE_VERSION,
        site: site.name.clone(),
        url: public_url(&site.url),
        location: location.to_owned(),
        slot,
        lateness_us,
        outcome: verdict.outcome,
        error,
        error_detail,
        status: attempt.status,
        http_version: attempt.http_version,
        remote_ip: attempt.remote_ip,
        phases: attempt.phases,
        body_bytes: attempt.body_bytes,
        redirects: exchanged.then_some(attempt.redirects),
        attempts: u8::from(exchanged),
        body_match: attempt.body_match,
        config_hash: site.config_hash(),
    }
}

/// The URL without user name and password.
fn public_url(url: &Url) -> String {
    if url.username().is_empty() && url.password().is_none() {
        return url.to_string();
    }
    let mut public = url.clone();
    // Both are refused only for URLs without a host, which settings do not let through.
    let _ = public.set_username("");
    let _ = public.set_password(None);
    public.to_string()
}

fn now() -> Slot {
    Slot::from_system_time(SystemTime::now())
}

/// What the actor and its running loop both see.
#[derive(Default)]
struct Progress {
    /// The slot whose check is under way.
    checking: Cell<Option<Slot>>,
    stopping: Cell<bool>,
}

/// Checks one site for as long as it lives.
pub struct Site {
    settings: Arc<SiteSettings>,
    around: Arc<Surroundings>,
    results: Intake<CheckResult>,
    progress: Rc<Progress>,
    fault: Fault,
}

impl Site {
    /// An actor that checks `settings` and offers what it finds to `results`.
    pub fn new(
        settings: Arc<SiteSettings>,
        around: Arc<Surroundings>,
        results: Intake<CheckResult>,
        fault: Fault,
    ) -> Self {
        Self {
            settings,
            around,
            results,
            progress: Rc::default(),
            fault,
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        let run = Run {
            schedule: Schedule::new(&self.settings.name, self.settings.interval),
            settings: Arc::clone(&self.settings),
            around: Arc::clone(&self.around),
            results: self.results.clone(),
            progress: Rc::clone(&self.progress),
        };
        ctx.spawn(run.go_on().into_actor(self).map(|end, me, ctx| {
            if let Err(fault) = end {
                me.fault.raise(fault);
            }
            ctx.stop();
        }));
    }
}

impl Actor for Site {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Supervised for Site {}

impl Handler<Stop> for Site {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.progress.stopping.set(true);
        if self.progress.checking.get().is_none() {
            ctx.stop();
        }
    }
}

/// The loop of one life of the actor.
struct Run {
    schedule: Schedule,
    settings: Arc<SiteSettings>,
    around: Arc<Surroundings>,
    results: Intake<CheckResult>,
    progress: Rc<Progress>,
}

impl Run {
    /// What it awaits but the timer is boxed: an idle site, as most are at most times, does not carry the room that a check
    /// and its result need.
    async fn go_on(self) -> Result<(), String> {
        let mut from = now();
        if let Some(interrupted) = self.progress.checking.get() {
            Box::pin(self.make_up_for(interrupted)).await;
            from = from.max(now());
        }
        while !self.progress.stopping.get() {
            let slot = self.schedule.next_after(from);
            let wait = u64::try_from(slot.micros_since(now())).unwrap_or(0);
            tokio::time::sleep(Duration::from_micros(wait)).await;
            // A timer may be a little early against the wall clock; a check never starts before its slot.
            from = now().max(slot);
            Box::pin(self.check(slot)).await?;
            from = from.max(now());
        }
        Ok(())
    }

    async fn check(&self, slot: Slot) -> Result<(), String> {
        self.progress.checking.set(Some(slot));
        fail::fail_point!("site::check", |_| Err("injected fault".to_owned()));
        fail::fail_point!(
            "site::check::named",
            self.settings.name.contains("failing"),
            |_| { Err("injected fault".to_owned()) }
        );
        let result = check(&self.settings, slot, &self.around).await;
        self.hand_over(result).await;
        self.report_missed(slot).await;
        self.progress.checking.set(None);
        Ok(())
    }

    /// The life before this one ended in the middle of the check of `slot`, which is not passed over in silence.
    async fn make_up_for(&self, slot: Slot) {
        let detail = "the check was interrupted by a failure";
        self.hand_over(self.unwell(slot, ErrorKind::InternalError, detail))
            .await;
        self.report_missed(slot).await;
        self.progress.checking.set(None);
    }

    /// Reports the slots after `slot` that have passed by now.
    async fn report_missed(&self, slot: Slot) {
        let passed = self.schedule.passed(slot, now());
        let untold = passed.len().saturating_sub(MAX_MISSED);
        if untold > 0 {
            warn!(self.around.log, "many slots missed, the oldest are not reported one by one";
                "site" => &self.settings.name, "missed" => passed.len(), "not_reported" => untold);
            self.around.metrics.missed.inc_by(untold as u64);
        }
        for missed in passed.skip(untold) {
            self.around.metrics.missed.inc();
            let detail =
                "the slot passed while an earlier check was under way or the node was held up";
            self.hand_over(self.unwell(missed, ErrorKind::Missed, detail))
                .await;
        }
    }

    fn unwell(&self, slot: Slot, kind: ErrorKind, detail: &str) -> CheckResult {
        let verdict = verdict::unwell(Failure::new(kind, detail));
        let lateness = now().micros_since(slot);
        report(
            &self.settings,
            slot,
            lateness,
            &Attempt::default(),
            verdict,
            &self.around.location,
        )
    }

    async fn hand_over(&self, result: CheckResult) {
        count(&self.around.metrics, &result);
        self.results.offer(result).await;
    }
}

fn count(metrics: &Metrics, result: &CheckResult) {
    let error = result.error.map_or("", ErrorKind::as_str);
    metrics
        .checks
        .with_label_values(&[result.outcome.as_str(), error])
        .inc();
    if result.outcome != Outcome::Unknown {
        metrics
            .lateness_seconds
            .observe(seconds(result.lateness_us));
        metrics
            .check_seconds
            .observe(seconds(result.phases.total_us.unwrap_or_default().into()));
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
