//! A broker with one topic and one consumer group. Members hear late that they have lost a partition and read on until
//! then; ends are told as a leader that was just replaced may tell them; messages come again.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    Timestamp,
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedMessage,
};
use sitewatch_actors::{
    consumer::{Change, Source},
    model::{Slot, Watermarks, fingerprint},
    publisher::PartitionLag,
};
use tokio::time::{Instant, sleep};

use super::{
    database::{Key, Said},
    world::World,
};

pub(crate) const TOPIC: &str = "checks";

/// How long a leader that was replaced may not know it, in milliseconds: less than the writer's doubt lasts.
pub(crate) const STALE: u64 = 8000;

struct Partition {
    /// The first offset held.
    base: i64,
    /// `None`: an offset that holds no message, as a transaction's marker or what compaction took.
    records: Vec<Option<Vec<u8>>>,
    /// The end that a leader tells that was replaced and does not know it yet, and until when it does so.
    replaced: Option<(Instant, i64)>,
}

impl Partition {
    fn new(base: i64) -> Self {
        Self {
            base,
            records: Vec::new(),
            replaced: None,
        }
    }

    fn end(&self) -> i64 {
        self.base + self.records.len() as i64
    }

    /// The first message at `from` or after it.
    fn at(&self, from: i64) -> Option<(i64, &Vec<u8>)> {
        let records = self
            .records
            .get(usize::try_from(from - self.base).ok()?..)?;
        (from..)
            .zip(records)
            .find_map(|(offset, record)| Some((offset, record.as_ref()?)))
    }
}

#[derive(Default)]
struct Group {
    members: BTreeMap<u64, VecDeque<(Instant, bool, Vec<i32>)>>,
    gone: Vec<u64>,
    owners: Vec<Option<u64>>,
    joined: u64,
    changed: bool,
}

pub(crate) struct Kafka {
    world: Rc<World>,
    /// See [`STALE`].
    stale: u64,
    partitions: RefCell<Vec<Partition>>,
    group: RefCell<Group>,
    /// What members said that is stored.
    committed: RefCell<BTreeMap<i32, i64>>,
    /// Producers can't reach it.
    away: Cell<bool>,
}

/// The check of a message, if it is one that can be stored.
fn read(message: &[u8]) -> Option<(Key, Said)> {
    let message: serde_json::Value = serde_json::from_slice(message).ok()?;
    let slot: Slot = serde_json::from_value(message["slot"].clone()).ok()?;
    let said = Said {
        outcome: serde_json::from_value(message["outcome"].clone()).ok()?,
        error: serde_json::from_value(message["error"].clone()).ok()?,
        status: message["status"].as_i64(),
        total_us: message["total_us"].as_i64(),
    };
    Some((
        (message["site"].as_str()?.to_owned(), slot.as_micros()),
        said,
    ))
}

impl Kafka {
    pub(crate) fn new(world: &Rc<World>, stale: u64) -> Rc<Self> {
        // Some topics are new, others have lost their oldest messages.
        let partitions: Vec<_> = (0..1 + world.below(4))
            .map(|_| Partition::new([0, world.below(1000) as i64][world.below(2) as usize]))
            .collect();
        let group = Group {
            owners: vec![None; partitions.len()],
            ..Group::default()
        };
        Rc::new(Self {
            world: Rc::clone(world),
            stale,
            partitions: RefCell::new(partitions),
            group: RefCell::new(group),
            committed: RefCell::default(),
            away: Cell::new(false),
        })
    }

    /// Appends a message, or an offset without one, and says where.
    pub(crate) fn append(&self, partition: i32, record: Option<Vec<u8>>) -> (i32, i64) {
        let mut partitions = self.partitions.borrow_mut();
        let log = &mut partitions[partition as usize];
        log.records.push(record);
        (partition, log.end() - 1)
    }

