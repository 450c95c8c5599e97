//! The poll loop: on a thread of its own, since the Kafka client blocks.
//!
//! A partition that is assigned is paused until the database has said where to read on. What is read goes into a buffer
//! and, by size or age, as a batch to the writer. If a batch is lost or fenced off, its partitions are located anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use sitewatch_config::{BatchSettings, KafkaSettings, PostgresSettings};
use slog::{Logger, info, warn};
use tokio::{runtime::Handle, time::timeout};

use super::{
    assignment::{Assignment, Take},
    buffer::Buffer,
    client::{Change, Context, properties},
    in_flight::{InFlight, reach},
    inquiry::Inquiry,
};
use crate::{
    intake::Intake,
    kafka::{Client, Reachability},
    metrics::Metrics,
    model::{BatchEnd, Decoder, Receipt, Slot, Watermarks, WriterOrder},
};

/// The longest that one poll waits, so that the other work of the loop is done in time.
const POLL: Duration = Duration::from_millis(100);
/// How long to wait for room at the writer before the partitions are paused: pausing throws away what was fetched ahead,
/// so short waits are better sat out.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// How long the broker may take to say what it holds.
const WATERMARKS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a seek may take.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the topic until it is told to stop.
pub(super) struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    topic: Arc<str>,
    settings: BatchSettings,
    patience: Duration,
    decoder: Decoder,
    assignment: Assignment,
    buffer: Buffer,
    in_flight: InFlight,
    inquiry: Inquiry,
    writer: Intake<WriterOrder>,
    runtime: Handle,
    stop: Arc<AtomicBool>,
    metrics: Metrics,
    log: Logger,
    topic_missing: bool,
}

/// What a reader is made of.
pub(super) struct Parts<'a> {
    pub(super) kafka: &'a KafkaSettings,
    pub(super) postgres: &'a PostgresSettings,
    pub(super) client_id: &'a str,
    pub(super) patience: Duration,
    pub(super) writer: Intake<WriterOrder>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) metrics: Metrics,
    pub(super) log: Logger,
}

