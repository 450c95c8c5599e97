//! What the node itself has no more of.

use std::io;

/// Codes of Linux for: no more files (in the system, in the process), memory or buffers.
const EXHAUSTED: [i32; 4] = [23, 24, 12, 105];

/// Whether the machine has no more of something that a connection needs.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code.is_some_and(|code| EXHAUSTED.contains(&code))
}
