//! Runs the actor tree of a role, and ends it in order.

use std::sync::Arc;

use actix_rt::System;
use sitewatch_actors::{kafka, metrics::Metrics};
use sitewatch_config::{Role, Settings, Sources, load};
use slog::{Logger, info, warn};

use crate::{
    demo_site,
    ending::Interruption,
    exit::Failure,
    http::{self, Status},
    logging::Logging,
    settings::{Overlay, warn_of},
    standalone::{Embedded, ResultsView},
    tree::{Tree, TreeParts},
};

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
    let interruption = Interruption::of_node()?;
    let metrics = Metrics::new().map_err(Failure::software)?;
    let logging = Logging::start(&settings.node.log, &metrics);
    let log = logging.log.clone();
    warn_of(&settings, &log);
    if role != Role::Consumer {
        allow_connections(settings.node.max_checks, &log);
    }
    let system = System::new();
    let end = system.block_on(async {
        if let Some(port) = demo_site {
            actix_rt::spawn(demo_site::serve(port, log.clone())?);
        }
        if role == Role::Standalone {
            return standalone(sources, settings, watch, &logging, metrics, &interruption).await;
        }
        let overlay = Arc::new(|_: &mut Settings| {});
        let tree = build_tree(role, sources, overlay, settings, &logging, metrics)?;
        tree.live(&interruption, std::future::pending()).await
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
    interruption: &Interruption,
) -> Result<(), Failure> {
    let log = logging.log.clone();
    let Some(mut embedded) = Embedded::start(&settings, &metrics, interruption, &log).await? else {
        info!(log, "ended in order, before all parts were there");
        return Ok(());
    };
    let overlay = embedded.overlay();
    overlay(&mut settings);
    let postgres = settings.postgres.clone();
    let role = Role::Standalone;
    let end = match build_tree(role, sources, overlay, settings, logging, metrics) {
        Ok(tree) => {
            let shown = watch.then(|| ResultsView::start(postgres, log.clone()));
            let end = tree.live(interruption, embedded.failed()).await;
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
    let parts = TreeParts {
        role,
        sources,
        overlay,
        logging: logging.control(),
        metrics,
        status,
        log,
    };
    Ok(Tree::new(parts, settings))
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
