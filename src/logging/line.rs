//! A record as a line, in the format that is wanted now, on standard error.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use sitewatch_actors::model::Slot;
use slog::{Drain, FnValue, OwnedKVList, Record, o};

/// How long a standard error that does not block, as another process may have set it, is left alone when it is full.
const FULL: Duration = Duration::from_millis(10);

type LineDrain = Box<dyn Drain<Ok = (), Err = io::Error> + Send>;

/// Writes each record as one line. Waits for whoever reads standard error.
pub(super) struct Lines {
    terminal: LineDrain,
    json: LineDrain,
    is_json: Arc<AtomicBool>,
    /// The line that is being made. On a terminal that shows colours it stays empty: they are written in between.
    line: Line,
    /// True after a part of a line, where the rest could not be written.
    torn: bool,
}

impl Lines {
    /// Returns lines on standard error: JSON while `is_json` says so.
    pub(super) fn new(is_json: Arc<AtomicBool>) -> Self {
        let line = Line::default();
        let terminal: LineDrain = if io::stderr().is_terminal() {
            let colours = slog_term::TermDecorator::new().stderr().build();
            let format = slog_term::FullFormat::new(colours).use_utc_timestamp();
            Box::new(format.build())
        } else {
            let plain = slog_term::PlainDecorator::new(line.clone());
            let format = slog_term::FullFormat::new(plain).use_utc_timestamp();
            Box::new(format.build())
        };
        let json = slog_json::Json::new(line.clone())
            .set_newlines(true)
            .add_key_value(o!(
                "ts" => FnValue(|_: &Record<'_>| Slot::from_system_time(SystemTime::now()).to_string()),
                "level" => FnValue(|record: &Record<'_>| record.level().as_str()),
                "msg" => FnValue(|record: &Record<'_>| record.msg().to_string()),
            ))
            .build();
        Self {
            terminal,
            json: Box::new(json),
            is_json,
            line,
            torn: false,
        }
    }

    /// Writes the line of `record`.
    ///
    /// # Errors
    /// If nobody reads standard error any more, or its disk is full.
    pub(super) fn write(&mut self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let format = if self.is_json.load(Ordering::Relaxed) {
            &self.json
        } else {
            &self.terminal
        };
        let formatted = format.log(record, values);
        let mut line = self.line.take();
        formatted?;
        if self.torn {
            line.insert(0, b'\n');
        }
        let mut written = 0;
        let end = write_all(&mut io::stderr(), &line, &mut written);
        self.torn = match &end {
            Ok(()) => false,
            Err(_) => written > 0 || self.torn,
        };
        end
    }
}

/// Writes all of `bytes`, and says how many of them were `written` before an error.
fn write_all(out: &mut impl Write, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < bytes.len() {
        match out.write(&bytes[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => *written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A line in the making, shared by the formats.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<Vec<u8>>>);

impl Line {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
