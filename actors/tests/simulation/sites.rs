//! The sites of the simulated producers: real settings, and answers that are late, absent or make the check panic.

use std::{sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use sitewatch_actors::{
    model::{ErrorKind, Phases, Reached},
    site::{Attempt, Failure, Part, Prober},
};
use sitewatch_config::{Site, SiteOptions, Sources, load_any};
use tokio::time::sleep;

use super::world::World;

/// How many sites a producer has.
pub(crate) const SITES: u64 = 3;

/// The sites of the producer `number`. Their intervals and whether failures are checked again are drawn.
pub(crate) fn sites(number: u64, world: &World) -> Vec<Arc<Site>> {
    let url = |n| format!("http://producer-{number}.example/{n}");
    let sources = Sources {
        sites: (0..SITES).map(url).collect(),
        isolated: true,
        ..Sources::default()
    };
    let settings = load_any(&sources).expect("the settings are good");
    let drawn = |site: &Arc<Site>| changed(site, world);
    settings.sites.iter().map(drawn).collect()
}

/// The same site with another interval, shorter than settings allow.
pub(crate) fn changed(site: &Site, world: &World) -> Arc<Site> {
    let mut options = SiteOptions::clone(&site.options);
    let schedule = &mut options.schedule;
    schedule.interval = Duration::from_millis(250) + world.millis(1000);
    schedule.timeout = Duration::from_millis(100) + world.millis(900);
    schedule.retries = world.below(3) as u8;
    schedule.retry_delay = world.millis(300);
    let mut site = site.clone();
    site.options = Arc::new(options);
    Arc::new(site)
}

/// Whether a row is one of these sites.
pub(crate) fn is_of_a_producer(site: &str) -> bool {
    site.starts_with("http://producer-")
}

/// Answers for all sites of this thread's simulation.
pub(crate) struct Answers;

impl Prober for Answers {
    fn attempt<'a>(&'a self, site: &'a Site, _: Part<'a>) -> LocalBoxFuture<'a, Attempt> {
        Box::pin(answer(site.options.schedule.timeout))
    }
}

async fn answer(timeout: Duration) -> Attempt {
    let world = World::current();
    let takes = match world.below(100) {
        0..3 if world.has_faults() => world.millis(3000),
        _ => world.millis(40),
    };
    sleep(takes.min(timeout)).await;
    world.panic_sometimes(5, "a site");
    let phases = Phases {
        total_us: Some(takes.min(timeout).as_micros() as u32),
        ..Phases::default()
    };
    if takes > timeout || world.chance(100) {
        return Attempt {
            failure: Some(Failure::new(ErrorKind::ConnectTimeout, "simulated")),
            reached: Reached::Connect,
            phases,
            ..Attempt::default()
        };
    }
    Attempt {
        status: Some(200),
        reached: Reached::End,
        phases,
        ..Attempt::default()
    }
}
