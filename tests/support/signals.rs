//! Signals to processes, by the system call: the program `kill` is a package of its own, which not every machine has.

use std::io;

use rustix::process::{Pid, Signal, kill_process};

/// Sends the signal `name`, as `TERM`, to process `id`.
///
/// # Errors
/// If there is no such process, or it belongs to another user.
pub(crate) fn send(id: u32, name: &str) -> io::Result<()> {
    let signal = match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        "CONT" => Signal::CONT,
        "STOP" => Signal::STOP,
        _ => panic!("the tests send no signal {name:?}"),
    };
    let process = i32::try_from(id).ok().and_then(Pid::from_raw);
    // Number 0 would be the whole process group of the test.
    let process = process.ok_or_else(|| io::Error::other(format!("no process has number {id}")))?;
    Ok(kill_process(process, signal)?)
}
