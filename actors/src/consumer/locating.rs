//! Finding out where to read on, and whether what was stored is of the same topic: the database says what it has, the broker what it holds.

use std::sync::Arc;

use rdkafka::error::KafkaError;
use slog::{debug, error, info};
use tokio::time::Instant;

use super::{
    inquiry::Seen,
    lane::lane_of,
    reader::{INSPECTION, Reader},
    source::Source,
};
use crate::model::{Position, Watermarks};

impl<S: Source> Reader<S> {
    /// Finds out where to read on in the partitions for which that is not known: asks the broker what it holds and the
    /// database what it has.
    pub(super) async fn find_positions(&mut self) {
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
                    self.topic.cluster = self.source.cluster();
                    let other = |it: &i32| Some((*it, *self.others.get(it)?));
                    let others = partitions.iter().filter_map(other).collect();
                    let seen = Seen {
                        asked,
                        held,
                        others,
                    };
                    self.lanes[place].ask(&self.topic, seen);
                }
                Err(problem) => {
                    self.complain(&problem);
                    self.lanes[place].inquiry.back_off();
                }
            }
        }
    }

    /// Those of the partitions that have the lane at `place`.
    pub(super) fn in_lane(&self, place: usize, mut partitions: Vec<i32>) -> Vec<i32> {
        partitions.retain(|partition| lane_of(*partition, self.lanes.len()) == place);
        partitions
    }

    async fn watermarks(&self, partitions: &[i32]) -> Result<Vec<Watermarks>, KafkaError> {
        let mut held = Vec::with_capacity(partitions.len());
        for partition in partitions {
            held.push(self.source.watermarks(*partition).await?);
        }
        Ok(held)
    }

    /// Goes on at these positions, unless the broker holds another message before one of them than was stored.
    async fn go_on(&mut self, place: usize, positions: &[Position]) {
        let waiting = self.in_lane(place, self.assignment.unlocated());
        let answered = |wanted: &i32| {
            positions
                .iter()
                .any(|position| position.partition == *wanted)
        };
        if !waiting.iter().all(answered) {
            self.lanes[place].inquiry.in_doubt();
        }
        let positions = positions.iter().copied();
        let positions = positions.filter(|position| waiting.contains(&position.partition));
        let positions: Vec<_> = positions.collect();
        if positions.is_empty() {
            return;
        }
        let went_on = match self.verified(&positions).await {
            Ok(same) => self.read_on(place, &same).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = went_on {
            debug!(self.log, "can't go to an offset yet"; "positions" => ?positions, "error" => %problem);
            self.lanes[place].inquiry.back_off();
        }
    }

    async fn read_on(&mut self, place: usize, positions: &[Position]) -> Result<(), KafkaError> {
        if positions.is_empty() {
            return Ok(());
        }
        let places: Vec<_> = positions.iter().map(|it| (it.partition, it.next)).collect();
        self.source.go_to(&places).await?;
        for Position {
            partition,
            next,
            last,
            ..
        } in positions
        {
            self.assignment.locate(*partition, *next);
            self.assignment.store(*partition, *next, *last);
            self.others.remove(partition);
            info!(self.log, "reading"; "partition" => partition, "from" => next);
        }
        if !self.lanes[place].paused && !self.clocks.are_apart() {
            self.resume(
                &places
                    .iter()
                    .map(|(partition, _)| *partition)
                    .collect::<Vec<_>>(),
            );
        }
        self.lanes[place].inquiry.succeeded();
        self.hint(positions);
        Ok(())
    }

    /// Returns those of the positions before which the broker holds the message that was stored, as far as that can be known. The others
    /// are noted.
    async fn verified(&mut self, positions: &[Position]) -> Result<Vec<Position>, KafkaError> {
        let asked = positions.iter().filter(|it| it.last.is_some());
        let asked: Vec<_> = asked.map(|it| (it.partition, it.next - 1)).collect();
        let mut found = Vec::new();
        if !asked.is_empty() {
            found = self.source.fingerprints(&asked).await?;
        }
        let held = |partition: i32| found.iter().find(|(of, _)| *of == partition)?.1;
        let is_same = |position: &&Position| match (position.last, held(position.partition)) {
            (Some(stored), Some(held)) => stored == held,
            // The message is gone, or was never known: there is only the cluster to go by.
            _ => !position.is_moved,
        };
        let (same, others): (Vec<&Position>, Vec<&Position>) = positions.iter().partition(is_same);
        for position in others {
            self.note_other(position.partition, position.next - 1);
        }
        Ok(same.into_iter().copied().collect())
    }

    fn note_other(&mut self, partition: i32, offset: i64) {
        error!(self.log, "Kafka holds another message than the one that was stored: the topic was made again, or is another cluster's; \
            reading it from its beginning"; "topic" => &*self.topic.name, "partition" => partition, "offset" => offset);
        self.others.insert(partition, offset);
        let place = lane_of(partition, self.lanes.len());
        self.lanes[place].inquiry.hurry();
    }

    /// Looks from time to time whether the messages that were stored last are still there.
    pub(super) async fn inspect(&mut self) {
        if Instant::now() < self.next_inspection {
            return;
        }
        self.next_inspection = Instant::now() + INSPECTION;
        let stored = self.assignment.anchors();
        let places: Vec<_> = stored
            .iter()
            .map(|(partition, offset, _)| (*partition, *offset))
            .collect();
        if places.is_empty() {
            return;
        }
        let source = Arc::clone(&self.source);
        match source.fingerprints(&places).await {
            Ok(found) => {
                for (partition, offset, print) in stored {
                    let held = found.iter().find(|(of, _)| *of == partition);
                    if held.is_some_and(|(_, held)| held.is_some_and(|held| held != print)) {
                        self.note_other(partition, offset);
                        self.lose_place(partition);
                    } else {
                        self.assignment.inspected(partition);
                    }
                }
            }
            Err(problem) => {
                debug!(self.log, "can't look at the messages that were stored"; "error" => %problem);
            }
        }
    }

    /// Tells if messages wait and none has been stored for long.
    pub(super) async fn look_for_standstill(&mut self) {
        if !self.standstill.is_due() {
            return;
        }
        let all = self.assignment.all();
        let Ok(held) = self.watermarks(&all).await else {
            // Kafka does not answer, and that is told.
            return self.standstill.put_off();
        };
        let reached = |it: &Watermarks| self.assignment.stored_next(it.partition).unwrap_or(it.low);
        let waiting = held.iter().map(|it| (it.high - reached(it)).max(0)).sum();
        let is_at_writer = self.lanes.iter().any(|lane| !lane.in_flight.is_empty());
        let why = if waiting == 0 {
            return self.standstill.goes_on(&self.log);
        } else if self.clocks.are_apart() {
            "the clocks of this machine and of the database differ"
        } else if is_at_writer {
            "PostgreSQL has not taken what it was given"
        } else if !self.assignment.unlocated().is_empty() {
            "it is not known where to read on"
        } else {
            "Kafka gives none of them out"
        };
        self.standstill.stands(waiting, why, &self.log);
    }
}
