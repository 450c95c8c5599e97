//! The commands that do one thing and end.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::SystemTime,
};

use sitewatch_actors::{
    metrics::Metrics,
    model::{CheckResult, Outcome, Slot},
    site::{self, Surroundings},
    writer,
};
use sitewatch_config::{LogFormat, LogLevel, LogSettings, Role, Sources, load, load_any};

use crate::{SCHEMA, exit::Failure, logging::Logging};

/// Checks one URL now.
pub(crate) fn check(url: &str, json: bool) -> ExitCode {
    match check_once(url, json) {
        Ok(Outcome::Up) => ExitCode::SUCCESS,
        Ok(Outcome::Degraded | Outcome::Down) => ExitCode::from(1),
        Ok(Outcome::Unknown) => ExitCode::from(2),
        Err(failure) => {
            failure.tell();
            ExitCode::from(2)
        }
    }
}

fn check_once(url: &str, json: bool) -> Result<Outcome, Failure> {
    // Only this URL: the settings file and its sites have no part in it, but their form of checking a URL has.
    let mut sources = Sources::from_process(None, vec![url.to_owned()]);
    sources.env.retain(|key, _| key == "HOSTNAME");
    sources.working_dir = std::path::PathBuf::from("/nonexistent");
    let settings = load_any(&sources).map_err(Failure::config)?;
    let site = settings
        .sites
        .first()
        .ok_or_else(|| Failure::usage("no URL"))?;
    let around = Surroundings::new(
        settings.node.location,
        (1, 1),
        Metrics::new().map_err(Failure::software)?,
        slog::Logger::root(slog::Discard, slog::o!()),
    );
    let slot = Slot::from_system_time(SystemTime::now());
    let result = actix_rt::System::new()
        .block_on(site::check(site, slot, &around))
        .result;
    let text = if json {
        serde_json::to_string(&result).map_err(Failure::software)? + "\n"
    } else {
        readable(&result)
    };
    // A closed pipe takes nothing away from the exit code.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(result.outcome)
}

fn readable(result: &CheckResult) -> String {
    let mut text = format!(
        "{} is {}",
        result.url,
        result.outcome.as_str().to_uppercase()
    );
    if let Some(error) = result.error {
        let _ = write!(
            text,
            ": {}: {}",
            error.as_str(),
            result.error_detail.as_deref().unwrap_or_default()
        );
    }
    text.push('\n');
    if let Some(status) = result.status {
        let _ = writeln!(text, "  status   {status}");
    }
    if let Some(address) = result.remote_ip {
        let _ = writeln!(text, "  address  {address}");
    }
    let phases = result.phases;
    let rows = [
        ("dns", phases.dns_us),
        ("connect", phases.connect_us),
        ("tls", phases.tls_us),
        ("ttfb", phases.ttfb_us),
        ("body", phases.body_us),
        ("total", phases.total_us),
    ];
    for (name, micros) in rows
        .into_iter()
        .filter_map(|(name, micros)| Some((name, micros?)))
    {
        let _ = writeln!(text, "  {name:<8} {:>9.1} ms", f64::from(micros) / 1000.0);
    }
    text
}

/// Reads the settings and reports every mistake.
pub(crate) fn validate(sources: &Sources, role: Option<Role>) -> Result<(), Failure> {
    let settings = role
        .map_or_else(|| load_any(sources), |role| load(role, sources))
        .map_err(Failure::config)?;
    let files: Vec<_> = settings
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let text = format!(
        "settings are valid: {} sites from {}\n",
        settings.sites.len(),
        if files.is_empty() {
            "no file".to_owned()
        } else {
            files.join(", ")
        }
    );
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Brings the database's schema up to date.
pub(crate) fn migrate(sources: &Sources) -> Result<(), Failure> {
    let settings = load_any(sources).map_err(Failure::config)?;
    let logging = Logging::start(&LogSettings {
        format: LogFormat::Terminal,
        level: LogLevel::Info,
    });
    actix_rt::System::new()
        .block_on(writer::migrate(&settings.postgres, SCHEMA, &logging.log))
        .map_err(|error| {
            if error.is_final() {
                Failure::config(error)
            } else {
                Failure::unavailable(format!("PostgreSQL: {error}"))
            }
        })
}
