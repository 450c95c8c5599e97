//! The node itself: where it stands, what it serves, how it logs and restarts.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::fields::Fields;
use crate::item::Item;

/// Settings of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// Where a producer checks from; the host name unless set.
    pub location: String,
    /// Where metrics and health are served, if at all.
    pub listen: Option<SocketAddr>,
    /// Where a producer has its spool and standalone its database, unless they are told otherwise.
    pub data_dir: PathBuf,
    /// How long a shutdown may drain.
    pub drain_timeout: Duration,
    /// Threads for site actors; one a core unless set.
    pub workers: Option<usize>,
    /// The most checks that run at once.
    pub max_checks: usize,
    /// The most checks that run at once at one host.
    pub max_checks_per_host: usize,
    /// How to log.
    pub log: LogSettings,
    /// How often one actor may be restarted.
    pub restart: RestartSettings,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// For a person or for a machine.
    pub format: LogFormat,
    /// The least level that is printed.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Terminal,
    /// One JSON object a line.
    Json,
}

/// How important a log line is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For finding mistakes.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need attention.
    Warning,
    /// What needs attention.
    Error,
}

/// The restart intensity of one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartSettings {
    /// At most so many restarts …
    pub max: usize,
    /// … within this time.
    pub within: Duration,
    /// The first delay.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Default for RestartSettings {
    fn default() -> Self {
        RestartSettings {
            max: 5,
            within: Duration::from_secs(60),
            base: Duration::from_millis(100),
            cap: Duration::from_secs(5),
        }
    }
}

pub(crate) fn read(root: &Fields<'_>, host_name: &Option<String>) -> NodeSettings {
    let node = root.section("node");
    let drain = Duration::ZERO..=Duration::from_secs(3600);
    let data_dir = node.item("data_dir").and_then(|item| item.path());
    let settings = NodeSettings {
        location: node
            .item("location")
            .and_then(|item| location(&item))
            .unwrap_or_else(|| default_location(host_name)),
        listen: node.item("listen").and_then(|item| listen(&item)),
        data_dir: data_dir.unwrap_or_else(|| node.report.working_dir().join("sitewatch-data")),
        drain_timeout: node
            .item("drain_timeout")
            .and_then(|item| item.duration(drain))
            .unwrap_or(Duration::from_secs(10)),
        workers: node.item("workers").and_then(|item| item.whole(1..=1024)),
        max_checks: node
            .item("max_checks")
            .and_then(|item| item.whole(1..=1_000_000))
            .unwrap_or(10_000),
        max_checks_per_host: node
            .item("max_checks_per_host")
            .and_then(|item| item.whole(1..=1_000_000))
            .unwrap_or(100),
        log: log(&node),
        restart: restart(&node),
    };
    node.finish();
    settings
}

fn location(item: &Item<'_>) -> Option<String> {
    let expected = "a name of at most 255 bytes, such as fra1";
    let text = item.text(expected)?;
    if text.len() > 255 {
        return item.wrong(expected);
    }
    Some(text.to_owned())
}

fn default_location(host_name: &Option<String>) -> String {
    let usable = |name: &str| {
        let name = name.trim();
        (!name.is_empty() && name.len() <= 255 && !name.contains(char::is_control))
            .then(|| name.to_owned())
    };
    host_name
        .as_deref()
        .and_then(usable)
        .or_else(|| {
            fs::read_to_string("/etc/hostname")
                .ok()
                .as_deref()
                .and_then(usable)
        })
        .unwrap_or_else(|| "localhost".to_owned())
}

fn listen(item: &Item<'_>) -> Option<SocketAddr> {
    let expected = "an address and port such as 127.0.0.1:9464, or off";
    let text = item.text(expected)?;
    if text == "off" {
        return None;
    }
    let local = || {
        Some(
            (
                Ipv4Addr::LOCALHOST,
                text.strip_prefix("localhost:")?.parse::<u16>().ok()?,
            )
                .into(),
        )
    };
    text.parse()
        .ok()
        .or_else(local)
        .or_else(|| item.wrong(expected))
}

fn log(node: &Fields<'_>) -> LogSettings {
    const FORMATS: [(&str, LogFormat); 2] =
        [("terminal", LogFormat::Terminal), ("json", LogFormat::Json)];
    const LEVELS: [(&str, LogLevel); 5] = [
        ("trace", LogLevel::Trace),
        ("debug", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warning", LogLevel::Warning),
        ("error", LogLevel::Error),
    ];
    let log = node.section("log");
    let settings = LogSettings {
        format: log
            .item("format")
            .and_then(|item| item.choice(&FORMATS))
            .unwrap_or(LogFormat::Terminal),
        level: log
            .item("level")
            .and_then(|item| item.choice(&LEVELS))
            .unwrap_or(LogLevel::Info),
    };
    log.finish();
    settings
}

fn restart(node: &Fields<'_>) -> RestartSettings {
    let default = RestartSettings::default();
    let restart = node.section("restart");
    let delay = || Duration::from_millis(1)..=Duration::from_secs(3600);
    let within = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let base = restart
        .item("base")
        .and_then(|item| item.duration(delay()))
        .unwrap_or(default.base);
    // A base above the default cap moves the cap along, unless one is written.
    let settings = RestartSettings {
        max: restart
            .item("max")
            .and_then(|item| item.whole(0..=10_000))
            .unwrap_or(default.max),
        within: restart
            .item("within")
            .and_then(|item| item.duration(within))
            .unwrap_or(default.within),
        base,
        cap: restart
            .item("cap")
            .and_then(|item| item.duration(base..=Duration::from_secs(3600)))
            .unwrap_or(default.cap.max(base)),
    };
    restart.finish();
    settings
}
