//! The site actor: checks one site, slot by slot.
//!
//! A check, then its result on its way, then the next slot: one after the other, so that checks of one site never pile
//! up, whatever the site does. Slots that pass meanwhile are reported as `missed`.

mod announce;
mod attempt;
mod body_pool;
mod check;
mod clock;
mod excerpt;
mod expect_body;
mod expect_headers;
mod fit;
mod gate;
mod network;
mod parts;
mod probe;
mod prober;
mod run;
mod schedule;
mod sites;
mod surroundings;
mod tls_clients;
mod token;
mod trial;
mod verdict;
mod verifiers;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use sitewatch_config::Site as SiteSettings;
use slog::warn;

use self::{announce::Standing, run::Run};

pub use self::{
    attempt::{Attempt, Certificate, Failure, TlsFacts},
    clock::{Clock, Step},
    gate::Gate,
    parts::Parts,
    prober::{Part, Prober},
    schedule::{Passed, Schedule},
    sites::{SiteList, Sites},
    surroundings::Surroundings,
    trial::Checked,
};
use crate::{
    intake::Intake,
    model::{Report, Slot},
    supervision::{Fault, Stop},
};

/// How long a site that ends waits for room to say so: while Kafka is away it must not hold up the others' end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Each expectation of `site` with, where it fails, what is wrong: for people who want to see all of them.
pub fn expectations(
    site: &SiteSettings,
    attempt: &Attempt,
    now: Slot,
    see: &mut dyn FnMut(&dyn std::fmt::Display, Option<Failure>),
) {
    verdict::expectations(&site.url, &site.options, attempt, now, see);
}

/// Where a redirect leads from `https://a.example/`: for fuzzing only.
#[cfg(fuzzing)]
pub fn follow(status: u16, location: &[u8]) -> Option<sitewatch_config::Url> {
    probe::follow(status, location)
}

/// What the actor and its running loop both see.
#[derive(Default)]
struct Progress {
    /// The slot whose check is under way.
    checking: Cell<Option<Slot>>,
    /// The first slot that has not been told of. A clock that is set back to slots that were does not change it.
    next: Cell<Option<Slot>>,
    /// How many steps of the clock the schedule has gone around.
    steps: Cell<u64>,
    /// What has been announced.
    standing: RefCell<Standing>,
    stopping: Cell<bool>,
}

/// Checks one site for as long as it lives.
pub struct Site {
    settings: Arc<SiteSettings>,
    around: Arc<Surroundings>,
    results: Intake<Report>,
    progress: Rc<Progress>,
    running: Option<SpawnHandle>,
    fault: Fault,
}

impl Site {
    /// An actor that checks `settings` and offers what it finds to `results`.
    pub fn new(
        settings: Arc<SiteSettings>,
        around: Arc<Surroundings>,
        results: Intake<Report>,
        fault: Fault,
    ) -> Self {
        around.metrics.sites.inc();
        Self {
            settings,
            around,
            results,
            progress: Rc::default(),
            running: None,
            fault,
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        let run = self.run();
        let running = run.go_on().into_actor(self).map(|end, me, ctx| match end {
            Ok(()) => me.end(ctx),
            Err(fault) => {
                me.fault.raise(fault);
                ctx.stop();
            }
        });
        self.running = Some(ctx.spawn(running));
    }

    /// Says which slot is the first that is not taken any more, and stops.
    fn end(&mut self, ctx: &mut Context<Self>) {
        let run = self.run();
        let farewell = async move {
            if tokio::time::timeout(FAREWELL, run.announce_end())
                .await
                .is_err()
            {
                warn!(run.around.log, "no room to announce a site's end"; "site" => &*run.settings.name);
            }
        };
        ctx.spawn(farewell.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }

    fn run(&self) -> Run {
        Run {
            schedule: Schedule::new(&self.settings.name, &self.settings.options.schedule),
            parts: Parts::of(&self.settings),
            settings: Arc::clone(&self.settings),
            around: Arc::clone(&self.around),
            results: self.results.clone(),
            progress: Rc::clone(&self.progress),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.around.metrics.sites.dec();
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
            if let Some(running) = self.running.take() {
                ctx.cancel_future(running);
            }
            self.end(ctx);
        }
    }
}
