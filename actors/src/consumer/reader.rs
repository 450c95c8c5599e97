//! The poll loop: on a thread of its own, since the Kafka client blocks.
//!
//! A partition that is assigned is paused until the database has said where to read on. What is read goes into the lane of
//! its partition and, by size or age, as a batch to the lane's writer. If a batch is lost or fenced off, its partitions are
//! located anew.

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
use tokio::time::{Instant, sleep};

use super::{
    assignment::{Assignment, Take},
    lane::Lane,
    source::{Change, Source},
};
use crate::{
    health::Pulse,
    intake::Intake,
    metrics::Metrics,
    model::{BatchEnd, Decoder, Slot, Watermarks, WriterOrder},
    time::WallClock,
};

/// The longest that one poll waits, so that the other work of the loop is done in time.
const POLL: Duration = Duration::from_millis(100);
/// How often a batch that is due is offered to a writer without room.
const OFFER_AGAIN: Duration = Duration::from_millis(5);
/// The most messages that are read in one turn: the loop's other work, and two looks at the clock, are shared by so many.
const BURST: usize = 256;

/// Reads the topic until it is told to stop.
pub struct Reader<S> {
    /// Shared with the message in work, which borrows it.
    source: Arc<S>,
    topic: Arc<str>,
    settings: BatchSettings,
    patience: Duration,
    decoder: Decoder,
    assignment: Assignment,
    /// One a writer; partition p has lane p modulo their number.
    lanes: Vec<Lane>,
    stop: Arc<AtomicBool>,
    clock: WallClock,
    pulse: Pulse,
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
    /// Where batches and questions go: each partition has one of these writers, always the same.
    pub writers: Vec<Intake<WriterOrder>>,
    /// Tells the reader to end.
    pub stop: Arc<AtomicBool>,
    /// By which slots are absurd.
    pub clock: WallClock,
    /// Beats with each turn.
    pub pulse: Pulse,
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
            lanes: parts.writers.into_iter().map(Lane::new).collect(),
            stop: parts.stop,
            clock: parts.clock,
            pulse: parts.pulse,
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
            self.turn().await?;
        }
        self.finish().await;
        Ok(())
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn lane(&mut self, partition: i32) -> &mut Lane {
        let place = lane_of(partition, self.lanes.len());
        &mut self.lanes[place]
    }

    /// One turn of the loop: hears what has changed, hands over what is due, and reads what there is.
    async fn turn(&mut self) -> Result<(), String> {
        self.pulse.beat();
        fail::fail_point!("consumer::turn");
        fail::fail_point!("consumer::fault", |_| Err("injected fault".to_owned()));
        self.apply_changes();
        self.settle();
        self.find_positions().await;
        self.hand_over().await;
        self.read_some().await
    }

    /// Reads what has been fetched, until there is no more or a lane is full; waits for the first message.
    async fn read_some(&mut self) -> Result<(), String> {
        let (source, mut wait) = (Arc::clone(&self.source), self.wait());
        let mut read_at = None;
        for _ in 0..BURST {
            match source.poll(wait).await {
                None => break,
                Some(Ok(message)) => {
                    let (now, wall) =
                        *read_at.get_or_insert_with(|| (Instant::now(), (self.clock)()));
                    if self.read(&message, now, wall) {
                        break;
                    }
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(format!("Kafka client: {code}"));
                }
                Some(Err(problem)) => self.complain(&problem),
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// How long the first poll of a turn may wait.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let due = self.lanes.iter().filter_map(|lane| {
            let due = lane.buffer.due_in(&self.settings, now)?;
            // If it is due now, there was no room for it.
            Some(due.max(if lane.paused { POLL } else { OFFER_AGAIN }))
        });
        due.min().unwrap_or(POLL).min(POLL)
    }

    fn apply_changes(&mut self) {
        for change in self.source.take_changes() {
            match change {
                Change::Assigned(partitions) => {
                    self.assignment.assign(&partitions);
                    for partition in partitions {
                        self.lane(partition).inquiry.hurry();
                    }
                }
                Change::Revoked(partitions) => {
                    self.assignment.revoke(&partitions);
                    for partition in partitions {
                        self.lane(partition).buffer.forget(partition);
                    }
                }
            }
        }
    }

    /// Takes a message, read `now`, by the wall clock `wall`. Whether its lane is full now.
    fn read(&mut self, message: &impl Message, now: Instant, wall: Slot) -> bool {
        let (partition, offset) = (message.partition(), message.offset());
        match self.assignment.take(partition, offset) {
            Take::Ignore => false,
            Take::Surprise => {
                warn!(self.log, "an offset came twice, looking where to read on"; "partition" => partition, "offset" => offset);
                self.lose_place(partition);
                false
            }
            Take::Next { expected } => {
                self.metrics.consumed.inc();
                self.source.seen_up();
                self.topic_missing = false;
                let payload = message.payload().unwrap_or_default();
                let content =
                    self.decoder
                        .decode((partition, offset), message.key(), payload, wall);
                let max_rows = self.settings.max_rows;
                let buffer = &mut self.lane(partition).buffer;
                buffer.add(partition, offset, expected, content, now);
                buffer.is_full(max_rows)
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
        self.lane(partition).buffer.forget(partition);
        if self.assignment.unlocate(partition) {
            self.pause(&[partition]);
        }
    }

    /// Hears how the batches at the writers have ended, oldest first.
    fn settle(&mut self) {
        for place in 0..self.lanes.len() {
            while let Some((reach, end)) = self.lanes[place].in_flight.next_settled() {
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
        for place in 0..self.lanes.len() {
            if let Some(positions) = self.lanes[place].inquiry.answer() {
                self.go_on(place, &positions).await;
            }
            if !self.lanes[place].inquiry.may_ask() {
                continue;
            }
            let partitions = self.in_lane(place, self.assignment.unlocated());
            if partitions.is_empty() {
                continue;
            }
            let asked = Instant::now();
            match self.watermarks(&partitions).await {
                Ok(held) => {
                    self.source.seen_up();
                    self.lanes[place].ask(&self.topic, held, asked);
                }
                Err(problem) => {
                    self.complain(&problem);
                    self.lanes[place].inquiry.back_off();
                }
            }
        }
    }

    /// Those of the partitions that have the lane at `place`.
    fn in_lane(&self, place: usize, mut partitions: Vec<i32>) -> Vec<i32> {
        partitions.retain(|partition| lane_of(*partition, self.lanes.len()) == place);
        partitions
    }

    async fn watermarks(&self, partitions: &[i32]) -> Result<Vec<Watermarks>, KafkaError> {
        let mut held = Vec::with_capacity(partitions.len());
        for partition in partitions {
            held.push(self.source.watermarks(*partition).await?);
            self.pulse.beat();
        }
        Ok(held)
    }

    async fn go_on(&mut self, place: usize, positions: &[(i32, i64)]) {
        let waiting = self.in_lane(place, self.assignment.unlocated());
        let answered = |wanted| positions.iter().any(|(partition, _)| partition == wanted);
        if !waiting.iter().all(answered) {
            self.lanes[place].inquiry.in_doubt();
        }
        for (partition, next) in positions
            .iter()
            .filter(|(partition, _)| waiting.contains(partition))
        {
            // Each may take seconds.
            self.pulse.beat();
            match self.source.seek(*partition, *next).await {
                Ok(()) => {
                    self.assignment.locate(*partition, *next);
                    if !self.lanes[place].paused {
                        self.resume(&[*partition]);
                    }
                    self.lanes[place].inquiry.succeeded();
                    info!(self.log, "reading"; "partition" => partition, "from" => next);
                }
                Err(problem) => {
                    slog::debug!(self.log, "can't go to an offset yet"; "partition" => partition, "error" => %problem);
                    self.lanes[place].inquiry.back_off();
                }
            }
        }
        self.hint(positions);
    }

    /// Hands what is due to the writers. While a full lane finds no room at its writer its partitions are paused, and
    /// polling goes on, so that the group does not believe this consumer dead and the other lanes do not wait.
    async fn hand_over(&mut self) {
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            let stuck = lane.hand_over(&self.topic, &self.settings).await;
            if lane.paused == stuck {
                continue;
            }
            lane.paused = stuck;
            let partitions = self.in_lane(place, self.assignment.located());
            if stuck {
                info!(self.log, "the writer has no room, pausing"; "partitions" => ?partitions);
                self.pause(&partitions);
            } else {
                info!(self.log, "the writer has room again"; "partitions" => ?partitions);
                self.resume(&partitions);
            }
        }
    }

    /// Hands over what is buffered and waits, for as long as is allowed, until all is stored.
    async fn finish(mut self) {
        let deadline = Instant::now() + self.patience;
        self.pause(&self.assignment.located());
        loop {
            self.pulse.beat();
            self.settle();
            for lane in &mut self.lanes {
                lane.hand_over_rest(&self.topic);
            }
            if self.lanes.iter().all(Lane::is_empty) || Instant::now() >= deadline {
                break;
            }
            sleep(OFFER_AGAIN).await;
        }
        if let Err(problem) = self.source.commit().await {
            slog::debug!(self.log, "nothing committed to Kafka"; "error" => %problem);
        }
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

/// Which of so many lanes a partition has.
fn lane_of(partition: i32, lanes: usize) -> usize {
    partition.unsigned_abs() as usize % lanes.max(1)
}
