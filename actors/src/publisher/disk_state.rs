//! Follows the state of the spool's disk. While it takes no results, they go to Kafka from memory.

use std::time::Duration;

use tokio::time::Instant;

use slog::{debug, error, info};

use super::{Publisher, outside::Outside, spool::Damage};
use crate::retry::Retry;

/// The longest pause between two tries to write. Short, since results that are only in memory wait for a try that succeeds.
const SLOWEST: Duration = Duration::from_secs(2);

/// The state of the disk as the last turn found it.
pub(super) struct DiskState {
    /// False after a write that failed.
    pub(super) well: bool,
    /// True while the spool is at `spool.max_bytes`.
    pub(super) full: bool,
    /// True while results that Kafka has can't be removed.
    pub(super) untidy: bool,
    retry: Retry,
    /// The time of the next try.
    pub(super) not_before: Option<Instant>,
    /// The number of results in the spool when its folder was lost.
    waited: Option<u64>,
}

impl Default for DiskState {
    fn default() -> Self {
        Self {
            well: true,
            full: false,
            untidy: false,
            retry: Retry::new(Duration::from_millis(100), SLOWEST),
            not_before: None,
            waited: None,
        }
    }
}

impl<O: Outside> Publisher<O> {
    /// Handles a turn that succeeded and wrote `count` results. An empty write does not prove that a failed disk has recovered.
    pub(super) fn disk_is_well(&mut self, count: usize) {
        if !self.disk.well || self.disk.full {
            // A full spool takes a few results whenever Kafka takes some. It has recovered once no result waits.
            if count == 0 || (self.disk.full && self.arrivals.waiting() > 0) {
                return;
            }
            info!(self.log, "the spool takes results again");
            if !self.disk.well {
                self.arrivals.all_wait_again();
            }
        }
        (self.disk.well, self.disk.full, self.disk.not_before) = (true, false, None);
        self.disk.retry.reset();
        self.metrics.spool_up.set(1);
    }

    /// Handles a turn for which the spool had no room.
    pub(super) fn disk_is_full(&mut self) {
        self.arrivals.give_back();
        if !self.disk.full {
            error!(self.log, "the spool is full: sites wait until Kafka takes results"; "when_full" => ?self.spool.when_full,
                "max_bytes" => self.spool.max_bytes, "dir" => %self.spool.dir.display());
        }
        self.disk.full = true;
        self.send_unspooled();
    }

    /// Handles a turn that failed to write.
    pub(super) fn disk_failed(&mut self, problem: &str) {
        self.arrivals.give_back();
        self.metrics.spool_errors.inc();
        self.metrics.spool_up.set(0);
        if self.disk.well {
            error!(self.log, "the spool can't be written: results go to Kafka from memory, and count when Kafka has them";
                "dir" => %self.spool.dir.display(), "reason" => problem);
        } else {
            debug!(self.log, "the spool still can't be written"; "reason" => problem);
        }
        self.disk.well = false;
        self.disk.not_before = Some(Instant::now() + self.disk.retry.next_delay());
        self.send_unspooled();
    }

    /// Handles the loss of the lock file or the folder: the next turn opens the spool again.
    pub(super) fn spool_is_lost(&mut self, problem: &str) {
        self.arrivals.give_back();
        self.metrics.spool_errors.inc();
        let waited = self.metrics.spool_results.get();
        self.disk.waited = Some(waited.cast_unsigned());
        error!(self.log, "the spool is not this process's any more, opening it again; exclude spool.dir from programs that clean up files";
            "reason" => problem, "dir" => %self.spool.dir.display(), "results" => waited);
    }

    /// Logs how many results that waited before a loss are missing in the spool that was opened after it.
    pub(super) fn tell_missing(&mut self, results: u64) {
        if let Some(waited) = self.disk.waited.take()
            && waited > results
        {
            error!(self.log, "results that waited for Kafka are missing in the spool that was opened again: another producer may have sent them, else they are lost (see spool.dir)";
                "results" => waited - results, "dir" => %self.spool.dir.display());
        }
    }

    /// Logs and counts damage that a turn met.
    pub(super) fn tell_damage(&self, damage: &[Damage]) {
        for damage in damage {
            error!(self.log, "the spool is damaged there, what was there is lost; the file is kept"; "file" => &damage.file,
                "offset" => damage.offset, "bytes" => damage.bytes);
            self.metrics.spool_damage.inc();
        }
    }
}
