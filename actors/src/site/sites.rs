//! The group of site actors: one for each site, spread over the worker threads, changed by reloads.

use std::{collections::HashMap, sync::Arc};

use actix::prelude::*;
use actix_rt::ArbiterHandle;
use sitewatch_config::{RestartSettings, Site as SiteSettings, diff_sites};
use slog::{Logger, debug, info};

use super::{Site, Surroundings};
use crate::{
    intake::Intake,
    model::Report,
    supervision::{Children, Ended, Exit, Fault, Life, Stop, Supervision, Unborn},
    wanted::{Changed, Wanted},
};

/// The sites to be checked.
pub type SiteList = Vec<Arc<SiteSettings>>;

/// Starts, stops and replaces site actors.
pub struct Sites {
    wanted: Wanted<SiteList>,
    sites: SiteList,
    around: Arc<Surroundings>,
    results: Intake<Report>,
    workers: Vec<ArbiterHandle>,
    supervision: Arc<Supervision>,
    fault: Fault,
    children: Children,
    /// Sites on each worker, so that a new one goes where there are the fewest.
    load: Vec<usize>,
    places: HashMap<Arc<str>, usize>,
    stopping: bool,
    log: Logger,
}

impl Sites {
    /// The group of these sites on these worker threads (at least one).
    pub fn new(
        wanted: Wanted<SiteList>,
        around: Arc<Surroundings>,
        results: Intake<Report>,
        workers: Vec<ArbiterHandle>,
        restart: RestartSettings,
        fault: Fault,
    ) -> Self {
        let (children, _) = Children::new();
        let log = around.log.clone();
        let load = vec![0; workers.len()];
        let supervision = Arc::new(Supervision {
            kind: "site",
            log: log.clone(),
            restart,
            metrics: around.metrics.clone(),
        });
        Self {
            sites: (*wanted.latest()).clone(),
            wanted,
            around,
            results,
            workers,
            supervision,
            fault,
            children,
            load,
            places: HashMap::new(),
            stopping: false,
            log,
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        // After a failure of the group the sites of its life before still run: as at a reload they finish what they do, and
        // their successors begin with the next slots.
        self.children.stop_all();
        let (children, ends) = Children::new();
        self.children = children;
        self.load.fill(0);
        self.places.clear();
        ctx.add_stream(ends);
        ctx.add_stream(self.wanted.changes());
        for site in self.sites.clone() {
            self.start(&site);
        }
        info!(self.log, "checking"; "sites" => self.sites.len(), "workers" => self.workers.len());
    }

    fn start(&mut self, site: &Arc<SiteSettings>) {
        let Some(place) = (0..self.workers.len()).min_by_key(|place| self.load[*place]) else {
            return;
        };
        self.load[place] += 1;
        self.places.insert(Arc::clone(&site.name), place);
        let life = self.life(Arc::clone(site));
        self.children
            .start_on(&self.workers[place], Arc::clone(&site.name), life);
    }

    fn life(&self, site: Arc<SiteSettings>) -> Life {
        let (around, results) = (Arc::clone(&self.around), self.results.clone());
        let supervision = Arc::clone(&self.supervision);
        Box::new(move |stop| {
            let make = |fault| Site::new(site, around, results, fault);
            Box::pin(Unborn::default().live(make, supervision, stop))
        })
    }

    fn stop(&mut self, name: &str) {
        self.children.retire(name);
        if let Some(place) = self.places.remove(name) {
            self.load[place] -= 1;
        }
    }

    /// Takes over what a reload wants. Sites that did not change are left alone.
    fn replace(&mut self, sites: SiteList) {
        // First of all, so that a life after a failure in the middle starts with these too.
        let old = std::mem::replace(&mut self.sites, sites);
        fail::fail_point!("sites::reload");
        let changes = diff_sites(&old, &self.sites);
        for name in &changes.stop {
            self.stop(name);
        }
        for (_, site) in &changes.replace {
            self.stop(&site.name);
            self.start(site);
        }
        for site in &changes.start {
            self.start(site);
        }
        info!(self.log, "sites reloaded"; "started" => changes.start.len(), "stopped" => changes.stop.len(),
            "replaced" => changes.replace.len(), "unchanged" => changes.unchanged);
    }
}

impl Actor for Sites {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Supervised for Sites {}

impl StreamHandler<Ended> for Sites {
    fn handle(&mut self, end: Ended, ctx: &mut Self::Context) {
        let unasked = self.children.note(&end);
        let failed = match end.exit {
            Exit::Stopped => false,
            Exit::GaveUp(_) => true,
            _ => unasked,
        };
        if failed && !self.stopping {
            self.fault.raise(format!("site {}: {}", end.id, end.exit));
            ctx.stop();
        } else if self.stopping && self.children.is_empty() {
            debug!(self.log, "all sites have stopped");
            self.results.flush();
            ctx.stop();
        }
    }
}

impl StreamHandler<Changed> for Sites {
    fn handle(&mut self, _: Changed, _: &mut Self::Context) {
        if self.stopping {
            return;
        }
        if let Some(renewal) = self.wanted.take() {
            self.replace((*renewal.settings).clone());
            renewal.confirm();
        }
    }
}

impl Handler<Stop> for Sites {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.stopping = true;
        self.children.stop_all();
        if self.children.is_empty() {
            self.results.flush();
            ctx.stop();
        }
    }
}
