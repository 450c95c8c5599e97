//! Standard output of commands.

use std::io::{self, Write as _};

use crate::exit::Failure;

/// Writes the text.
///
/// # Errors
/// If it can't be written, as on a full disk. A reader that has gone away has what it wanted.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    is_read(text).map(drop)
}

/// Writes the text. Returns false if the reader has gone away.
///
/// # Errors
/// If it can't be written, as on a full disk.
pub(crate) fn is_read(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::io(format!(
            "standard output can't be written: {error}"
        ))),
    }
}