    /// The offset that each partition's next message gets.
    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        let partitions = self.partitions.borrow();
        let ends = partitions.iter().map(Partition::end);
        (0..).zip(ends).collect()
    }

    /// How far the group is in the partitions of which it has said so.
    pub(crate) fn lags(&self) -> Vec<PartitionLag> {
        let ends = self.ends();
        let committed = self.committed.borrow();
        let lag = |(partition, committed): (&i32, &i64)| PartitionLag {
            partition: *partition,
            committed: *committed,
            end: ends[partition],
        };
        committed.iter().map(lag).collect()
    }

    /// What the topic says of each check, in the order of its partitions and offsets, without the messages `bad`.
    pub(crate) fn checks(&self, bad: &BTreeSet<(i32, i64)>) -> BTreeMap<Key, Vec<(i32, Said)>> {
        let mut checks = BTreeMap::<_, Vec<_>>::new();
        for (partition, log) in (0..).zip(&*self.partitions.borrow()) {
            for (offset, record) in (log.base..).zip(&log.records) {
                let is_bad = bad.contains(&(partition, offset));
                if let Some((key, said)) = record.as_deref().filter(|_| !is_bad).and_then(read) {
                    checks.entry(key).or_default().push((partition, said));
                }
            }
        }
        checks
    }

    pub(crate) fn partition_count(&self) -> u64 {
        self.partitions.borrow().len() as u64
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.get() && self.world.has_faults()
    }

    /// Is out of the producers' reach now and then.
    pub(crate) async fn come_and_go(self: Rc<Self>) {
        loop {
            sleep(Duration::from_millis(200) + self.world.millis(6000)).await;
            self.away.set(true);
            self.world.count("an outage of Kafka");
            sleep(Duration::from_millis(100) + self.world.millis(4000)).await;
            self.away.set(false);
        }
    }

    /// The group's coordinator: gives the partitions out anew when a member has come or gone, and at times without a reason.
    pub(crate) async fn coordinate(self: Rc<Self>) {
        loop {
            sleep(Duration::from_millis(200) + self.world.millis(2500)).await;
            let changed = std::mem::take(&mut self.group.borrow_mut().changed);
            if self.world.chance(150) || changed {
                self.rebalance();
            }
            if self.world.chance(400) {
                self.replace_a_leader();
            }
        }
    }

    fn replace_a_leader(&self) {
        let mut partitions = self.partitions.borrow_mut();
        let partition = self.world.below(partitions.len() as u64) as usize;
        let log = &mut partitions[partition];
        let lasts = self.world.millis(self.stale);
        log.replaced = Some((Instant::now() + lasts, log.end()));
        self.world.count("a leader is replaced");
        self.world.note(format_args!(
            "the leader of {partition} is replaced and tells its end {} for {lasts:?}",
            log.end()
        ));
    }

    fn rebalance(&self) {
        let mut group = self.group.borrow_mut();
        let Group {
            members,
            gone,
            owners,
            ..
        } = &mut *group;
        for id in gone.drain(..) {
            members.remove(&id);
        }
        let ids: Vec<_> = members.keys().copied().collect();
        let old = owners.clone();
        for owner in owners.iter_mut() {
            let stays = owner.is_some_and(|id| members.contains_key(&id));
            if ids.is_empty() {
                *owner = None;
            } else if !stays || self.world.below(3) == 0 {
                *owner = Some(ids[self.world.below(ids.len() as u64) as usize]);
            }
        }
        self.world.note(format_args!("owners {owners:?}"));
        if *owners != old {
            self.world.count("partitions change their owners");
        }
        for (id, inbox) in members.iter_mut() {
            for comes in [false, true] {
                let (from, to) = if comes {
                    (&old, &*owners)
                } else {
                    (&*owners, &old)
                };
                let changed: Vec<i32> = (0..)
                    .zip(from.iter().zip(to))
                    .filter(|(_, (from, to))| **to == Some(*id) && **from != Some(*id))
                    .map(|(partition, _)| partition)
                    .collect();
                if changed.is_empty() {
                    continue;
                }
                let late = match self.world.below(10) {
                    0 | 1 if self.world.has_faults() => self.world.millis(15_000),
                    2..=4 => self.world.millis(1000),
                    _ => self.world.millis(30),
                };
                let last = inbox.back().map(|(due, ..)| *due);
                let due = (Instant::now() + late).max(last.unwrap_or_else(Instant::now));
                inbox.push_back((due, comes, changed));
            }
        }
    }
}

#[derive(Default)]
struct Fetch {
    position: i64,
    paused: bool,
}

/// A member of the group.
pub(crate) struct Member {
    kafka: Rc<Kafka>,
    id: u64,
    owned: RefCell<BTreeMap<i32, Fetch>>,
    heard: RefCell<Vec<Change>>,
}

impl Member {
    pub(crate) fn join(kafka: &Rc<Kafka>) -> Self {
        let mut group = kafka.group.borrow_mut();
        group.joined += 1;
        let id = group.joined;
        group.members.insert(id, VecDeque::new());
        group.changed = true;
        kafka.world.note(format_args!("member {id} joins"));
        Self {
            kafka: Rc::clone(kafka),
            id,
            owned: RefCell::default(),
            heard: RefCell::default(),
        }
    }

    /// Hears of the group's changes that have come through by now.
    fn hear(&self) {
        let mut group = self.kafka.group.borrow_mut();
        let Some(inbox) = group.members.get_mut(&self.id) else {
            return;
        };
        while inbox
            .front()
            .is_some_and(|(due, ..)| *due <= Instant::now())
        {
            let Some((_, comes, partitions)) = inbox.pop_front() else {
                return;
            };
            self.kafka.world.note(format_args!(
                "member {} hears {} {partitions:?}",
                self.id,
                if comes { "+" } else { "-" }
            ));
            let mut owned = self.owned.borrow_mut();
            for partition in &partitions {
                if comes {
                    let fetch = Fetch {
                        position: 0,
                        paused: true,
                    };
                    owned.insert(*partition, fetch);
                } else {
                    owned.remove(partition);
                }
            }
            self.heard.borrow_mut().push(if comes {
                Change::Assigned(partitions)
            } else {
                Change::Revoked(partitions)
            });
        }
    }

