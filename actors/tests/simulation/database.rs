//! A database with transactions: private until their commit, which is atomic; rows that are locked are waited for; keys are
//! unique. Connections, statements, commits and the answers to commits get lost.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashSet},
    rc::Rc,
    time::Duration,
};

use sitewatch_actors::{
    database::{Remedy, SessionError, StoreError},
    model::{Batch, DeadLetter, ErrorKind, Outcome, Row, Watermarks},
    writer::{
        Absorbed, FoundBreak, Store, StoreSession, StoreTransaction, StoredOffset, ToldIncident,
        ToldRevision,
    },
};
use sitewatch_config::PostgresSettings;
use slog::Logger;
use tokio::time::{Instant, sleep};

use super::world::World;

/// The database refuses checks that began so late. None of the producers' does.
pub(crate) const REFUSED_LATENESS_MS: i32 = 86_400_013;

/// What is left out, to see that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    /// Offsets move whatever they are.
    NoFencing,
    /// A check may be there twice.
    NoKey,
    /// A placeholder stays where the result of a check comes after it.
    FirstStays,
    /// A later result replaces an earlier one.
    LastStays,
    /// Offsets move at once and stay where they are when the transaction is rolled back.
    OffsetsOutside,
    /// The producers' disks say that all is durable, and keep nothing over a crash: as without a spool.
    NoSpool,
    /// Kafka tells ends that are older than the writer believes possible.
    OldEnds,
}

/// Site and slot. There is one location.
pub(crate) type Key = (String, i64);

/// What a check says, besides its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) status: Option<i64>,
    pub(crate) total_us: Option<i64>,
}

impl Said {
    /// Whether it stands for a check that was not made.
    pub(crate) fn is_placeholder(self) -> bool {
        self.error
            .is_some_and(|error| ErrorKind::PLACEHOLDERS.contains(&error))
    }

    fn of(row: &Row) -> Self {
        Self {
            outcome: row.outcome,
            error: row.error,
            status: row.status.map(Into::into),
            total_us: row.total_us.map(Into::into),
        }
    }
}

/// What is committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) offsets: BTreeMap<i32, i64>,
    /// Fingerprints of the messages before these offsets.
    hashes: BTreeMap<i32, Option<i64>>,
    /// Each check: what it says, as often as it is there.
    pub(crate) rows: BTreeMap<Key, Vec<Said>>,
    /// Slots of which a result was dropped that says something else.
    pub(crate) conflicts: BTreeSet<Key>,
    pub(crate) letters: BTreeMap<(i32, i64), u32>,
    pub(crate) gaps: Vec<(i32, &'static str, i64, i64)>,
    pub(crate) revisions: BTreeMap<Key, Option<i64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    Offset(i32),
    Row(Key),
    Revision(Key),
}

pub(crate) struct Database {
    world: Rc<World>,
    mutation: Mutation,
    tables: RefCell<Tables>,
    locks: RefCell<BTreeMap<Lock, u64>>,
    begun: Cell<u64>,
    open: Cell<u64>,
    down: Cell<bool>,
}

impl Database {
    pub(crate) fn new(world: &Rc<World>, mutation: Mutation) -> Rc<Self> {
        Rc::new(Self {
            world: Rc::clone(world),
            mutation,
            tables: RefCell::default(),
            locks: RefCell::default(),
            begun: Cell::default(),
            open: Cell::default(),
            down: Cell::default(),
        })
    }

    pub(crate) fn tables(&self) -> Tables {
        self.tables.borrow().clone()
    }

    /// Whether all offsets are as given and no transaction is open.
    pub(crate) fn is_at(&self, offsets: &BTreeMap<i32, i64>) -> bool {
        self.tables.borrow().offsets == *offsets && self.open.get() == 0
    }

    /// Is away at times.
    pub(crate) async fn outages(self: Rc<Self>) {
        while self.world.has_faults() {
            sleep(self.world.millis(20_000)).await;
            self.down.set(self.world.has_faults());
            self.world
                .note(format_args!("database down: {}", self.down.get()));
            sleep(self.world.millis(6000)).await;
            self.down.set(false);
        }
    }

