//! What every part of a simulation shares: its one generator of random numbers, its trace, and whether faults happen.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use fastrand::Rng;
use sitewatch_actors::model::Slot;
use tokio::time::{Instant, sleep};

/// Where the simulated wall clock begins, in microseconds since 1970.
pub(crate) const EPOCH: i64 = 1_700_000_000_000_000;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
    /// By how much the producers' clocks are ahead, in microseconds.
    static AHEAD: Cell<i64> = const { Cell::new(0) };
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The simulated wall clock: goes with tokio's.
pub(crate) fn wall_clock() -> Slot {
    let passed = START
        .get()
        .map_or(Duration::ZERO, |start| Instant::now() - start);
    Slot::from_micros(EPOCH + passed.as_micros() as i64)
}

/// The producers' wall clock, which somebody sets now and then.
pub(crate) fn set_clock() -> Slot {
    Slot::from_micros(wall_clock().as_micros() + AHEAD.get())
}

pub(crate) struct World {
    rng: RefCell<Rng>,
    start: Instant,
    /// Of all events so far: two runs that differ anywhere differ here.
    hash: Cell<u64>,
    print: bool,
    faults: Cell<bool>,
    over: Cell<bool>,
    /// What must never happen and did.
    violations: RefCell<Vec<String>>,
    /// How often what has happened.
    counts: RefCell<BTreeMap<&'static str, u64>>,
}

impl World {
    /// To be called inside the runtime with the paused clock.
    pub(crate) fn new(seed: u64, print: bool) -> Rc<Self> {
        let start = Instant::now();
        START.set(Some(start));
        AHEAD.set(0);
        let world = Rc::new(Self {
            rng: RefCell::new(Rng::with_seed(seed)),
            start,
            hash: Cell::new(0xcbf2_9ce4_8422_2325),
            print,
            faults: Cell::new(true),
            over: Cell::new(false),
            violations: RefCell::default(),
            counts: RefCell::default(),
        });
        CURRENT.set(Some(Rc::clone(&world)));
        world
    }

    /// The world of this thread's simulation.
    pub(crate) fn current() -> Rc<Self> {
        let current = CURRENT.with_borrow(Clone::clone);
        current.expect("there is a simulation")
    }

    /// Sets the producers' clocks now and then.
    pub(crate) async fn set_clocks(self: Rc<Self>) {
        loop {
            sleep(Duration::from_secs(2) + self.millis(20_000)).await;
            if !self.faults.get() {
                return;
            }
            // Some steps are small, some are too large to be followed slowly.
            let most = [20_000_000, 200_000_000][self.below(2) as usize];
            let ahead = self.below(most) as i64 - most as i64 / 2;
            self.count("the clock is set");
            self.note(format_args!("by {ahead} us"));
            AHEAD.set(AHEAD.get() + ahead);
        }
    }

    /// A number from 0 to before `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.rng.borrow_mut().u64(0..end.max(1))
    }

    pub(crate) fn millis(&self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }

    /// Whether a fault of this likelihood happens now. Never after [`World::calm`].
    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille && self.faults.get()
    }

    pub(crate) fn has_faults(&self) -> bool {
        self.faults.get()
    }

    /// No fault begins any more.
    pub(crate) fn calm(&self) {
        self.faults.set(false);
        self.note(format_args!("calm"));
    }

    /// Nothing may be started any more: the runtime is about to go.
    pub(crate) fn end(&self) {
        self.over.set(true);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        let line = format!("{:>9} ms  {event}", self.start.elapsed().as_millis());
        if self.print {
            eprintln!("{line}");
        }
        // FNV-1a.
        let hash = line.bytes().fold(self.hash.get(), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.hash.set(hash);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(crate) fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format_args!("VIOLATION {what}"));
        self.violations.borrow_mut().push(what);
    }

    /// Counts something that happens, so that a test sees that it does.
    pub(crate) fn count(&self, what: &'static str) {
        self.note(format_args!("{what}"));
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.borrow().clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.borrow().clone()
    }

    /// What each simulated operation takes: at least one turn of the others, now and then some time, rarely long.
    pub(crate) async fn step(&self) {
        tokio::task::yield_now().await;
        let delay = match self.below(1000) {
            0..=3 if self.has_faults() => self.millis(5000),
            0..=150 => self.millis(20),
            _ => return,
        };
        sleep(delay).await;
    }

    /// Panics with this likelihood, past the panic hook.
    pub(crate) fn panic_sometimes(&self, per_mille: u64, who: &str) {
        if self.chance(per_mille) {
            self.note(format_args!("{who} panics"));
            std::panic::resume_unwind(Box::new("simulated panic"));
        }
    }
}