impl Reader {
    /// Makes the Kafka client; called on a thread of the runtime that drives the writer.
    ///
    /// # Errors
    /// If a property or a certificate is not usable; an absent broker is no error.
    pub(super) fn new(parts: Parts<'_>) -> Result<Self, KafkaError> {
        let reachability = Reachability::new(
            parts.log.clone(),
            parts.metrics.kafka_up.with_label_values(&["consumer"]),
        );
        let client = Client::new(parts.kafka, reachability, &parts.log);
        let context = Context::new(client, parts.metrics.clone(), parts.kafka.topic.clone());
        let consumer: BaseConsumer<_> =
            properties(parts.kafka, parts.client_id).create_with_context(context)?;
        consumer.subscribe(&[&parts.kafka.topic])?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topic: parts.kafka.topic.as_str().into(),
            settings: parts.postgres.batch.clone(),
            patience: parts.patience,
            decoder: Decoder::new(parts.postgres.max_slot_age, parts.postgres.max_slot_ahead),
            assignment: Assignment::default(),
            buffer: Buffer::default(),
            in_flight: InFlight::default(),
            inquiry: Inquiry::new(),
            writer: parts.writer,
            runtime: Handle::current(),
            stop: parts.stop,
            metrics: parts.metrics,
            log: parts.log,
            topic_missing: false,
        })
    }

    /// Reads until told to stop, then hands over what is buffered and waits for its end.
    ///
    /// # Errors
    /// If the Kafka client has failed for good.
    pub(super) fn run(mut self) -> Result<(), String> {
        while !self.stopping() {
            self.turn(POLL)?;
            let now = Instant::now();
            if self
                .buffer
                .due_in(self.settings.max_rows, self.settings.max_age, now)
                == Some(Duration::ZERO)
            {
                self.hand_over()?;
            }
        }
        self.finish()
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One turn of the loop: hears what has changed and reads at most one message.
    fn turn(&mut self, wait: Duration) -> Result<(), String> {
        fail::fail_point!("consumer::turn");
        fail::fail_point!("consumer::fault", |_| Err("injected fault".to_owned()));
        self.apply_changes();
        self.settle();
        self.find_positions();
        let now = Instant::now();
        let wait = self
            .buffer
            .due_in(self.settings.max_rows, self.settings.max_age, now)
            .unwrap_or(wait)
            .min(wait);
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(wait) {
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
        for change in self.consumer.context().take_changes() {
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

    fn read(&mut self, message: &BorrowedMessage<'_>) {
        let (partition, offset) = (message.partition(), message.offset());
        match self.assignment.take(partition, offset) {
            Take::Ignore => {}
            Take::Surprise => {
                warn!(self.log, "an offset came twice, looking where to read on"; "partition" => partition, "offset" => offset);
                self.lose_place(partition);
            }
            Take::Next { expected } => {
                self.metrics.consumed.inc();
                self.consumer.context().client.reachability.seen_up();
                self.topic_missing = false;
                let now = Slot::from_system_time(SystemTime::now());
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
        let context = self.consumer.context();
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
            _ => context
                .client
                .reachability
                .complaint(problem, &problem.to_string()),
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
        let mut list = TopicPartitionList::new();
        for (partition, next) in positions
            .iter()
            .filter(|(partition, _)| owned.contains(partition))
        {
            // The list's own offset is the next one to read; it adds nothing.
            let _ = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*next));
        }
        if let Err(problem) = self.consumer.store_offsets(&list) {
            slog::debug!(self.log, "offsets not stored at the client"; "error" => %problem);
        }
    }

    /// Finds out where to read on in the partitions for which that is not known: asks the broker what it holds and the
    /// database what it has.
    fn find_positions(&mut self) {
        if let Some(positions) = self.inquiry.answer() {
            self.go_on(&positions);
        }
        if !self.inquiry.may_ask() {
            return;
        }
        let partitions = self.assignment.unlocated();
        if partitions.is_empty() {
            return;
        }
        let asked = Instant::now();
        let held: Result<Vec<_>, _> = partitions
            .iter()
            .map(|partition| self.watermarks(*partition))
            .collect();
        match held {
            Ok(held) => {
                self.consumer.context().client.reachability.seen_up();
                self.inquiry.ask(&self.writer, &self.topic, held, asked);
            }
            Err(problem) => {
                self.complain(&problem);
                self.inquiry.back_off();
            }
        }
    }

    fn watermarks(&self, partition: i32) -> Result<Watermarks, KafkaError> {
        let (low, high) =
            self.consumer
                .fetch_watermarks(&self.topic, partition, WATERMARKS_TIMEOUT)?;
        Ok(Watermarks {
            partition,
            low,
            high,
        })
    }

    fn go_on(&mut self, positions: &[(i32, i64)]) {
        let waiting = self.assignment.unlocated();
        let answered = |wanted| positions.iter().any(|(partition, _)| partition == wanted);
        if !waiting.iter().all(answered) {
            self.inquiry.in_doubt();
        }
        for (partition, next) in positions
            .iter()
            .filter(|(partition, _)| waiting.contains(partition))
        {
            match self
                .consumer
                .seek(&self.topic, *partition, Offset::Offset(*next), SEEK_TIMEOUT)
            {
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
    fn hand_over(&mut self) -> Result<(), String> {
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
            if let Ok(Some(room)) = self
                .runtime
                .block_on(async { timeout(wait, writer.reserve()).await })
            {
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
            self.turn(POLL)?;
        }
        self.in_flight.push(reach, end);
        if paused {
            info!(self.log, "the writer has room again");
            self.resume(&self.assignment.located());
        }
        Ok(())
    }

    /// Hands over what is buffered and waits, for as long as is allowed, until all is stored.
    fn finish(mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        self.pause(&self.assignment.located());
        self.hand_over()?;
        while !self.in_flight.is_empty() && Instant::now() < deadline {
            self.settle();
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Err(problem) = self.consumer.commit_consumer_state(CommitMode::Sync) {
            slog::debug!(self.log, "nothing committed to Kafka"; "error" => %problem);
        }
        Ok(())
    }

    fn pause(&self, partitions: &[i32]) {
        self.tell(self.consumer.pause(&self.list(partitions)), "pause");
    }

    fn resume(&self, partitions: &[i32]) {
        self.tell(self.consumer.resume(&self.list(partitions)), "resume");
    }

    fn tell(&self, outcome: Result<(), KafkaError>, what: &str) {
        if let Err(problem) = outcome {
            warn!(self.log, "the Kafka client refused an order"; "order" => what, "error" => %problem);
        }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }
}
