//! The command `check`: one site, now, for people.

mod flags;
mod waterfall;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use sitewatch_actors::{
    metrics::Metrics,
    model::{Outcome, printable_json},
    site::{Checked, Parts, Surroundings},
};
use sitewatch_config::{Site, Sources, load_any};

pub use self::flags::SiteFlags;
use crate::exit::Failure;
use crate::output::is_read;

/// The shortest pause between two checks of one site: who checks faster measures the server's limits, not its health.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

fn pause(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(pause) if pause >= SHORTEST_PAUSE => Ok(pause),
        _ => Err("a duration such as 1s or 500ms, at least 100ms, is right".to_owned()),
    }
}

const AFTER_HELP: &str = "\
Examples:
  sitewatch-node check https://example.org/ --body-matches welcome --min-cert-days 14
  sitewatch-node check https://example.org/login --method POST --form 'user=me,password=${PASSWORD}' --expected-status 302 --follow-redirects=false
  sitewatch-node check http://localhost:8080/health --allow-private --expect-json '{$.status: {equals: ok}}' --limits total=800ms
  sitewatch-node check https://example.org/ --resolve each
  sitewatch-node check --site shop --config sitewatch.yaml --watch 1s

docs/checks.md tells what each option means. Exit code: 0 up, 1 not up, 2 could not tell (also where the settings are wrong), 64 usage.";

/// For the addresses of one name, all at once.
const PLACES: (usize, usize) = (64, 64);

/// What to check, and how to show it.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArguments {
    /// What to check. No settings file is read for it, unless --config names one: then its defaults are in force
    #[arg(required_unless_present = "name")]
    url: Option<String>,

    /// Check the site of this name in the settings file
    #[arg(
        long = "site",
        id = "name",
        value_name = "NAME",
        conflicts_with = "url"
    )]
    name: Option<String>,

    /// Print the message that would go to Kafka
    #[arg(long)]
    json: bool,

    /// Check again and again, so long after one another (100ms or more)
    #[arg(long, value_name = "DURATION", value_parser = pause)]
    watch: Option<Duration>,

    #[command(flatten)]
    flags: SiteFlags,
}

/// Checks one site. The exit code: 0 up, 1 not up, 2 could not tell.
pub(crate) fn check(arguments: &CheckArguments, config: Option<PathBuf>) -> ExitCode {
    match check_once_or_more(arguments, config) {
        Ok(Outcome::Up) => ExitCode::SUCCESS,
        Ok(Outcome::Degraded | Outcome::Down) => ExitCode::from(1),
        Ok(Outcome::Unknown) => ExitCode::from(2),
        Err(failure) => {
            failure.tell();
            ExitCode::from(2)
        }
    }
}

fn check_once_or_more(
    arguments: &CheckArguments,
    config: Option<PathBuf>,
) -> Result<Outcome, Failure> {
    let (site, location) = find(arguments, config)?;
    let around = Surroundings::new(
        location,
        PLACES,
        Metrics::new().map_err(Failure::software)?,
        slog::Logger::root(slog::Discard, slog::o!()),
    );
    actix_rt::System::new().block_on(async {
        let parts = Parts::of(&site);
        loop {
            let all = parts.check(&site, around.clock.now(), &around).await;
            let mut text = String::new();
            for (n, checked) in all.iter().enumerate() {
                if n > 0 && is_picture(arguments) {
                    text.push('\n');
                }
                text += &show(arguments, &site, checked, &around)?;
            }
            let is_read = is_read(&text)?;
            match arguments.watch {
                Some(pause) if is_read => tokio::time::sleep(pause).await,
                // A closed pipe takes nothing away from the exit code.
                _ => return Ok(worst(&all)),
            }
        }
    })
}

/// What the exit code tells where a site is checked at each of its addresses.
fn worst(all: &[Checked]) -> Outcome {
    let badness = |outcome: &Outcome| match outcome {
        Outcome::Up => 0,
        Outcome::Unknown => 1,
        Outcome::Degraded => 2,
        Outcome::Down => 3,
    };
    let outcomes = all.iter().map(|checked| checked.result.outcome);
    outcomes.max_by_key(badness).unwrap_or(Outcome::Unknown)
}

/// The site that is meant, and where this node stands.
fn find(
    arguments: &CheckArguments,
    config: Option<PathBuf>,
) -> Result<(Arc<Site>, String), Failure> {
    let mut sources = Sources::from_process(config, Vec::new());
    let Some(url) = &arguments.url else {
        let name = arguments.name.as_deref().unwrap_or_default();
        if !arguments.flags.0.is_empty() {
            let flag = &arguments.flags.0[0].0;
            return Err(Failure::usage(format!(
                "--{flag} goes with a URL: the options of the site {name:?} are those of the settings file"
            )));
        }
        let settings = load_any(&sources).map_err(Failure::config)?;
        let site = settings.sites.iter().find(|site| &*site.name == name);
        let site = site.ok_or_else(|| {
            Failure::config(format!(
                "no site is named {name:?}; there are {}: {}",
                settings.sites.len(),
                some_names(&settings.sites)
            ))
        })?;
        return Ok((Arc::clone(site), settings.node.location));
    };
    // Only this URL: without --config the settings of a node have no part in it.
    sources.isolated = sources.config.is_none();
    sources.flags = vec![("url".to_owned(), vec![url.clone()])];
    sources.flags.extend(arguments.flags.0.iter().cloned());
    let settings = load_any(&sources).map_err(Failure::config)?;
    // The site of the flags comes last.
    let site = settings
        .sites
        .last()
        .ok_or_else(|| Failure::usage("no URL"))?;
    Ok((Arc::clone(site), settings.node.location))
}

fn some_names(sites: &[Arc<Site>]) -> String {
    let names: Vec<&str> = sites.iter().take(10).map(|site| &*site.name).collect();
    let more = if sites.len() > names.len() {
        ", …"
    } else {
        ""
    };
    format!("{}{more}", names.join(", "))
}

fn is_picture(arguments: &CheckArguments) -> bool {
    !arguments.json && arguments.watch.is_none()
}

fn show(
    arguments: &CheckArguments,
    site: &Site,
    checked: &Checked,
    around: &Surroundings,
) -> Result<String, Failure> {
    if arguments.json {
        let message = serde_json::to_string(&checked.result).map_err(Failure::software)?;
        return Ok(printable_json(&message) + "\n");
    }
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Ok(if is_picture(arguments) {
        waterfall::picture(site, checked, around.clock.now(), colours)
    } else {
        waterfall::line(site, checked, colours)
    })
}
