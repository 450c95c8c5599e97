//! The program's entry: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use sitewatch_node::{Failure, cli::Arguments, run};

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => run(arguments),
        Err(answer) => {
            // Help and version are asked for; a mistake ends with the code of sysexits.h instead of clap's own.
            let _ = answer.print();
            if answer.use_stderr() {
                ExitCode::from(Failure::USAGE)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}