    async fn lock(&self, transaction: u64, lock: Lock) -> Result<(), StoreError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let holder = *self
                .locks
                .borrow_mut()
                .entry(lock.clone())
                .or_insert(transaction);
            if holder == transaction {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(error(Remedy::Retry, "lock timeout"));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn apply(&self, writes: &Writes) {
        let mut tables = self.tables.borrow_mut();
        tables.offsets.extend(writes.offsets.clone());
        tables.hashes.extend(writes.hashes.clone());
        for (key, said) in &writes.rows {
            let there = tables.rows.entry(key.clone()).or_default();
            if self.mutation != Mutation::NoKey {
                // What replaces a placeholder.
                there.clear();
            }
            there.push(*said);
        }
        tables.conflicts.extend(writes.conflicts.iter().cloned());
        for source in &writes.letters {
            *tables.letters.entry(*source).or_default() += 1;
        }
        tables.gaps.extend(writes.gaps.iter().copied());
        for (key, until) in &writes.revisions {
            let stored = tables.revisions.entry(key.clone()).or_default();
            *stored = stored.or(*until);
        }
    }

    fn release(&self, transaction: u64) {
        self.locks
            .borrow_mut()
            .retain(|_, holder| *holder != transaction);
        self.open.set(self.open.get() - 1);
    }

    /// The server ends a transaction by itself after a while, having applied `writes` if there are any.
    fn end_later(self: &Rc<Self>, transaction: u64, writes: Option<Writes>) {
        let me = Rc::clone(self);
        let after = self.world.millis(4000);
        actix_rt::spawn(async move {
            sleep(after).await;
            if let Some(writes) = writes {
                me.world
                    .note(format_args!("transaction {transaction} commits late"));
                me.apply(&writes);
            }
            me.release(transaction);
        });
    }
}

fn error(remedy: Remedy, told: &str) -> StoreError {
    StoreError {
        remedy,
        told: told.to_owned(),
    }
}

#[derive(Clone)]
pub(crate) struct FakeStore(pub(crate) Rc<Database>);

impl Store for FakeStore {
    type Session = Session;

    fn reconfigure(&mut self, _: PostgresSettings) {}

    async fn connect(&mut self, _: &Logger) -> Result<Session, SessionError> {
        let world = &self.0.world;
        world.step().await;
        if self.0.down.get() || world.chance(100) {
            return Err(error(Remedy::Reconnect, "connection refused").into());
        }
        Ok(Session {
            database: Rc::clone(&self.0),
            closed: false,
            prepared: false,
        })
    }
}

pub(crate) struct Session {
    database: Rc<Database>,
    closed: bool,
    prepared: bool,
}

impl Session {
    /// A statement on its way.
    async fn statement(&mut self, what: &str) -> Result<(), StoreError> {
        let world = Rc::clone(&self.database.world);
        if self.closed {
            return Err(error(Remedy::Reconnect, "connection closed"));
        }
        world.step().await;
        world.panic_sometimes(1, "writer");
        if self.database.down.get() || world.chance(6) {
            self.closed = true;
            world.note(format_args!("connection lost in {what}"));
            return Err(error(Remedy::Reconnect, "connection lost"));
        }
        if world.chance(5) {
            world.note(format_args!("{what} could not be serialized"));
            return Err(error(Remedy::Retry, "serialization failure"));
        }
        Ok(())
    }
}

impl StoreSession for Session {
    type Transaction<'a> = Transaction<'a>;

    fn is_closed(&self) -> bool {
        self.closed
    }

    async fn prepare(&mut self, _: &Batch, _: &Logger) -> Result<(), SessionError> {
        self.statement("prepare").await?;
        self.prepared = true;
        Ok(())
    }

    async fn keep_time(&mut self) -> Result<(), SessionError> {
        Ok(())
    }

    fn forget_partitions(&mut self) {
        self.prepared = false;
    }

    fn forget(&mut self) {
        self.prepared = false;
    }

    async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        self.statement("begin").await?;
        let database = Rc::clone(&self.database);
        database.begun.set(database.begun.get() + 1);
        database.open.set(database.open.get() + 1);
        Ok(Transaction {
            id: database.begun.get(),
            database,
            session: self,
            writes: Writes::default(),
            failed: false,
            ended: false,
        })
    }
}

#[derive(Default)]
struct Writes {
    offsets: BTreeMap<i32, i64>,
    hashes: BTreeMap<i32, Option<i64>>,
    rows: Vec<(Key, Said)>,
    conflicts: Vec<Key>,
    letters: Vec<(i32, i64)>,
    gaps: Vec<(i32, &'static str, i64, i64)>,
    revisions: Vec<(Key, Option<i64>)>,
}

pub(crate) struct Transaction<'a> {
    database: Rc<Database>,
    session: &'a mut Session,
    id: u64,
    writes: Writes,
    failed: bool,
    ended: bool,
}

