//! The terminal: the table has the alternate screen, so that what was there before comes back at the end.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::table::{Size, Table};

/// The alternate screen; no cursor; no wrapping, so that a line that is too wide can't push the others down.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What a terminal that does not say its size is taken for.
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};

/// Whether the terminal shows the table, for an end that runs no destructor.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// How long such an end waits for a terminal that takes nothing.
const FAREWELL: Duration = Duration::from_millis(200);

/// Gives the terminal back as it was, if the table is shown.
pub(crate) fn give_terminal_back() {
    if !IS_TAKEN.load(Ordering::Relaxed) {
        return;
    }
    let (written, end) = mpsc::channel();
    // Past the lock of standard output, which a thread may hold that waits for the terminal.
    let writing = thread::Builder::new().spawn(move || {
        let _ = rustix::io::write(io::stdout(), LEAVE.as_bytes());
        let _ = written.send(());
    });
    if writing.is_ok() {
        let _ = end.recv_timeout(FAREWELL);
    }
}

/// Whether standard output is a terminal on which text can be put in a place.
pub(super) fn is_table_possible() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !is_dumb
}

/// The terminal while the table is shown. Dropped, it is as it was.
pub(super) struct Screen {
    has_colours: bool,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        // https://no-color.org: any value but an empty one.
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let screen = Self { has_colours };
        IS_TAKEN.store(true, Ordering::Relaxed);
        write(ENTER)?;
        Ok(screen)
    }

    /// Draws over what is there, each line to its end: nothing flickers, and what a log has written there goes.
    pub(super) fn draw(&mut self, table: &Table) -> io::Result<()> {
        let lines = table.lines(size(), self.has_colours);
        write(&format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no more.
        let _ = write(LEAVE);
        IS_TAKEN.store(false, Ordering::Relaxed);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(found) if found.ws_col > 0 && found.ws_row > 0 => Size {
            columns: found.ws_col.into(),
            rows: found.ws_row.into(),
        },
        _ => USUAL,
    }
}
