//! The commands that do one thing and end.

use std::{
    io::{self, Write as _},
    path::Path,
};

use sitewatch_actors::writer;
use sitewatch_config::{ImportFormat, LogFormat, LogLevel, LogSettings, Sources, load_any};

use crate::{SCHEMA, exit::Failure, logging::Logging};

/// Writes another monitor's configuration as ours, and lists what could not be carried over.
pub(crate) fn import(format: ImportFormat, file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::config(format!("{shown}: {error}")))?;
    let imported = sitewatch_config::import(format, &text)
        .map_err(|error| Failure::config(format!("{shown}: {error}")))?;
    let _ = io::stdout().write_all(imported.yaml.as_bytes());
    let mut told = format!("{} sites written", imported.sites);
    if !imported.left_out.is_empty() {
        told += &format!("; {} things to know:", imported.left_out.len());
    }
    for line in &imported.left_out {
        told += &format!("\n  {line}");
    }
    // Beside the settings, which may go into a file.
    let _ = writeln!(io::stderr(), "{told}");
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