impl Transaction<'_> {
    async fn statement(&mut self, what: &str) -> Result<(), StoreError> {
        if self.failed {
            self.database
                .world
                .violation(format!("{what} in a failed transaction"));
        }
        let end = self.session.statement(what).await;
        self.failed = end.is_err();
        end
    }

    fn fail<T>(&mut self, remedy: Remedy, told: &str) -> Result<T, StoreError> {
        self.failed = true;
        Err(error(remedy, told))
    }

    async fn lock(&mut self, lock: Lock) -> Result<(), StoreError> {
        let end = self.database.lock(self.id, lock).await;
        self.failed |= end.is_err();
        end
    }

    fn offset(&self, partition: i32) -> Option<i64> {
        let own = self.writes.offsets.get(&partition).copied();
        own.or_else(|| {
            self.database
                .tables
                .borrow()
                .offsets
                .get(&partition)
                .copied()
        })
    }

    fn set_offset(&mut self, partition: i32, next: i64, last: Option<i64>) {
        self.writes.offsets.insert(partition, next);
        self.writes.hashes.insert(partition, last);
    }

    /// What the slot has.
    fn row(&self, key: &Key) -> Option<Said> {
        let own = self.writes.rows.iter().rev().find(|(of, _)| of == key);
        own.map(|(_, said)| *said).or_else(|| {
            let tables = self.database.tables.borrow();
            tables.rows.get(key)?.first().copied()
        })
    }

    /// Adds the rows, unless one of them is bad.
    async fn add(&mut self, rows: &[Row], absorb: bool) -> Result<Absorbed, StoreError> {
        if !self.session.prepared || self.database.world.chance(10) {
            return self.fail(
                Remedy::Repartition,
                "no partition of relation found for row",
            );
        }
        let before = (self.writes.rows.len(), self.writes.conflicts.len());
        let mut absorbed = Absorbed::default();
        for row in rows {
            if row.lateness_ms == REFUSED_LATENESS_MS {
                self.writes.rows.truncate(before.0);
                self.writes.conflicts.truncate(before.1);
                self.failed = !absorb;
                return Err(error(Remedy::SetAside, "violates check constraint"));
            }
            let key = (row.origin.site.clone(), row.slot.as_micros());
            let said = Said::of(row);
            if self.database.mutation == Mutation::NoKey {
                absorbed.new += 1;
                self.writes.rows.push((key, said));
                continue;
            }
            self.lock(Lock::Row(key.clone())).await?;
            match self.row(&key) {
                None => absorbed.new += 1,
                Some(_) if !absorb => return self.fail(Remedy::Absorb, "duplicate key"),
                Some(stands) if self.replaces(stands, said) => absorbed.replaced += 1,
                Some(stands) => {
                    if !stands.is_placeholder() && !said.is_placeholder() && stands != said {
                        absorbed.conflicts += 1;
                        self.writes.conflicts.push(key);
                    }
                    continue;
                }
            }
            self.writes.rows.push((key, said));
        }
        Ok(absorbed)
    }

    fn replaces(&self, stands: Said, said: Said) -> bool {
        match self.database.mutation {
            Mutation::FirstStays => false,
            Mutation::LastStays => !said.is_placeholder(),
            _ => stands.is_placeholder() && !said.is_placeholder(),
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The server notices at once, or, if nobody tells it, later.
        let told = self.failed && !self.session.closed;
        if !told && !self.database.world.is_over() && self.database.world.chance(300) {
            self.database.end_later(self.id, None);
        } else {
            self.database.release(self.id);
        }
    }
}

