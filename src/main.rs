//! The program's entry: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use sitewatch_node::{Failure, cli::Arguments, run};

/// A check makes and drops a few dozen small things on a worker thread, which glibc's allocator answers with two calls of
/// mprotect; and it keeps what reading the settings took. docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
