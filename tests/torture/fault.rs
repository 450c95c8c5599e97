//! The faults, and what they hit.

use std::{fmt, time::Duration};

/// A process of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    ProducerA,
    ProducerB,
    ConsumerOne,
    ConsumerTwo,
}

impl Node {
    pub(crate) const ALL: [Self; 4] = [
        Self::ProducerA,
        Self::ProducerB,
        Self::ConsumerOne,
        Self::ConsumerTwo,
    ];
    pub(crate) const PRODUCERS: [Self; 2] = [Self::ProducerA, Self::ProducerB];
    pub(crate) const CONSUMERS: [Self; 2] = [Self::ConsumerOne, Self::ConsumerTwo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ProducerA => "producer-a",
            Self::ProducerB => "producer-b",
            Self::ConsumerOne => "consumer-1",
            Self::ConsumerTwo => "consumer-2",
        }
    }

    pub(crate) fn is_producer(self) -> bool {
        matches!(self, Self::ProducerA | Self::ProducerB)
    }

    pub(crate) fn role(self) -> &'static str {
        if self.is_producer() {
            "producer"
        } else {
            "consumer"
        }
    }

    /// The location that a producer checks from.
    pub(crate) fn location(self) -> &'static str {
        match self {
            Self::ProducerB => "b",
            _ => "a",
        }
    }
}

/// A link between the nodes and what they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// To one broker (0 to 2), of all nodes.
    Broker(usize),
    /// To all brokers, of all nodes.
    Kafka,
    /// From one consumer to PostgreSQL.
    Postgres(Node),
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and a new start after a while.
    Kill(Node),
    /// SIGSTOP for longer than the session timeout, then SIGCONT.
    Freeze(Node),
    /// SIGTERM, exit code 0, and a new start.
    Restart(Node),
    /// SIGKILL, and a new start with a clock that jumps by so many seconds some time later.
    JumpClock(Node, i32),
    /// SIGKILL of one broker, and a new start after a while.
    KillBroker(usize),
    /// SIGKILL of all brokers but this one: writes stop.
    KillTwoBrokers(usize),
    /// SIGSTOP of one broker for longer than its session timeout, then SIGCONT.
    FreezeBroker(usize),
    /// PostgreSQL's immediate stop, crash recovery after a while.
    StopPostgres,
    /// SIGKILL of one backend: PostgreSQL ends all sessions and recovers.
    KillBackend,
    /// All connections are cut.
    Cut(Line),
    /// New connections are refused.
    Refuse(Line),
    /// What is sent vanishes.
    BlackHole(Line),
    /// What is sent comes so much later.
    Slow(Line, Duration),
    /// The disk of a producer's spool is full.
    FillDisk(Node),
    /// So many messages that can't be stored.
    Poison(u32),
    /// So many valid messages, each twice or more.
    Doubles(u32),
    /// SIGHUP with other valid settings.
    Reload(Node),
    /// SIGHUP with settings that do not validate.
    ReloadBad(Node),
}

impl Fault {
    /// The kinds, in the words of the report.
    pub(crate) const KINDS: [&str; 18] = [
        "kill",
        "freeze",
        "restart",
        "clock_jump",
        "broker_kill",
        "two_brokers_kill",
        "broker_freeze",
        "postgres_stop",
        "backend_kill",
        "cut",
        "refuse",
        "black_hole",
        "slow",
        "disk_full",
        "poison",
        "doubles",
        "reload",
        "reload_bad",
    ];

    pub(crate) fn kind(self) -> &'static str {
        Self::KINDS[match self {
            Self::Kill(_) => 0,
            Self::Freeze(_) => 1,
            Self::Restart(_) => 2,
            Self::JumpClock(..) => 3,
            Self::KillBroker(_) => 4,
            Self::KillTwoBrokers(_) => 5,
            Self::FreezeBroker(_) => 6,
            Self::StopPostgres => 7,
            Self::KillBackend => 8,
            Self::Cut(_) => 9,
            Self::Refuse(_) => 10,
            Self::BlackHole(_) => 11,
            Self::Slow(..) => 12,
            Self::FillDisk(_) => 13,
            Self::Poison(_) => 14,
            Self::Doubles(_) => 15,
            Self::Reload(_) => 16,
            Self::ReloadBad(_) => 17,
        }]
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(broker) => write!(f, "broker {} - nodes", broker + 1),
            Self::Kafka => f.write_str("all brokers - nodes"),
            Self::Postgres(node) => write!(f, "postgres - {}", node.name()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::JumpClock(node, seconds) => write!(f, " {} by {seconds} s", node.name()),
            Self::Kill(node)
            | Self::Freeze(node)
            | Self::Restart(node)
            | Self::FillDisk(node)
            | Self::Reload(node)
            | Self::ReloadBad(node) => write!(f, " {}", node.name()),
            Self::KillBroker(broker) | Self::FreezeBroker(broker) => write!(f, " {}", broker + 1),
            Self::KillTwoBrokers(spared) => write!(f, " all but {}", spared + 1),
            Self::StopPostgres | Self::KillBackend => Ok(()),
            Self::Cut(line) | Self::Refuse(line) | Self::BlackHole(line) => write!(f, " {line}"),
            Self::Slow(line, delay) => write!(f, " {line} by {delay:?}"),
            Self::Poison(messages) | Self::Doubles(messages) => write!(f, " {messages}"),
        }
    }
}
