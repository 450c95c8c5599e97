//! Structured logs: for the terminal or as JSON lines, on standard error; records of the `log` crate are bridged.
//!
//! Nothing that logs ever waits: a thread of its own writes the lines, and a line that finds the queue full, or can't be
//! written, is lost and counted. Once lines can be written again, one of them says how many were lost.

mod line;
mod queue;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use sitewatch_actors::metrics::Metrics;
use sitewatch_config::{LogFormat, LogLevel, LogSettings};
use slog::{Drain, Level, Logger, OwnedKVList, Record, error, o};

use self::{
    line::Lines,
    queue::{LogThread, Lost},
};
use crate::exit::Failure;

/// The log. Dropped, it waits a moment for what is queued to be written.
pub(crate) struct Logging {
    /// Where to log.
    pub(crate) log: Logger,
    control: LogControl,
    thread: LogThread,
    _scope: slog_scope::GlobalLoggerGuard,
}

impl Logging {
    /// Starts logging as the settings say; lines that are lost are counted in `metrics`. Panics are logged from now on.
    pub(crate) fn start(settings: &LogSettings, metrics: &Metrics) -> Self {
        let control = LogControl::default();
        control.set(settings);
        let lost = Lost::new(metrics.log_lines_lost.clone());
        let (queue, thread) = LogThread::start(Lines::new(Arc::clone(&control.json)), lost);
        let important = Important {
            inner: queue,
            control: control.clone(),
        };
        let log = Logger::root(important.ignore_res(), o!());
        let scope = slog_scope::set_global_logger(log.clone());
        // Fails only if a bridge is there already.
        let _ = slog_stdlog::init_with_level(log::Level::Warn);
        log_panics(log.clone());
        Self {
            log,
            control,
            thread,
            _scope: scope,
        }
    }

    /// Starts the log of a command that does one thing and ends: for people, whatever the settings say.
    ///
    /// # Errors
    /// Only if two metrics had the same name.
    pub(crate) fn of_command(level: LogLevel) -> Result<Self, Failure> {
        let settings = LogSettings {
            format: LogFormat::Terminal,
            level,
        };
        let metrics = Metrics::new().map_err(Failure::software)?;
        Ok(Self::start(&settings, &metrics))
    }

    /// Returns what a reload changes.
    pub(crate) fn control(&self) -> LogControl {
        self.control.clone()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        if !thread::panicking() {
            // From now on nobody writes what is logged: the default hook prints a panic.
            drop(panic::take_hook());
        }
        self.thread.finish();
    }
}

/// Logs panics instead of printing them: the default hook waits for whoever reads standard error, with a lock held for which
/// the next thread that panics waits too.
fn log_panics(log: Logger) {
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let reason = info.payload_as_str().unwrap_or("panic without a message");
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            error!(log, "panicked"; "thread" => name, "reason" => reason, "at" => place, "backtrace" => %backtrace);
        } else {
            error!(log, "panicked; RUST_BACKTRACE=1 in the environment shows the way there";
                "thread" => name, "reason" => reason, "at" => place);
        }
    }));
}

/// Changes the level and the format while the program runs.
#[derive(Clone, Default)]
pub(crate) struct LogControl {
    level: Arc<AtomicUsize>,
    json: Arc<AtomicBool>,
}

impl LogControl {
    pub(crate) fn set(&self, settings: &LogSettings) {
        let level = slog_level(settings.level).as_usize();
        self.level.store(level, Ordering::Relaxed);
        let json = settings.format == LogFormat::Json;
        self.json.store(json, Ordering::Relaxed);
    }
}

fn slog_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Trace => Level::Trace,
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warning => Level::Warning,
        LogLevel::Error => Level::Error,
    }
}

/// Passes on what is important enough.
struct Important<D> {
    inner: D,
    control: LogControl,
}

impl<D: Drain> Drain for Important<D> {
    type Ok = Option<D::Ok>;
    type Err = D::Err;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<Self::Ok, Self::Err> {
        if record.level().as_usize() > self.control.level.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.inner.log(record, values).map(Some)
    }
}
