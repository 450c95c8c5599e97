//! The poll loop: on a thread of its own, since the Kafka client blocks.
//!
//! A partition that is assigned is paused until the database has said where to read on. What is read goes into a buffer
//! and, by size or age, as a batch to the writer. If a batch is lost or fenced off, its partitions are located anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    Message,
    error::{KafkaError, RDKafkaErrorCode},
};
use sitewatch_config::{BatchSettings, PostgresSettings};
use slog::{Logger, info, warn};
use tokio::time::{Instant, sleep, timeout};

use super::{
    assignment::{Assignment, Take},
    buffer::Buffer,
    in_flight::{InFlight, reach},
    inquiry::Inquiry,
    source::{Change, Source},
};
use crate::{
    intake::Intake,
    metrics::Metrics,
    model::{BatchEnd, Decoder, Receipt, Watermarks, WriterOrder},
    time::WallClock,
};

/// The longest that one poll waits, so that the other work of the loop is done in time.
const POLL: Duration = Duration::from_millis(100);
/// How long to wait for room at the writer before the partitions are paused: pausing throws away what was fetched ahead,
/// so short waits are better sat out.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// Reads the topic until it is told to stop.
pub struct Reader<S> {
    /// Shared with the message in work, which borrows it.
    source: Arc<S>,
    topic: Arc<str>,
    settings: BatchSettings,
    patience: Duration,
    decoder: Decoder,
    assignment: Assignment,
    buffer: Buffer,
    in_flight: InFlight,
    inquiry: Inquiry,
    writer: Intake<WriterOrder>,
    stop: Arc<AtomicBool>,
    clock: WallClock,
    metrics: Metrics,
    log: Logger,
    topic_missing: bool,
}

/// What a reader is made of, besides where it reads.
pub struct Parts<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// How batches are made, and which slots are absurd.
    pub postgres: &'a PostgresSettings,
    /// How long stopping may take.
    pub patience: Duration,
    /// Where batches and questions go.
    pub writer: Intake<WriterOrder>,
    /// Tells the reader to end.
    pub stop: Arc<AtomicBool>,
    /// By which slots are absurd.
    pub clock: WallClock,
    /// Where what was read is counted.
    pub metrics: Metrics,
    /// Where it is told.
    pub log: Logger,
}

impl<S: Source> Reader<S> {
    /// A reader of `source`.
    pub fn new(source: S, parts: Parts<'_>) -> Self {
        Self {
            source: Arc::new(source),
            topic: parts.topic.into(),
            settings: parts.postgres.batch.clone(),
            patience: parts.patience,
            decoder: Decoder::new(parts.postgres.max_slot_age, parts.postgres.max_slot_ahead),
            assignment: Assignment::default(),
            buffer: Buffer::default(),
            in_flight: InFlight::default(),
            inquiry: Inquiry::new(),
            writer: parts.writer,
            stop: parts.stop,
            clock: parts.clock,
            metrics: parts.metrics,
            log: parts.log,
            topic_missing: false,
        }
    }

    /// Reads until told to stop, then hands over what is buffered and waits for its end.
    ///
    /// # Errors
    /// If the Kafka client has failed for good.
    pub async fn run(mut self) -> Result<(), String> {
        while !self.stopping() {
            self.turn(POLL).await?;
            let now = Instant::now();
            if self
                .buffer
                .due_in(self.settings.max_rows, self.settings.max_age, now)
                == Some(Duration::ZERO)
            {
                self.hand_over().await?;
            }
        }
        self.finish().await
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One turn of the loop: hears what has changed and reads at most one message.
    async fn turn(&mut self, wait: Duration) -> Result<(), String> {
        fail::fail_point!("consumer::turn");
        fail::fail_point!("consumer::fault", |_| Err("injected fault".to_owned()));
        self.apply_changes();
        self.settle();
        self.find_positions().await;
        let now = Instant::now();
        let wait = self
            .buffer
            .due_in(self.settings.max_rows, self.settings.max_age, now)
            .unwrap_or(wait)
            .min(wait);
        let source = Arc::clone(&self.source);
        match source.poll(wait).await {
            None => {}
            Some(Ok(message)) => self.read(&message),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(format!("Kafka client: {code}"));
            }
            Some(Err(problem)) => self.complain(&problem),
        }
        Ok(())
    }

    fn apply_changes(&mut self) {
        for change in self.source.take_changes() {
            match change {
                Change::Assigned(partitions) => {
                    self.assignment.assign(&partitions);
                    self.inquiry.hurry();
                }
                Change::Revoked(partitions) => {
                    self.assignment.revoke(&partitions);
                    for partition in partitions {
                        self.buffer.forget(partition);
                    }
                }
            }
        }
    }

    fn read(&mut self, message: &impl Message) {
        let (partition, offset) = (message.partition(), message.offset());
        match self.assignment.take(partition, offset) {
            Take::Ignore => {}
            Take::Surprise => {
                warn!(self.log, "an offset came twice, looking where to read on"; "partition" => partition, "offset" => offset);
                self.lose_place(partition);
            }
            Take::Next { expected } => {
                self.metrics.consumed.inc();
                self.source.seen_up();
                self.topic_missing = false;
                let now = (self.clock)();
                let payload = message.payload().unwrap_or_default();
                let content = self
                    .decoder
                    .decode((partition, offset), message.key(), payload, now);
                self.buffer
                    .add(partition, offset, expected, content, Instant::now());
            }
        }
    }

