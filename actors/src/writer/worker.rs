//! The writer's work with its session: batches and questions, each however long it takes.

use std::time::Duration;

use sitewatch_config::PostgresSettings;
use slog::{Logger, debug, info, warn};
use tokio::time::Instant;

use super::{
    locate::Locating,
    position::Doubts,
    seam::{Store, StoreSession},
    store::{End, Try},
};
use crate::{
    database::SessionError,
    metrics::Metrics,
    model::{Batch, BatchEnd, Locate, Position},
    retry::Retry,
    wanted::Wanted,
};

/// How often it is told that PostgreSQL can't be used, and that only a person can help.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A session that lasted so long did work.
const SETTLED: Duration = Duration::from_secs(30);

/// Does the writer's work, and holds the session while it does.
pub(super) struct Worker<S: Store> {
    store: S,
    wanted: Wanted<PostgresSettings>,
    session: Option<S::Session>,
    retry: Retry,
    doubts: Doubts,
    /// When an idle writer may next try to connect.
    not_before: Option<Instant>,
    /// When the session began. That alone proves little: a table may be locked, a right missing.
    connected_at: Option<Instant>,
    /// When the absence of PostgreSQL was last logged; `None` while it is there.
    down_told: Option<Instant>,
    metrics: Metrics,
    log: Logger,
}

impl<S: Store> Worker<S> {
    /// A worker without a session. It brings `store` up to what is wanted before it connects.
    pub(super) fn new(
        store: S,
        wanted: Wanted<PostgresSettings>,
        metrics: Metrics,
        log: Logger,
    ) -> Self {
        Self {
            store,
            wanted,
            session: None,
            retry: Retry::for_connections(),
            doubts: Doubts::default(),
            not_before: None,
            connected_at: None,
            down_told: None,
            metrics,
            log,
        }
    }

    pub(super) fn is_disconnected(&self) -> bool {
        let closed = self
            .session
            .as_ref()
            .is_none_or(|session| session.is_closed());
        closed && self.not_before.is_none_or(|time| time <= Instant::now())
    }

    /// Goes over to what a reload wants.
    fn renew(&mut self) {
        let Some(renewal) = self.wanted.take() else {
            return;
        };
        info!(self.log, "PostgreSQL settings changed, connecting anew");
        self.store.reconfigure((*renewal.settings).clone());
        (self.session, self.not_before) = (None, None);
        // What was doubtful was so in the other database.
        self.doubts = Doubts::default();
        self.retry.reset();
        renewal.confirm();
    }

    /// Goes over to what a reload wants, unless that was done before, and tries to connect.
    ///
    /// # Errors
    /// As of [`Worker::connect_once`].
    pub(super) async fn follow(&mut self) -> Result<(), SessionError> {
        self.renew();
        if self.session.is_none() && self.not_before.is_none() {
            return self.connect_once().await;
        }
        Ok(())
    }

    /// One try to connect. It ends early when other settings are wanted.
    ///
    /// # Errors
    /// Only those that trying again can't mend, and where no reload has led here: a process that works goes on trying.
    pub(super) async fn connect_once(&mut self) -> Result<(), SessionError> {
        self.renew();
        self.session = None;
        let connected = tokio::select! {
            biased;
            () = self.wanted.changed() => return Ok(()),
            connected = self.store.connect(&self.log) => connected,
        };
        match connected {
            Ok(session) => {
                self.session = Some(session);
                (self.not_before, self.connected_at) = (None, Some(Instant::now()));
                Ok(())
            }
            Err(problem) if problem.is_final() && !self.wanted.has_changed_ever() => Err(problem),
            Err(problem) => {
                self.failed(&problem);
                Ok(())
            }
        }
    }

    /// Learns what time it is for the database.
    pub(super) async fn keep_time(&mut self) {
        if let Some(session) = &mut self.session
            && let Err(problem) = session.keep_time().await
        {
            self.failed(&problem);
        }
    }

    /// Notes that PostgreSQL does what it is asked to: a failure from now on is a new one.
    fn works(&mut self) {
        self.down_told = None;
        self.retry.reset();
    }

    /// Notes that PostgreSQL does not work, and sets the time of the next try. It is one log line for each outage; one a minute where
    /// only a person can help.
    fn failed(&mut self, problem: &SessionError) {
        self.session = None;
        self.metrics.postgres_up.set(0);
        let settled = |since: Instant| since.elapsed() > SETTLED;
        if self.connected_at.take().is_some_and(settled) {
            self.works();
        }
        let tell_again = problem.needs_a_person();
        let is_told = |at: Instant| !tell_again || at.elapsed() < TOLD_AGAIN;
        if self.down_told.is_some_and(is_told) {
            debug!(self.log, "PostgreSQL still can't be used"; "reason" => %problem);
        } else {
            self.down_told = Some(Instant::now());
            warn!(self.log, "PostgreSQL can't be used, trying on"; "reason" => %problem);
        }
        self.not_before = Some(Instant::now() + self.retry.next_delay());
    }

