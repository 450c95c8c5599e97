//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

/// Runs two producers, two consumers, three Kafka brokers and a PostgreSQL while a seeded schedule of faults hits them, then
/// lets judges look for what was lost or doubled. Exit code: 0 nothing was, 1 something was, 69 the services did not work.
#[derive(Clone, Debug, Parser)]
#[command(name = "scripts/torture")]
pub(crate) struct Arguments {
    /// How long faults are injected
    #[arg(long, default_value_t = 5.0)]
    pub(crate) minutes: f64,

    /// What the schedule of faults is drawn from [default: the clock]
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// Sites, each checked once a second from both locations
    #[arg(long, default_value_t = 150)]
    pub(crate) sites: usize,

    /// The first of the 20 ports that are used, all on 127.0.0.1
    #[arg(long, default_value_t = 21_000)]
    pub(crate) port: u16,

    /// Only this kind of fault; may be repeated
    #[arg(long, value_name = "KIND")]
    pub(crate) only: Vec<String>,

    /// Print the schedule and end
    #[arg(long)]
    pub(crate) plan: bool,

    /// Keep logs and data also after a run in which nothing was wrong
    #[arg(long)]
    pub(crate) keep: bool,

    /// Where everything is written
    #[arg(long, value_name = "FOLDER", default_value = "target/torture")]
    pub(crate) folder: PathBuf,
}

impl Arguments {
    /// How long faults are injected.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64((self.minutes * 60.0).clamp(5.0, 100.0 * 3600.0))
    }

    /// The longest that the whole run may take: start, faults, recovery, judges.
    pub(crate) fn longest(&self) -> Duration {
        self.duration() + Duration::from_secs(420) + self.duration() / 5
    }
}
