//! The poll loop: on a thread of its own, since the Kafka client blocks.
//!
//! A partition that is assigned is paused until the database has said where to read on. What is read goes into the lane of
//! its partition and, by size or age, as a batch to the lane's writer. If a batch is lost or fenced off, its partitions are
//! located anew.

use std::{
    collections::BTreeMap,
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
    clocks::ClockWatch,
    lane::{Lane, lane_of},
    source::{Change, Source},
    standstill::Standstill,
};
use crate::{
    database::DatabaseClock,
    health::{Obstacles, Pulse},
    intake::Intake,
    metrics::Metrics,
    model::{BatchEnd, Decoder, Position, Slot, Topic, WriterOrder},
    time::WallClock,
};

/// The longest that one poll waits, so that the other work of the loop is done in time.
const POLL: Duration = Duration::from_millis(100);
/// How often a batch that is due is offered to a writer without room.
const OFFER_AGAIN: Duration = Duration::from_millis(5);
/// The most messages that are read in one turn: the loop's other work, and two looks at the clock, are shared by so many.
const BURST: usize = 256;

/// How often it is looked whether the messages that were stored are still there: a topic that was made again, and has grown since, looks
/// like the one before in all but these.
pub(super) const INSPECTION: Duration = Duration::from_secs(30);

/// Reads the topic until it is told to stop.
pub struct Reader<S> {
    /// Shared with the message in work, which borrows it.
    pub(super) source: Arc<S>,
    pub(super) topic: Topic,
    settings: BatchSettings,
    patience: Duration,
    decoder: Decoder,
    pub(super) assignment: Assignment,
    /// One a writer; partition p has lane p modulo their number.
    pub(super) lanes: Vec<Lane>,
    stop: Arc<AtomicBool>,
    pub(super) clocks: ClockWatch,
    pub(super) standstill: Standstill,
    /// When it is looked next whether the messages that were stored are still there.
    pub(super) next_inspection: Instant,
    /// Partitions in which they are not: each with the offset at which the broker holds another message.
    pub(super) others: BTreeMap<i32, i64>,
    pulse: Pulse,
    metrics: Metrics,
    pub(super) log: Logger,
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
    /// This process's clock.
    pub clock: WallClock,
    /// The database's, by which slots are absurd.
    pub database_clock: DatabaseClock,
    /// Where it is noted what keeps this consumer from storing.
    pub obstacles: Obstacles,
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
            topic: Topic {
                name: parts.topic.into(),
                cluster: None,
            },
            settings: parts.postgres.batch.clone(),
            patience: parts.patience,
            decoder: Decoder::new(parts.postgres.max_slot_age, parts.postgres.max_slot_ahead),
            assignment: Assignment::default(),
            lanes: parts.writers.into_iter().map(Lane::new).collect(),
            stop: parts.stop,
            clocks: ClockWatch::new(parts.database_clock, parts.clock, parts.obstacles.clone()),
            standstill: Standstill::new(parts.obstacles, parts.metrics.clone()),
            next_inspection: Instant::now() + INSPECTION,
            others: BTreeMap::new(),
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
        while !self.stop.load(Ordering::Relaxed) {
            self.turn().await?;
        }
        self.finish().await;
        Ok(())
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
        self.heed_clocks();
        self.find_positions().await;
        self.inspect().await;
        self.hand_over().await;
        self.look_for_standstill().await;
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
                        *read_at.get_or_insert_with(|| (Instant::now(), self.clocks.now()));
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

    pub(super) fn complain(&mut self, problem: &KafkaError) {
        match problem.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                if !self.topic_missing {
                    warn!(self.log, "the topic does not exist (yet)"; "topic" => &*self.topic.name);
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
    pub(super) fn lose_place(&mut self, partition: i32) {
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
                    BatchEnd::Stored => {
                        for Position {
                            partition,
                            next,
                            last,
                            ..
                        } in &reach
                        {
                            self.assignment.store(*partition, *next, *last);
                        }
                        self.standstill.goes_on(&self.log);
                        self.hint(&reach);
                    }
                    BatchEnd::Fenced | BatchEnd::Lost => {
                        info!(self.log, "a batch was not stored, reading it again"; "end" => ?end, "up_to" => ?reach);
                        for position in reach {
                            self.lose_place(position.partition);
                        }
                    }
                }
            }
        }
    }

    /// Tells Kafka how far the database is. Only a hint, for people and for lag monitors.
    pub(super) fn hint(&self, positions: &[Position]) {
        let owned = self.assignment.all();
        let positions: Vec<_> = positions
            .iter()
            .filter(|position| owned.contains(&position.partition))
            .map(|position| (position.partition, position.next))
            .collect();
        if let Err(problem) = self.source.hint(&positions) {
            slog::debug!(self.log, "offsets not stored at the client"; "error" => %problem);
        }
    }

    /// Stands still while this machine's clock and the database's are far apart. What was read before is judged by the database's.
    fn heed_clocks(&mut self) {
        if !self.clocks.look(&self.metrics, &self.log) {
            return;
        }
        if self.clocks.are_apart() {
            self.pause(&self.assignment.located());
        } else {
            let resumed = self.assignment.located().into_iter();
            let has_room = |it: &i32| !self.lanes[lane_of(*it, self.lanes.len())].paused;
            self.resume(&resumed.filter(has_room).collect::<Vec<_>>());
        }
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
                if !self.clocks.are_apart() {
                    self.resume(&partitions);
                }
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

    pub(super) fn pause(&self, partitions: &[i32]) {
        self.tell(self.source.pause(partitions), "pause");
    }

    pub(super) fn resume(&self, partitions: &[i32]) {
        self.tell(self.source.resume(partitions), "resume");
    }

    fn tell(&self, outcome: Result<(), KafkaError>, what: &str) {
        if let Err(problem) = outcome {
            warn!(self.log, "the Kafka client refused an order"; "order" => what, "error" => %problem);
        }
    }
}
