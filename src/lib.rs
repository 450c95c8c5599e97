//! sitewatch-node: builds the actor tree of a role, runs it, and holds the commands.
//!
//! Arrows point down only: this crate → `sitewatch-actors` → `sitewatch-config`.

pub mod audit;
pub mod check;
pub mod cli;
mod commands;
pub mod dead_letter;
mod demo_site;
mod ending;
mod exit;
pub mod export;
mod http;
mod logging;
pub mod maintenance;
mod node;
mod output;
pub mod range;
pub mod rejudge;
pub mod report;
mod settings;
pub mod spool;
mod standalone;
mod tree;
mod validate;
mod when;
pub mod whose;

use std::process::ExitCode;

use cli::{Arguments, Command};
pub use exit::Failure;
use sitewatch_config::Sources;

/// The text of `schema.sql`.
pub const SCHEMA: &str = include_str!("../schema.sql");

/// Runs the program with these arguments to its end.
pub fn run(arguments: Arguments) -> ExitCode {
    // Reads FAILPOINTS from the environment; without the feature nothing of it is compiled.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let sources = Sources::from_process(arguments.config, arguments.sites);
    let end = match (arguments.command, arguments.role) {
        (Some(Command::Check(what)), _) => return check::check(&what, sources.config),
        (
            Some(Command::Validate {
                name: Some(name), ..
            }),
            _,
        ) => validate::explain(&sources, &name),
        (
            Some(Command::Validate {
                diff: Some(old), ..
            }),
            role,
        ) => validate::diff(&sources, old, role.map(Into::into)),
        (Some(Command::Validate { .. }), role) => {
            validate::validate(&sources, role.map(Into::into))
        }
        (Some(Command::Import { format, file }), _) => commands::import(format, &file),
        (Some(Command::Migrate), _) => commands::migrate(&sources),
        (Some(Command::Housekeep), _) => commands::housekeep(&sources),
        (Some(Command::Audit(what)), _) => match audit::audit(&sources, &what) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        (Some(Command::Spool { what }), _) => spool::spool(&sources, &what),
        (Some(Command::DeadLetter { what }), _) => dead_letter::dead_letter(&sources, &what),
        (Some(Command::Report(what)), _) => report::report(&sources, &what),
        (Some(Command::Export(what)), _) => export::export(&sources, &what),
        (Some(Command::Rejudge(what)), _) => rejudge::rejudge(&sources, &what),
        (Some(Command::Maintenance { what }), _) => maintenance::maintenance(&sources, &what),
        (None, Some(role)) => node::run(role.into(), sources, arguments.watch, arguments.demo_site),
        (None, None) => Err(Failure::usage(
            "say what to do: --role producer|consumer|standalone, or a command; see --help",
        )),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