impl StoreTransaction for Transaction<'_> {
    async fn move_offsets(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        self.statement("move_offsets").await?;
        let mut all = true;
        for range in &batch.ranges {
            self.lock(Lock::Offset(range.partition)).await?;
            let fencing = self.database.mutation != Mutation::NoFencing;
            if fencing && self.offset(range.partition) != Some(range.from) {
                all = false;
                continue;
            }
            if self.database.mutation == Mutation::OffsetsOutside {
                let mut tables = self.database.tables.borrow_mut();
                tables.offsets.insert(range.partition, range.next);
            } else {
                self.set_offset(range.partition, range.next, range.last);
            }
            for (from, to) in &range.absent {
                self.writes
                    .gaps
                    .push((range.partition, "absent", *from, *to));
            }
        }
        Ok(all)
    }

    async fn moved_already(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        self.statement("moved_already").await?;
        let tables = self.database.tables.borrow();
        let there = |partition, next| tables.offsets.get(&partition).is_some_and(|at| *at >= next);
        Ok(batch
            .ranges
            .iter()
            .all(|range| there(range.partition, range.next)))
    }

    async fn take_letters(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        Ok(batch.letters.is_empty())
    }

    async fn copy(&mut self, rows: &[Row]) -> Result<u64, StoreError> {
        self.statement("copy").await?;
        Ok(self.add(rows, false).await?.new)
    }

    async fn absorb(&mut self, rows: &[Row]) -> Result<Absorbed, StoreError> {
        self.statement("absorb").await?;
        self.add(rows, true).await
    }

    /// Incidents are not simulated: they are a function of the rows.
    async fn judge(
        &mut self,
        _: &Batch,
        _: &HashSet<(i32, i64)>,
    ) -> Result<Vec<ToldIncident>, StoreError> {
        Ok(Vec::new())
    }

    async fn add_revisions(&mut self, told: &[ToldRevision<'_>]) -> Result<(), StoreError> {
        self.statement("add_revisions").await?;
        for told in told {
            let revision = told.revision;
            let key = (revision.origin.site.clone(), revision.since.as_micros());
            self.lock(Lock::Revision(key.clone())).await?;
            let until = told.until.map(|until| until.as_micros());
            self.writes.revisions.push((key, until));
        }
        Ok(())
    }

    async fn write_letter(&mut self, _: &str, letter: &DeadLetter) -> Result<(), StoreError> {
        self.statement("write_letter").await?;
        self.writes.letters.push(letter.source);
        Ok(())
    }

    async fn stored_or_begin(
        &mut self,
        _: &str,
        held: Watermarks,
    ) -> Result<StoredOffset, StoreError> {
        self.statement("stored_or_begin").await?;
        self.lock(Lock::Offset(held.partition)).await?;
        let known = self.offset(held.partition);
        if known.is_none() {
            self.set_offset(held.partition, held.low, None);
        }
        let hash = |hashes: &BTreeMap<_, _>| hashes.get(&held.partition).copied();
        let own = hash(&self.writes.hashes);
        let last = own.or_else(|| hash(&self.database.tables.borrow().hashes));
        Ok(StoredOffset {
            next: known.unwrap_or(held.low),
            // With this mutation offsets go without their fingerprints.
            last: last
                .flatten()
                .filter(|_| self.database.mutation != Mutation::OffsetsOutside),
            cluster: None,
        })
    }

    async fn record_break(&mut self, found: FoundBreak<'_>) -> Result<(), StoreError> {
        self.statement("record_break").await?;
        let FoundBreak {
            partition,
            reason,
            from,
            to,
            ..
        } = found;
        self.writes.gaps.push((partition, reason, from, to));
        self.set_offset(partition, to, None);
        Ok(())
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.statement("commit").await?;
        let world = Rc::clone(&self.database.world);
        let writes = std::mem::take(&mut self.writes);
        let lost = || Err(error(Remedy::Reconnect, "connection lost"));
        self.ended = true;
        if world.chance(30) {
            // The order is on its way; whoever gave it does not hear of it.
            self.session.closed = true;
            world.note(format_args!("commit of {} is on its way", self.id));
            world.count("a commit is in doubt");
            self.database.end_later(self.id, Some(writes));
            return lost();
        }
        world.note(format_args!(
            "transaction {} commits {:?} with {} rows",
            self.id,
            writes.offsets,
            writes.rows.len()
        ));
        self.database.apply(&writes);
        self.database.release(self.id);
        // The answer is on its way.
        world.step().await;
        if world.chance(30) {
            self.session.closed = true;
            world.note(format_args!("the answer to commit {} is lost", self.id));
            world.count("the answer to a commit is lost");
            return lost();
        }
        Ok(())
    }

    async fn rollback(mut self) -> Result<(), StoreError> {
        self.session.statement("rollback").await?;
        self.ended = true;
        self.database.release(self.id);
        Ok(())
    }
}
