//! PostgreSQL behind the writer's seam.

use std::collections::HashSet;

use prometheus::IntGauge;
use sitewatch_config::PostgresSettings;
use slog::Logger;
use tokio_postgres::Transaction;

use super::{
    judging::Judges,
    late, letters, offsets,
    origins::Origins,
    revisions, rows,
    seam::{
        Absorbed, FoundBreak, Store, StoreSession, StoreTransaction, StoredOffset, ToldIncident,
        ToldRevision,
    },
    session::Session,
    stage,
};
use crate::{
    database::{DatabaseClock, Remedy, SchemaText, SessionError, StoreError},
    model::{Batch, DeadLetter, Row, Slot, Watermarks},
};

/// The PostgreSQL of the settings.
#[derive(Clone)]
pub struct Postgres {
    settings: PostgresSettings,
    schema: SchemaText,
    clock: DatabaseClock,
    up: IntGauge,
}

impl Postgres {
    /// The PostgreSQL of `settings`, which is brought to `schema` at each connection; `up` tells whether it can be used, and `clock` what
    /// time it is there.
    pub fn new(
        settings: PostgresSettings,
        schema: SchemaText,
        clock: DatabaseClock,
        up: IntGauge,
    ) -> Self {
        Self {
            settings,
            schema,
            clock,
            up,
        }
    }
}

impl Store for Postgres {
    type Session = Session;

    fn reconfigure(&mut self, settings: PostgresSettings) {
        self.settings = settings;
    }

    async fn connect(&mut self, log: &Logger) -> Result<Session, SessionError> {
        let (settings, clock) = (&self.settings, self.clock.clone());
        Session::open(settings, &self.schema, clock, &self.up, log).await
    }
}

impl StoreSession for Session {
    type Transaction<'a> = PostgresTransaction<'a>;

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    async fn prepare(&mut self, batch: &Batch, log: &Logger) -> Result<(), SessionError> {
        self.keep_time().await?;
        self.origins
            .learn(&mut self.client, batch.origins(), &batch.revisions, log)
            .await?;
        let slots = batch.rows.iter().map(|row| row.slot);
        self.partitions.cover(&mut self.client, log, slots).await
    }

    async fn keep_time(&mut self) -> Result<(), SessionError> {
        Ok(self.clock.ask(&self.client).await?)
    }

    fn forget_partitions(&mut self) {
        self.partitions.forget();
    }

    fn forget(&mut self) {
        self.origins.forget();
        self.judges = Judges::default();
        self.partitions.forget();
    }

    async fn begin(&mut self) -> Result<PostgresTransaction<'_>, StoreError> {
        self.judges.begin();
        Ok(PostgresTransaction {
            transaction: self.client.transaction().await?,
            origins: &self.origins,
            judges: &mut self.judges,
            rolled_until: Slot::from_micros(i64::MAX),
        })
    }
}

/// A transaction of PostgreSQL.
pub struct PostgresTransaction<'a> {
    transaction: Transaction<'a>,
    origins: &'a Origins,
    judges: &'a mut Judges,
    /// Up to where rollups are made.
    rolled_until: Slot,
}

impl StoreTransaction for PostgresTransaction<'_> {
    async fn move_offsets(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        // Looked first: who has its lock has no other lock while it waits for this one.
        let looking = late::done(&self.transaction);
        let moving = offsets::move_offsets(&self.transaction, batch);
        let (done, moved) = late::together(looking, moving).await?;
        self.rolled_until = done.rolled_until;
        if moved {
            // Before the rows are there.
            self.judges
                .prepare(&self.transaction, batch, done.judged_again, self.origins)
                .await?;
        }
        Ok(moved)
    }

    async fn moved_already(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        Ok(offsets::moved_already(&self.transaction, batch).await?)
    }

    async fn take_letters(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        Ok(letters::take(&self.transaction, batch).await?)
    }

    async fn copy(&mut self, rows: &[Row]) -> Result<u64, StoreError> {
        // Noted first: in the middle of a COPY nothing else can be said.
        let noting = late::note(&self.transaction, self.rolled_until, rows, self.origins);
        let copying = rows::copy_direct(&self.transaction, rows, self.origins);
        Ok(late::together(noting, copying).await?.1)
    }

    async fn absorb(&mut self, rows: &[Row]) -> Result<Absorbed, StoreError> {
        self.transaction.batch_execute("SAVEPOINT part").await?;
        match stage::absorb(&self.transaction, rows, self.origins).await {
            Ok(absorbed) => {
                late::note(&self.transaction, self.rolled_until, rows, self.origins).await?;
                self.transaction
                    .batch_execute("RELEASE SAVEPOINT part")
                    .await?;
                Ok(absorbed)
            }
            Err(error) => {
                let error = StoreError::from(error);
                if error.remedy == Remedy::SetAside {
                    self.transaction
                        .batch_execute("ROLLBACK TO SAVEPOINT part")
                        .await?;
                }
                Err(error)
            }
        }
    }

    async fn judge(
        &mut self,
        batch: &Batch,
        refused: &HashSet<(i32, i64)>,
    ) -> Result<Vec<ToldIncident>, StoreError> {
        let judging = self
            .judges
            .judge(&self.transaction, batch, refused, self.origins);
        Ok(judging.await?)
    }

    async fn add_revisions(&mut self, told: &[ToldRevision<'_>]) -> Result<(), StoreError> {
        self.transaction
            .batch_execute("SAVEPOINT revisions")
            .await?;
        let Err(error) = revisions::upsert(&self.transaction, told, self.origins).await else {
            self.transaction
                .batch_execute("RELEASE SAVEPOINT revisions")
                .await?;
            return Ok(());
        };
        let error = StoreError::from(error);
        if matches!(error.remedy, Remedy::SetAside | Remedy::Absorb) {
            self.transaction
                .batch_execute("ROLLBACK TO SAVEPOINT revisions")
                .await?;
        }
        Err(error)
    }

    async fn write_letter(&mut self, topic: &str, letter: &DeadLetter) -> Result<(), StoreError> {
        Ok(letters::set_aside(&self.transaction, topic, letter).await?)
    }

    async fn stored_or_begin(
        &mut self,
        topic: &str,
        held: Watermarks,
    ) -> Result<StoredOffset, StoreError> {
        Ok(offsets::stored_or_begin(&self.transaction, topic, held).await?)
    }

    async fn record_break(&mut self, found: FoundBreak<'_>) -> Result<(), StoreError> {
        Ok(offsets::record_break(&self.transaction, found).await?)
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        self.judges.committed();
        Ok(())
    }

    async fn rollback(self) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }
}