    /// Connects with what is wanted, however long it takes.
    async fn connect(&mut self) -> Result<(), SessionError> {
        self.renew();
        while self
            .session
            .as_ref()
            .is_none_or(|session| session.is_closed())
        {
            if let Some(time) = self.not_before.take() {
                tokio::select! {
                    () = self.wanted.changed() => {}
                    () = tokio::time::sleep_until(time) => {}
                }
            }
            self.connect_once().await?;
        }
        Ok(())
    }

    pub(super) async fn store(&mut self, batch: Batch) -> Result<(), SessionError> {
        let (start, mut commit_unknown) = (Instant::now(), false);
        let end = loop {
            fail::fail_point!("writer::store");
            self.connect().await?;
            let Some(session) = &mut self.session else {
                continue;
            };
            let next_try = Try {
                session,
                log: &self.log,
                commit_unknown: &mut commit_unknown,
            };
            // A server that has gone may leave a transaction without an answer for long.
            let end = tokio::select! {
                biased;
                end = next_try.store(&batch) => end,
                () = self.wanted.changed() => continue,
            };
            match end {
                Ok(end) => break end,
                Err(problem) => self.failed(&problem),
            }
        };
        self.works();
        self.metrics
            .batch_seconds
            .observe(start.elapsed().as_secs_f64());
        self.metrics.batch_rows.observe(batch.rows.len() as f64);
        self.settle(batch, &end);
        Ok(())
    }

    fn settle(&self, batch: Batch, end: &End) {
        let (label, told) = match end {
            End::Stored(stored) => {
                self.metrics.rows_written.inc_by(stored.rows);
                self.metrics.duplicates.inc_by(stored.duplicates);
                self.metrics.placeholders_replaced.inc_by(stored.replaced);
                self.tell_conflicts(stored.conflicts);
                self.metrics
                    .dead_letters
                    .with_label_values(&["refused"])
                    .inc_by(stored.refused);
                for (event, number) in [("opened", stored.opened), ("closed", stored.closed)] {
                    let counter = self.metrics.incidents.with_label_values(&[event]);
                    counter.inc_by(number);
                }
                self.count_dead_letters(&batch);
                debug!(self.log, "batch stored"; "rows" => stored.rows, "duplicates" => stored.duplicates,
                    "dead_letters" => batch.dead.len() as u64 + stored.refused);
                ("stored", BatchEnd::Stored)
            }
            End::AlreadyStored => {
                info!(self.log, "a batch whose commit was not heard of is there"; "rows" => batch.rows.len());
                self.metrics.rows_written.inc_by(batch.rows.len() as u64);
                self.count_dead_letters(&batch);
                ("stored", BatchEnd::Stored)
            }
            End::Fenced => {
                warn!(self.log, "batch dropped: its offsets are not the stored ones, since another consumer was here or a backup was restored; reading from the stored ones";
                    "ranges" => ?batch.ranges);
                ("fenced", BatchEnd::Fenced)
            }
        };
        self.metrics.batches.with_label_values(&[label]).inc();
        batch.receipt.settle(told);
    }

    fn tell_conflicts(&self, conflicts: u64) {
        if conflicts > 0 {
            self.metrics.conflicts.inc_by(conflicts);
            warn!(self.log, "results dropped, since their slots have others that say something else: do two producers have one \
                node.location? see the table check_conflict"; "results" => conflicts);
        }
    }

    fn count_dead_letters(&self, batch: &Batch) {
        for letter in &batch.dead {
            self.metrics
                .dead_letters
                .with_label_values(&[letter.reason.as_str()])
                .inc();
            warn!(self.log, "message set aside in dead_letter"; "topic" => &*batch.topic,
                "partition" => letter.source.0, "offset" => letter.source.1,
                "reason" => letter.reason.as_str(), "detail" => &letter.detail);
        }
        if let Some(gaps) = batch
            .ranges
            .iter()
            .map(|range| range.absent.len() as u64)
            .reduce(|a, b| a + b)
        {
            self.metrics
                .gaps
                .with_label_values(&["absent"])
                .inc_by(gaps);
        }
    }

    pub(super) async fn locate(&mut self, question: Locate) -> Result<(), SessionError> {
        let positions = loop {
            match self.try_locate(&question).await {
                Ok(Some(positions)) => break positions,
                Ok(None) => {}
                Err(problem) if problem.is_final() && !self.wanted.has_changed_ever() => {
                    return Err(problem);
                }
                Err(problem) => self.failed(&problem),
            }
        };
        // A consumer that is gone has lost its partitions.
        let _ = question.answer.send(positions);
        Ok(())
    }

    /// `None` if other settings were wanted before there was an answer.
    async fn try_locate(
        &mut self,
        question: &Locate,
    ) -> Result<Option<Vec<Position>>, SessionError> {
        self.connect().await?;
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        let locating = Locating {
            session,
            doubts: &mut self.doubts,
            metrics: &self.metrics,
            log: &self.log,
        };
        tokio::select! {
            biased;
            positions = locating.answer(question) => Ok(Some(positions?)),
            () = self.wanted.changed() => Ok(None),
        }
    }
}
