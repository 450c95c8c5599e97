//! The schedule of faults: drawn from a seed, before anything is started. The same seed gives the same schedule.

use std::{collections::BTreeMap, fmt, time::Duration};

use fastrand::Rng;

use crate::fault::{Fault, Line, Node};

/// When the first fault comes: by then everything works.
const BEGIN: Duration = Duration::from_secs(3);

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Event {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    /// How long it lasts; zero for what happens at once.
    pub(crate) lasts: Duration,
    /// Whether a process that this starts has failpoints set, at which its actors panic and fail.
    pub(crate) armed: bool,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7.1} s  {}", self.at.as_secs_f64(), self.fault)?;
        if !self.lasts.is_zero() {
            write!(f, ", for {:.1} s", self.lasts.as_secs_f64())?;
        }
        if self.armed {
            f.write_str(", then with failpoints")?;
        }
        Ok(())
    }
}

/// What only one fault at a time may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Node(Node),
    Brokers,
    Postgres,
    BrokerLine(usize),
    PostgresLine(Node),
    Disk(Node),
}

fn targets(fault: Fault) -> Vec<Target> {
    match fault {
        Fault::Kill(node)
        | Fault::Freeze(node)
        | Fault::Restart(node)
        | Fault::JumpClock(node, _)
        | Fault::Reload(node)
        | Fault::ReloadBad(node) => vec![Target::Node(node)],
        Fault::KillBroker(_) | Fault::KillTwoBrokers(_) | Fault::FreezeBroker(_) => {
            vec![Target::Brokers]
        }
        Fault::StopPostgres | Fault::KillBackend => vec![Target::Postgres],
        Fault::Cut(line) | Fault::Refuse(line) | Fault::BlackHole(line) | Fault::Slow(line, _) => {
            match line {
                Line::Broker(broker) => vec![Target::BrokerLine(broker)],
                Line::Kafka => (0..3).map(Target::BrokerLine).collect(),
                Line::Postgres(node) => vec![Target::PostgresLine(node)],
            }
        }
        Fault::FillDisk(node) => vec![Target::Disk(node)],
        Fault::Poison(_) | Fault::Doubles(_) => vec![],
    }
}

/// How long what was hit is left alone afterwards.
fn rest(fault: Fault) -> Duration {
    Duration::from_secs(match fault {
        // A broker needs a while to start and to catch up; were the next one killed before, none could lead.
        Fault::KillBroker(_) | Fault::KillTwoBrokers(_) | Fault::FreezeBroker(_) => 12,
        Fault::StopPostgres | Fault::KillBackend => 4,
        Fault::Reload(_) => 3,
        _ => 2,
    })
}

/// Draws the faults of `duration` from `seed`: first each kind once, in random order, then at random. `only` names the kinds
/// that are wanted, all if it is empty.
pub(crate) fn draw(seed: u64, duration: Duration, only: &[String]) -> Vec<Event> {
    let mut rng = Rng::with_seed(seed);
    let kinds: Vec<_> = Fault::KINDS
        .into_iter()
        .filter(|kind| only.is_empty() || only.iter().any(|wanted| wanted == kind))
        .collect();
    let mut first = kinds.clone();
    rng.shuffle(&mut first);
    let mut busy = BTreeMap::<Target, Duration>::new();
    let mut events = Vec::new();
    let mut now = BEGIN;
    while now < duration && !kinds.is_empty() {
        for turn in 0..12 {
            // Kinds that have not been there yet come first, except where what they would hit is busy.
            let new = if turn < 6 { first.pop() } else { None };
            let kind = new.unwrap_or_else(|| kinds[rng.usize(..kinds.len())]);
            let event = event(&mut rng, kind, now);
            let hit = targets(event.fault);
            let free = |target| busy.get(target).is_none_or(|until| *until <= now);
            if hit.iter().all(free) {
                let until = now + event.lasts + rest(event.fault);
                busy.extend(hit.into_iter().map(|target| (target, until)));
                events.push(event);
                break;
            }
            if let Some(kind) = new {
                first.insert(0, kind);
            }
        }
        now += Duration::from_millis(rng.u64(300..3200));
    }
    events
}

fn event(rng: &mut Rng, kind: &str, at: Duration) -> Event {
    let node = Node::ALL[rng.usize(..4)];
    let producer = Node::PRODUCERS[rng.usize(..2)];
    let consumer = Node::CONSUMERS[rng.usize(..2)];
    let broker = rng.usize(..3);
    let line = match rng.u8(..10) {
        0..4 => Line::Broker(broker),
        4..6 => Line::Kafka,
        _ => Line::Postgres(consumer),
    };
    let (fault, shortest, longest) = match kind {
        "kill" => (Fault::Kill(node), 500, 8_000),
        "freeze" => (Fault::Freeze(node), 7_000, 15_000),
        "restart" => (Fault::Restart(node), 0, 0),
        "clock_jump" => {
            let seconds = rng.i32(2..20) * if rng.bool() { 1 } else { -1 };
            (Fault::JumpClock(producer, seconds), 300, 2_000)
        }
        "broker_kill" => (Fault::KillBroker(broker), 2_000, 15_000),
        "two_brokers_kill" => (Fault::KillTwoBrokers(broker), 2_000, 12_000),
        "broker_freeze" => (Fault::FreezeBroker(broker), 7_000, 15_000),
        "postgres_stop" => (Fault::StopPostgres, 500, 12_000),
        "backend_kill" => (Fault::KillBackend, 0, 0),
        "cut" => (Fault::Cut(line), 0, 0),
        "refuse" => (Fault::Refuse(line), 2_000, 12_000),
        "black_hole" => (Fault::BlackHole(line), 4_000, 25_000),
        "slow" => {
            let delay = Duration::from_millis(rng.u64(5..400));
            (Fault::Slow(line, delay), 4_000, 15_000)
        }
        "disk_full" => (Fault::FillDisk(producer), 4_000, 15_000),
        "poison" => (Fault::Poison(rng.u32(5..60)), 0, 0),
        "doubles" => (Fault::Doubles(rng.u32(5..60)), 0, 0),
        "reload" => (Fault::Reload(node), 0, 0),
        // After that the file is mended.
        _ => (Fault::ReloadBad(node), 2_000, 2_000),
    };
    let starts_a_node = matches!(
        fault,
        Fault::Kill(_) | Fault::Restart(_) | Fault::JumpClock(..)
    );
    Event {
        at,
        fault,
        lasts: Duration::from_millis(rng.u64(shortest..=longest)),
        armed: starts_a_node && rng.u8(..10) < 7,
    }
}
