//! Which time a command is about, as its arguments say it.

use std::time::SystemTime;

use clap::Args;
use sitewatch_actors::model::Slot;

use crate::{exit::Failure, when::instant};

/// The arguments. Flattened into a command.
#[derive(Debug, Args)]
pub struct RangeArguments {
    /// From this slot on: 2026-01-31T12:00:00Z, or so long ago as -24h
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = instant)]
    from: Slot,
    /// Until before this one [default: now]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = instant)]
    to: Option<Slot>,
}

impl RangeArguments {
    /// From when on, and until before when.
    ///
    /// # Errors
    /// If that is no time at all.
    pub(crate) fn range(&self) -> Result<(Slot, Slot), Failure> {
        let now = || Slot::from_system_time(SystemTime::now());
        let (from, to) = (self.from, self.to.unwrap_or_else(now));
        if to <= from {
            return Err(Failure::usage(format!(
                "--from {from} is not before --to {to}"
            )));
        }
        Ok((from, to))
    }
}
