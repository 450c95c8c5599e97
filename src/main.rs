//! The program: reads its arguments, runs, and turns the end into an exit code. Decides nothing else.

use std::process::ExitCode;

use clap::Parser;
use sitewatch_node::{cli::Arguments, run};

fn main() -> ExitCode {
    run(Arguments::parse())
}