    fn next(&self) -> Option<OwnedMessage> {
        let partitions = self.kafka.partitions.borrow();
        let mut owned = self.owned.borrow_mut();
        let held = |partition: i32, from| partitions[partition as usize].at(from);
        let ready: Vec<i32> = owned
            .iter()
            .filter(|(partition, fetch)| {
                !fetch.paused && held(**partition, fetch.position).is_some()
            })
            .map(|(partition, _)| *partition)
            .collect();
        let world = &self.kafka.world;
        let partition = *ready.get(world.below(ready.len() as u64) as usize)?;
        let fetch = owned.get_mut(&partition)?;
        if world.chance(10) {
            let back = fetch.position - 1 - world.below(4) as i64;
            fetch.position = back.max(partitions[partition as usize].base);
        }
        let (offset, payload) = held(partition, fetch.position)?;
        fetch.position = offset + 1;
        Some(OwnedMessage::new(
            Some(payload.clone()),
            Some(b"key".to_vec()),
            TOPIC.to_owned(),
            Timestamp::NotAvailable,
            partition,
            offset,
            None,
        ))
    }

    fn for_each(&self, partitions: &[i32], paused: bool) {
        let mut owned = self.owned.borrow_mut();
        for partition in partitions {
            if let Some(fetch) = owned.get_mut(partition) {
                fetch.paused = paused;
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut group = self.kafka.group.borrow_mut();
        group.gone.push(self.id);
        group.changed = true;
    }
}

impl Source for Member {
    type Message<'a> = OwnedMessage;

    async fn poll(&self, wait: Duration) -> Option<Result<OwnedMessage, KafkaError>> {
        let world = &self.kafka.world;
        world.step().await;
        world.panic_sometimes(1, "reader");
        self.hear();
        if world.chance(5) {
            let codes = [
                RDKafkaErrorCode::BrokerTransportFailure,
                RDKafkaErrorCode::OffsetOutOfRange,
                RDKafkaErrorCode::UnknownTopicOrPartition,
            ];
            let code = codes[world.below(3) as usize];
            world.note(format_args!("member {} meets {code:?}", self.id));
            return Some(Err(KafkaError::MessageConsumption(code)));
        }
        if let Some(message) = self.next() {
            return Some(Ok(message));
        }
        sleep(wait).await;
        self.hear();
        self.next().map(Ok)
    }

    fn take_changes(&self) -> Vec<Change> {
        self.heard.take()
    }

    async fn watermarks(&self, partition: i32) -> Result<Watermarks, KafkaError> {
        let world = &self.kafka.world;
        world.step().await;
        if world.chance(50) {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::RequestTimedOut));
        }
        let partitions = self.kafka.partitions.borrow();
        let log = &partitions[partition as usize];
        let (low, high) = match log.replaced {
            Some((until, end)) if Instant::now() < until => (log.base, end),
            _ => (log.base, log.end()),
        };
        world.note(format_args!("end of {partition} told as {high}"));
        Ok(Watermarks {
            partition,
            low,
            high,
        })
    }

    fn cluster(&self) -> Option<Arc<str>> {
        None
    }

    async fn fingerprints(
        &self,
        places: &[(i32, i64)],
    ) -> Result<Vec<(i32, Option<i64>)>, KafkaError> {
        let world = &self.kafka.world;
        world.step().await;
        if world.chance(50) {
            return Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::OperationTimedOut,
            ));
        }
        let partitions = self.kafka.partitions.borrow();
        let held = |(partition, offset): &(i32, i64)| {
            let (at, record) = partitions[*partition as usize].at(*offset)?;
            (at == *offset).then(|| fingerprint(record))
        };
        Ok(places.iter().map(|place| (place.0, held(place))).collect())
    }

    async fn go_to(&self, places: &[(i32, i64)]) -> Result<(), KafkaError> {
        self.kafka.world.step().await;
        let mut owned = self.owned.borrow_mut();
        for (partition, next) in places {
            match owned.get_mut(partition) {
                Some(fetch) if !self.kafka.world.chance(50) => {
                    fetch.position = *next;
                    fetch.paused = true;
                }
                _ => return Err(KafkaError::Seek("erroneous state".to_owned())),
            }
        }
        Ok(())
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.for_each(partitions, true);
        Ok(())
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.for_each(partitions, false);
        Ok(())
    }

    fn hint(&self, positions: &[(i32, i64)]) -> Result<(), KafkaError> {
        self.kafka
            .committed
            .borrow_mut()
            .extend(positions.iter().copied());
        Ok(())
    }

    async fn commit(&self) -> Result<(), KafkaError> {
        self.kafka.world.step().await;
        Ok(())
    }

    fn seen_up(&self) {}

    fn complaint(&self, _: &KafkaError) {}
}
