//! Structured logs: for the terminal or as JSON lines, on standard error; records of the `log` crate are bridged.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use sitewatch_config::{LogFormat, LogLevel, LogSettings};
use slog::{Drain, FnValue, Level, Logger, OwnedKVList, Record, o};

/// The log. Dropped, it writes out what is queued.
pub(crate) struct Logging {
    /// Where to log.
    pub(crate) log: Logger,
    control: LogControl,
    _async: slog_async::AsyncGuard,
    _scope: slog_scope::GlobalLoggerGuard,
}

impl Logging {
    /// Starts logging as the settings say.
    pub(crate) fn start(settings: &LogSettings) -> Self {
        let control = LogControl::default();
        control.set(settings);
        let terminal = slog_term::FullFormat::new(slog_term::TermDecorator::new().stderr().build())
            .use_utc_timestamp()
            .build();
        let json = slog_json::Json::new(io::stderr())
            .set_newlines(true)
            .add_key_value(o!(
                "ts" => FnValue(|_: &Record<'_>| now()),
                "level" => FnValue(|record: &Record<'_>| record.level().as_str()),
                "msg" => FnValue(|record: &Record<'_>| record.msg().to_string()),
            ))
            .build();
        let formats = Formats {
            terminal,
            json: Mutex::new(json),
            control: control.clone(),
        };
        // A line that can't be written, as on a full disk, is lost; the next one is tried again.
        // Blocks rather than drops when the queue is full: a log that loses lines is worth little at three in the morning.
        let (queue, guard) = slog_async::Async::new(formats.ignore_res())
            .chan_size(4096)
            .overflow_strategy(slog_async::OverflowStrategy::Block)
            .build_with_guard();
        let important = Important {
            inner: queue,
            control: control.clone(),
        };
        let log = Logger::root(important.ignore_res(), o!());
        let scope = slog_scope::set_global_logger(log.clone());
        // Fails only if a bridge is there already.
        let _ = slog_stdlog::init_with_level(log::Level::Warn);
        Self {
            log,
            control,
            _async: guard,
            _scope: scope,
        }
    }

    /// What a reload changes.
    pub(crate) fn control(&self) -> LogControl {
        self.control.clone()
    }
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

fn now() -> String {
    sitewatch_actors::model::Slot::from_system_time(std::time::SystemTime::now()).to_string()
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

/// Writes each line in the format that is wanted now.
struct Formats<T, J> {
    terminal: T,
    json: Mutex<J>,
    control: LogControl,
}

impl<T, J> Drain for Formats<T, J>
where
    T: Drain<Ok = (), Err = io::Error>,
    J: Drain<Ok = (), Err = io::Error>,
{
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        if self.control.json.load(Ordering::Relaxed) {
            let json = self.json.lock().unwrap_or_else(PoisonError::into_inner);
            json.log(record, values)
        } else {
            self.terminal.log(record, values)
        }
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
