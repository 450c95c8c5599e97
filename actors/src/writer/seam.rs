//! What the writer asks of a database: the seam between its decisions and PostgreSQL.
//!
//! [`super::Postgres`] is behind it in production; the simulation (actors/tests/simulation) puts a database there that loses
//! connections, answers and commits at will.

use std::{collections::HashSet, sync::Arc};

use slog::Logger;

use sitewatch_config::PostgresSettings;

use crate::{
    database::{SessionError, StoreError},
    model::{Batch, DeadLetter, ErrorKind, Incident, Origin, Revision, Row, Slot, Watermarks},
};

/// A revision with its end, if any message of the batch tells it.
#[derive(Clone, Copy)]
pub struct ToldRevision<'a> {
    /// The first message that tells it.
    pub revision: &'a Revision,
    /// Its end.
    pub until: Option<Slot>,
}

/// An incident that began, ended, or goes on, as it is told to people.
#[derive(Clone, Debug)]
pub struct ToldIncident {
    /// Whose it is.
    pub origin: Arc<Origin>,
    /// What has become of it.
    pub incident: Incident,
    /// The first failure.
    pub error: Option<ErrorKind>,
    /// The first failure, in words.
    pub detail: Option<String>,
}

/// Offsets of a partition that do not go on where the database left off.
#[derive(Clone, Copy, Debug)]
pub struct FoundBreak<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Which partition.
    pub partition: i32,
    /// The word in the column `kafka_gap.reason`.
    pub reason: &'static str,
    /// The offset up to which is stored.
    pub from: i64,
    /// The offset to read next.
    pub to: i64,
    /// The id of the cluster that holds it, if it is known.
    pub cluster: Option<&'a str>,
}

/// Where the database stands in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredOffset {
    /// The offset to read next.
    pub next: i64,
    /// The fingerprint of the message before it, if it is known.
    pub last: Option<i64>,
    /// The id of the cluster from which it came, if it is known.
    pub cluster: Option<String>,
}

/// What has become of rows whose slots might have had one. The rest of them said what was there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// New rows.
    pub new: u64,
    /// Results in the place of a placeholder.
    pub replaced: u64,
    /// Results that say something else than the one that stands.
    pub conflicts: u64,
}

/// A database that can be connected to.
#[allow(
    async_fn_in_trait,
    reason = "a writer and all that it awaits live on one thread"
)]
pub trait Store: Clone + Unpin + 'static {
    /// What a connection gives.
    type Session: StoreSession;

    /// Uses these settings from the next connection on.
    fn reconfigure(&mut self, settings: PostgresSettings);

    /// Connects and makes ready.
    ///
    /// # Errors
    /// If that does not work now, or never will ([`SessionError::is_final`]).
    async fn connect(&mut self, log: &Logger) -> Result<Self::Session, SessionError>;
}

/// A connection, ready for batches. Dropped, it closes.
#[allow(
    async_fn_in_trait,
    reason = "a writer and all that it awaits live on one thread"
)]
pub trait StoreSession: Unpin + 'static {
    /// One transaction. Dropped without its end, it is rolled back.
    type Transaction<'a>: StoreTransaction
    where
        Self: 'a;

    /// Whether the connection is known to be lost.
    fn is_closed(&self) -> bool;

    /// Makes what the rows of `batch` refer to and need: numbers of sites, partitions. Commits on its own.
    ///
    /// # Errors
    /// What the database says.
    async fn prepare(&mut self, batch: &Batch, log: &Logger) -> Result<(), SessionError>;

    /// Learns what time it is for the database, if that is not known from lately.
    ///
    /// # Errors
    /// What the database says.
    async fn keep_time(&mut self) -> Result<(), SessionError>;

    /// Forgets what is known of the partitions, after the database has contradicted it.
    fn forget_partitions(&mut self);

    /// Forgets all that is known of the database, after its offsets were not the expected ones: where a backup was restored into it,
    /// its sites have other numbers.
    fn forget(&mut self);

    /// Begins a transaction.
    ///
    /// # Errors
    /// What the database says.
    async fn begin(&mut self) -> Result<Self::Transaction<'_>, StoreError>;
}

/// A transaction: seen by others as a whole, after its commit, or never. After an error it can only be rolled back, unless
/// the operation says otherwise.
#[allow(
    async_fn_in_trait,
    reason = "a writer and all that it awaits live on one thread"
)]
pub trait StoreTransaction {
    /// Moves the offsets on from where the batch begins and records the offsets that Kafka did not hold. `false` if they are
    /// not there, which fences off a consumer that does not know yet that it has lost a partition. Waits while another
    /// transaction moves one of them.
    ///
    /// # Errors
    /// What the database says.
    async fn move_offsets(&mut self, batch: &Batch) -> Result<bool, StoreError>;

    /// Whether all offsets are where the batch ends, or further.
    ///
    /// # Errors
    /// What the database says.
    async fn moved_already(&mut self, batch: &Batch) -> Result<bool, StoreError>;

    /// Takes away the letters that the batch replays. `false` if one of them is gone: another replay has it.
    ///
    /// # Errors
    /// What the database says.
    async fn take_letters(&mut self, batch: &Batch) -> Result<bool, StoreError>;

    /// Adds rows, fast. Gives their number.
    ///
    /// # Errors
    /// What the database says; also [`crate::database::Remedy::Absorb`] if one of them is there already.
    async fn copy(&mut self, rows: &[Row]) -> Result<u64, StoreError>;

    /// Adds those of the rows whose slot has none yet, and puts the result of a check in the place of a placeholder.
    ///
    /// # Errors
    /// What the database says. After [`crate::database::Remedy::SetAside`] the transaction is as it was before and can go on.
    async fn absorb(&mut self, rows: &[Row]) -> Result<Absorbed, StoreError>;

    /// Opens and closes the incidents that the rows of the batch decide, but for those that were refused, by their sources: called
    /// when all of them are there. What comes too late to decide is noted, to be judged again.
    ///
    /// # Errors
    /// What the database says.
    async fn judge(
        &mut self,
        batch: &Batch,
        refused: &HashSet<(i32, i64)>,
    ) -> Result<Vec<ToldIncident>, StoreError>;

    /// Adds revisions that are not there yet, and ends that are not known yet. Each revision is named once.
    ///
    /// # Errors
    /// What the database says. After [`crate::database::Remedy::SetAside`] and [`crate::database::Remedy::Absorb`] the transaction is as it was before and can
    /// go on.
    async fn add_revisions(&mut self, told: &[ToldRevision<'_>]) -> Result<(), StoreError>;

    /// Writes one dead letter.
    ///
    /// # Errors
    /// What the database says.
    async fn write_letter(&mut self, topic: &str, letter: &DeadLetter) -> Result<(), StoreError>;

    /// The stored offset, locked. At the first meeting with a partition it is the oldest message that there is.
    ///
    /// # Errors
    /// What the database says.
    async fn stored_or_begin(
        &mut self,
        topic: &str,
        held: Watermarks,
    ) -> Result<StoredOffset, StoreError>;

    /// Records that the offsets of a partition do not go on, and moves to where they do.
    ///
    /// # Errors
    /// What the database says.
    async fn record_break(&mut self, found: FoundBreak<'_>) -> Result<(), StoreError>;

    /// Makes all of it visible at once.
    ///
    /// # Errors
    /// What the database says. Whether the commit came through is not known then.
    async fn commit(self) -> Result<(), StoreError>;

    /// Gives all of it up.
    ///
    /// # Errors
    /// What the database says.
    async fn rollback(self) -> Result<(), StoreError>;
}