    fn complain(&mut self, problem: &KafkaError) {
        match problem.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                if !self.topic_missing {
                    warn!(self.log, "the topic does not exist (yet)"; "topic" => &*self.topic);
                    self.topic_missing = true;
                }
            }
            // The position is not among what the broker holds.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                warn!(self.log, "Kafka does not hold the next offset, looking where to read on"; "error" => %problem);
                for partition in self.assignment.all() {
                    self.lose_place(partition);
                }
            }
            // The context has heard of it before, with the reason.
            Some(RDKafkaErrorCode::Authentication) => {}
            _ => self.source.complaint(problem),
        }
    }

    /// Where to read on in `partition` is in doubt: what was buffered of it goes, and the database is asked.
    fn lose_place(&mut self, partition: i32) {
        self.buffer.forget(partition);
        if self.assignment.unlocate(partition) {
            self.pause(&[partition]);
        }
    }

    /// Hears how the batches at the writer have ended, oldest first.
    fn settle(&mut self) {
        while let Some((reach, end)) = self.in_flight.next_settled() {
            match end {
                BatchEnd::Stored => self.hint(&reach),
                BatchEnd::Fenced | BatchEnd::Lost => {
                    info!(self.log, "a batch was not stored, reading it again"; "end" => ?end, "up_to" => ?reach);
                    for (partition, _) in reach {
                        self.lose_place(partition);
                    }
                }
            }
        }
    }

    /// Tells Kafka how far the database is. Only a hint, for people and for lag monitors.
    fn hint(&self, positions: &[(i32, i64)]) {
        let owned = self.assignment.all();
        let positions: Vec<_> = positions
            .iter()
            .filter(|(partition, _)| owned.contains(partition))
            .copied()
            .collect();
        if let Err(problem) = self.source.hint(&positions) {
            slog::debug!(self.log, "offsets not stored at the client"; "error" => %problem);
        }
    }

    /// Finds out where to read on in the partitions for which that is not known: asks the broker what it holds and the
    /// database what it has.
    async fn find_positions(&mut self) {
        if let Some(positions) = self.inquiry.answer() {
            self.go_on(&positions).await;
        }
        if !self.inquiry.may_ask() {
            return;
        }
        let partitions = self.assignment.unlocated();
        if partitions.is_empty() {
            return;
        }
        let asked = Instant::now();
        match self.watermarks(&partitions).await {
            Ok(held) => {
                self.source.seen_up();
                self.inquiry.ask(&self.writer, &self.topic, held, asked);
            }
            Err(problem) => {
                self.complain(&problem);
                self.inquiry.back_off();
            }
        }
    }

    async fn watermarks(&self, partitions: &[i32]) -> Result<Vec<Watermarks>, KafkaError> {
        let mut held = Vec::with_capacity(partitions.len());
        for partition in partitions {
            held.push(self.source.watermarks(*partition).await?);
        }
        Ok(held)
    }

    async fn go_on(&mut self, positions: &[(i32, i64)]) {
        let waiting = self.assignment.unlocated();
        let answered = |wanted| positions.iter().any(|(partition, _)| partition == wanted);
        if !waiting.iter().all(answered) {
            self.inquiry.in_doubt();
        }
        for (partition, next) in positions
            .iter()
            .filter(|(partition, _)| waiting.contains(partition))
        {
            match self.source.seek(*partition, *next).await {
                Ok(()) => {
                    self.assignment.locate(*partition, *next);
                    self.resume(&[*partition]);
                    self.inquiry.succeeded();
                    info!(self.log, "reading"; "partition" => partition, "from" => next);
                }
                Err(problem) => {
                    slog::debug!(self.log, "can't go to an offset yet"; "partition" => partition, "error" => %problem);
                    self.inquiry.back_off();
                }
            }
        }
        self.hint(positions);
    }

    /// Hands the buffer to the writer. While there is no room the partitions are paused, and polling goes on, so that the
    /// group does not believe this consumer dead.
    async fn hand_over(&mut self) -> Result<(), String> {
        let (receipt, end) = Receipt::new();
        let Some(batch) = self.buffer.take(&self.topic, receipt) else {
            return Ok(());
        };
        let reach = reach(&batch.ranges);
        let writer = self.writer.clone();
        let mut paused = false;
        let mut wait = SHORT_WAIT;
        let deadline = Instant::now() + self.patience;
        loop {
            if let Ok(Some(room)) = timeout(wait, writer.reserve()).await {
                room.fill(WriterOrder::Store(batch));
                break;
            }
            if self.stopping() && Instant::now() > deadline {
                return Ok(());
            }
            if !paused {
                info!(self.log, "the writer has no room, pausing");
                paused = true;
                wait = Duration::from_millis(10);
            }
            self.pause(&self.assignment.located());
            self.turn(POLL).await?;
        }
        self.in_flight.push(reach, end);
        if paused {
            info!(self.log, "the writer has room again");
            self.resume(&self.assignment.located());
        }
        Ok(())
    }

    /// Hands over what is buffered and waits, for as long as is allowed, until all is stored.
    async fn finish(mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        self.pause(&self.assignment.located());
        self.hand_over().await?;
        while !self.in_flight.is_empty() && Instant::now() < deadline {
            self.settle();
            sleep(Duration::from_millis(5)).await;
        }
        if let Err(problem) = self.source.commit().await {
            slog::debug!(self.log, "nothing committed to Kafka"; "error" => %problem);
        }
        Ok(())
    }

    fn pause(&self, partitions: &[i32]) {
        self.tell(self.source.pause(partitions), "pause");
    }

    fn resume(&self, partitions: &[i32]) {
        self.tell(self.source.resume(partitions), "resume");
    }

    fn tell(&self, outcome: Result<(), KafkaError>, what: &str) {
        if let Err(problem) = outcome {
            warn!(self.log, "the Kafka client refused an order"; "order" => what, "error" => %problem);
        }
    }
}
