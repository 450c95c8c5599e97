//! Structured logs: for the terminal or as JSON lines, on standard error; records of the `log` crate are bridged.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sitewatch_config::{LogFormat, LogLevel, LogSettings};
use slog::{Drain, FnValue, Level, Logger, OwnedKVList, Record, o};

/// The log and its adjustable level. Dropped, it writes out what is queued.
pub(crate) struct Logging {
    /// Where to log.
    pub(crate) log: Logger,
    level: Arc<AtomicUsize>,
    _async: slog_async::AsyncGuard,
    _scope: slog_scope::GlobalLoggerGuard,
}

impl Logging {
    /// Starts logging as the settings say.
    pub(crate) fn start(settings: &LogSettings) -> Self {
        let level = Arc::new(AtomicUsize::new(slog_level(settings.level).as_usize()));
        let (drain, guard) = match settings.format {
            LogFormat::Terminal => {
                let drain =
                    slog_term::FullFormat::new(slog_term::TermDecorator::new().stderr().build());
                queue(drain.use_utc_timestamp().build().fuse())
            }
            LogFormat::Json => {
                let drain = slog_json::Json::new(io::stderr())
                    .set_newlines(true)
                    .add_key_value(o!(
                        "ts" => FnValue(|_: &Record<'_>| now()),
                        "level" => FnValue(|record: &Record<'_>| record.level().as_str()),
                        "msg" => FnValue(|record: &Record<'_>| record.msg().to_string()),
                    ));
                queue(std::sync::Mutex::new(drain.build()).fuse())
            }
        };
        let log = Logger::root(
            Adjustable {
                inner: drain,
                level: Arc::clone(&level),
            }
            .fuse(),
            o!(),
        );
        let scope = slog_scope::set_global_logger(log.clone());
        // Fails only if a bridge is there already.
        let _ = slog_stdlog::init_with_level(log::Level::Warn);
        Self {
            log,
            level,
            _async: guard,
            _scope: scope,
        }
    }

    /// What a reload may change: the level.
    pub(crate) fn level(&self) -> LevelHandle {
        LevelHandle(Arc::clone(&self.level))
    }
}

/// Changes the level while the program runs.
#[derive(Clone)]
pub(crate) struct LevelHandle(Arc<AtomicUsize>);

impl LevelHandle {
    pub(crate) fn set(&self, level: LogLevel) {
        self.0
            .store(slog_level(level).as_usize(), Ordering::Relaxed);
    }
}

fn queue<D>(drain: D) -> (slog_async::Async, slog_async::AsyncGuard)
where
    D: Drain<Err = slog::Never, Ok = ()> + Send + 'static,
{
    // Blocks rather than drops when the queue is full: a log that loses lines is worth little at three in the morning.
    slog_async::Async::new(drain)
        .chan_size(4096)
        .overflow_strategy(slog_async::OverflowStrategy::Block)
        .build_with_guard()
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

/// Passes on what is important enough.
struct Adjustable<D> {
    inner: D,
    level: Arc<AtomicUsize>,
}

impl<D: Drain> Drain for Adjustable<D> {
    type Ok = Option<D::Ok>;
    type Err = D::Err;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<Self::Ok, Self::Err> {
        if record.level().as_usize() > self.level.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.inner.log(record, values).map(Some)
    }
}
