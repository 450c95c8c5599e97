//! The way from those who log to the thread that writes: bounded, and never waited for.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus::IntCounter;
use slog::{Drain, Level, Never, OwnedKVList, Record, b, o, record};
use slog_async::AsyncRecord;

use super::line::Lines;

/// The lines that may wait to be written.
const QUEUE: usize = 4096;
/// How long the end of the program waits for what is queued: a collector that reads nothing must not hold it up.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the end waits before it looks for room in the queue again.
const AGAIN: Duration = Duration::from_millis(10);

enum Entry {
    Line(AsyncRecord),
    /// All before it is written: to be acknowledged.
    End(SyncSender<()>),
}

/// Counts lines that are lost.
#[derive(Clone)]
pub(super) struct Lost {
    /// Those that no line has told of yet.
    untold: Arc<AtomicU64>,
    total: IntCounter,
}

impl Lost {
    pub(super) fn new(total: IntCounter) -> Self {
        Self {
            untold: Arc::default(),
            total,
        }
    }

    fn add_one(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.total.inc();
    }

    /// Says in one line how many were lost, if any were. They stay untold where that line can't be written either.
    fn tell(&self, lines: &mut Lines) {
        let lost = self.untold.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let told = lines.write(
            &record!(
                Level::Warning,
                "",
                &format_args!(
                    "log lines were lost: standard error did not take them, or not as fast as they came (see node.log.level)"
                ),
                b!("lines" => lost)
            ),
            &OwnedKVList::from(o!()),
        );
        if told.is_err() {
            self.untold.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

/// Queues records for the thread.
pub(super) struct Queue {
    entries: SyncSender<Entry>,
    lost: Lost,
}

impl Drain for Queue {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let line = Entry::Line(AsyncRecord::from(record, values));
        if self.entries.try_send(line).is_err() {
            self.lost.add_one();
        }
        Ok(())
    }
}

/// The thread that writes.
pub(super) struct LogThread {
    /// `None` where the system has no thread for it: each line is lost then.
    entries: Option<SyncSender<Entry>>,
}

impl LogThread {
    /// Starts it.
    pub(super) fn start(lines: Lines, lost: Lost) -> (Queue, Self) {
        let (entries, queued) = mpsc::sync_channel(QUEUE);
        let counted = lost.clone();
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&queued, lines, &counted));
        let queue = Queue {
            entries: entries.clone(),
            lost,
        };
        let entries = thread.is_ok().then_some(entries);
        (queue, Self { entries })
    }

    /// Waits a moment for what is queued to be written.
    pub(super) fn finish(&self) {
        let Some(entries) = &self.entries else { return };
        let (written, end) = mpsc::sync_channel(1);
        let deadline = Instant::now() + FAREWELL;
        while let Err(TrySendError::Full(_)) = entries.try_send(Entry::End(written.clone())) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(AGAIN);
        }
        // What is not written by then is lost; nothing is left to count it.
        let _ = end.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Writes what is queued, for as long as somebody may log.
fn write_all(queued: &Receiver<Entry>, mut lines: Lines, lost: &Lost) {
    loop {
        let entry = match queued.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                // Here and not earlier: a queue that is full again would lose more, and need more such lines.
                lost.tell(&mut lines);
                match queued.recv() {
                    Ok(entry) => entry,
                    Err(mpsc::RecvError) => return,
                }
            }
        };
        match entry {
            Entry::Line(line) => {
                let mut written: io::Result<()> = Ok(());
                line.as_record_values(|record, values| written = lines.write(record, values));
                if written.is_err() {
                    lost.add_one();
                }
            }
            Entry::End(written) => {
                lost.tell(&mut lines);
                // The end may have stopped waiting.
                let _ = written.send(());
            }
        }
    }
}
