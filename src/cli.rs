//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use sitewatch_config::ImportFormat;

use crate::{
    audit::AuditArguments, check::CheckArguments, dead_letter::DeadLetterCommand,
    export::ExportArguments, maintenance::MaintenanceCommand, rejudge::RejudgeArguments,
    report::ReportArguments, spool::SpoolCommand,
};

/// Checks many websites on a schedule, publishes each result to Kafka, and stores the results in PostgreSQL exactly once.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// What this process does
    #[arg(long, value_enum, global = true)]
    pub role: Option<RoleName>,

    /// Settings file: YAML, TOML or JSON [default: sitewatch.yaml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Check this URL too; may be repeated, needs no file
    #[arg(long = "site", value_name = "URL")]
    pub sites: Vec<String>,

    /// Show the latest results (standalone): as a table on a terminal, else as a line a result
    #[arg(long)]
    pub watch: bool,

    /// Serve a small site to look at, on 127.0.0.1 only (standalone): at PORT it works, is slow or broken by path, at the port
    /// after it by turns. `config/demo.yaml` checks it
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65534))]
    pub demo_site: Option<u16>,

    /// A command instead of a role
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands that do one thing and end.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check one site now and show what took how long. Exit code: 0 up, 1 not up, 2 could not tell
    Check(Box<CheckArguments>),
    /// Read the settings, report every mistake, start nothing
    Validate {
        /// Show what is in force for this site, and where it was written
        #[arg(long = "site", id = "name", value_name = "NAME")]
        name: Option<String>,
        /// Show what a reload from this settings file would start (+), stop (-) and replace (~)
        #[arg(long, value_name = "OLD")]
        diff: Option<PathBuf>,
    },
    /// Write the configuration of another monitor as a settings file, and list what could not be carried over
    Import {
        /// Whose configuration it is: gatus, blackbox, uptime-kuma, url_config
        #[arg(value_name = "FORMAT")]
        format: ImportFormat,
        /// The file
        file: PathBuf,
    },
    /// Bring the database's schema up to date
    Migrate,
    /// Make partitions ahead, compute rollups, judge late checks, drop what is too old, once: what a consumer does every minute. For the owner of the
    /// tables where the consumer's user is not
    Housekeep,
    /// Compare the rows that must exist with those that do. Exit code: 0 complete, 1 something is missing, double or unscheduled
    Audit(AuditArguments),
    /// Uptime, coverage, incidents, response times and error budgets of sites and groups, from the stored results
    Report(ReportArguments),
    /// Write checks as Parquet or CSV
    Export(ExportArguments),
    /// Which incidents other thresholds would have made of the stored results. Nothing is changed
    Rejudge(RejudgeArguments),
    /// Declare windows in which failures do not count, also after the fact
    Maintenance {
        /// What to do
        #[command(subcommand)]
        what: MaintenanceCommand,
    },
    /// Look at messages that could not be stored, store them after all, or throw them away
    DeadLetter {
        /// What to do
        #[command(subcommand)]
        what: DeadLetterCommand,
    },
    /// Look at a producer's spool, or send what is in it
    Spool {
        /// What to do
        #[command(subcommand)]
        what: SpoolCommand,
    },
}

/// The roles, as words.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleName {
    /// Check sites, publish results to Kafka
    Producer,
    /// Store results from Kafka in PostgreSQL
    Consumer,
    /// Both in one process, on an embedded broker and a private PostgreSQL: for evaluation
    Standalone,
}

impl From<RoleName> for sitewatch_config::Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Producer => Self::Producer,
            RoleName::Consumer => Self::Consumer,
            RoleName::Standalone => Self::Standalone,
        }
    }
}

const AFTER_HELP: &str = "\
Settings come from the file, then from the environment: KAFKA_SERVER, KAFKA_TOPIC, POSTGRES_URL, URL_CONFIG_FILE, and
SITEWATCH__SECTION__KEY for any key of the file (SITEWATCH__KAFKA__BROKERS). A file .env is read where present.
Commands that need a database use postgres.url, or else the one of a standalone in node.data_dir, running or not.

Examples:
  sitewatch-node check https://example.org/
  sitewatch-node check https://example.org/ --body-matches welcome --min-cert-days 14
  sitewatch-node import gatus config.yaml > sitewatch.yaml
  sitewatch-node --role standalone --site https://example.org/ --watch
  sitewatch-node report --from -1h
  POSTGRES_URL=postgres://user@localhost/db sitewatch-node audit --since -24h
  POSTGRES_URL=postgres://user@localhost/db sitewatch-node report --from -30d --format html > report.html
  KAFKA_SERVER=localhost:9092 sitewatch-node --role producer --config sitewatch.yaml
  KAFKA_SERVER=localhost:9092 POSTGRES_URL=postgres://user@localhost/db sitewatch-node --role consumer

Signals: SIGHUP reloads the settings; SIGTERM or SIGINT drains and ends, a second one ends at once.
Exit codes: 0 ended in order, 64 usage, 69 a service is unavailable, 70 an actor failed for good, 74 a file can't be written, 75 not all was drained in time,
78 the settings are wrong, 130 ended by SIGINT before the work was done, 143 by SIGTERM, 129 by SIGHUP.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
