//! The loop of a site: slot by slot, for one life of the actor.

use std::{rc::Rc, sync::Arc, time::Duration};

use sitewatch_config::Site as SiteSettings;
use slog::warn;
use tokio::time::Instant;

use super::{
    Progress, announce, gate::Pass, parts::Parts, schedule::Schedule, surroundings::Surroundings,
    trial,
};
use crate::{
    intake::Intake,
    model::{CheckResult, ErrorKind, Report, Slot},
};

/// The most missed slots that are reported one by one after a long hold-up; of more, only the number is logged. A day at
/// one a minute.
const MAX_MISSED: usize = 1440;

/// The longest sleep without a look at the clock: so soon it is noticed that it was set, or that the machine slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The machine slept if the clock went on by so much more than the time that the process had.
const SLEPT: Duration = Duration::from_secs(2);

/// Why the wait for a slot is over.
enum Woken {
    /// It has come.
    InTime,
    /// It has passed while the machine slept.
    AfterSleep,
    /// The clock was set: whether it comes is another question.
    ClockWasSet,
}

/// The loop of one life of the actor.
pub(super) struct Run {
    pub(super) schedule: Schedule,
    pub(super) parts: Parts,
    pub(super) settings: Arc<SiteSettings>,
    pub(super) around: Arc<Surroundings>,
    pub(super) results: Intake<Report>,
    pub(super) progress: Rc<Progress>,
}

impl Run {
    /// What it awaits but the timer is boxed: an idle site, as most are at most times, does not carry the room that a check
    /// and its result need.
    #[allow(
        clippy::manual_async_fn,
        reason = "an async fn would have room for `self` twice"
    )]
    pub(super) fn go_on(self) -> impl Future<Output = Result<(), String>> {
        async move {
            let mut from = self.now();
            if self.progress.next.get().is_none() {
                self.progress.steps.set(self.around.clock.steps());
            }
            Box::pin(self.announce_beginning(from)).await;
            if let Some(interrupted) = self.progress.checking.get() {
                from = Box::pin(self.make_up_for(interrupted)).await;
            }
            while !self.progress.stopping.get() {
                let slot = self.schedule.next_after(from);
                match self.wait_for(slot).await {
                    Woken::InTime => {
                        let pass = Box::pin(self.around.gate.enter_for(&self.settings)).await;
                        // It may have waited there for long.
                        let (_, was_set) = self.read_clock();
                        if was_set {
                            from = Box::pin(self.go_around()).await;
                        } else {
                            from = Box::pin(self.check(slot, pass)).await?;
                        }
                    }
                    // No burst of checks for what has passed while the machine slept: all of it is missed.
                    Woken::AfterSleep => from = Box::pin(self.report_missed(from)).await,
                    // While it waited, no slot passed.
                    Woken::ClockWasSet => from = Box::pin(self.go_around()).await,
                }
            }
            Ok(())
        }
    }

    fn now(&self) -> Slot {
        self.around.clock.now()
    }

    /// Reads the clock, which notices only then that it was set. Returns the time, and true if the clock was set since the schedule last
    /// went around a step.
    fn read_clock(&self) -> (Slot, bool) {
        let now = self.now();
        let was_set = self.around.clock.steps() > self.progress.steps.get();
        (now, was_set)
    }

    /// Waits until `slot` has come, or something has happened to the clock.
    async fn wait_for(&self, slot: Slot) -> Woken {
        loop {
            let (now, was_set) = self.read_clock();
            let at = Instant::now();
            if was_set {
                return Woken::ClockWasSet;
            }
            let left = u64::try_from(slot.micros_since(now)).unwrap_or(0);
            if left == 0 {
                return Woken::InTime;
            }
            tokio::time::sleep(Duration::from_micros(left).min(LONGEST_SLEEP)).await;
            let (later, was_set) = self.read_clock();
            let told = u64::try_from(later.micros_since(now)).unwrap_or(0);
            if later > slot && Duration::from_micros(told) > at.elapsed() + SLEPT && !was_set {
                return Woken::AfterSleep;
            }
        }
    }

    /// Goes on at the time to which the clock was set: no slot between is due. Returns that time.
    async fn go_around(&self) -> Slot {
        let now = self.now();
        self.progress.steps.set(self.around.clock.steps());
        let next = self.schedule.next_after(now);
        let until = self.progress.next.get().unwrap_or(next);
        let changes = self.progress.standing.borrow_mut().step(until, next);
        if !changes.is_empty() {
            self.progress.next.set(None);
        }
        self.announce(changes).await;
        self.announce_beginning(now).await;
        now
    }

    /// Makes the check of `slot`. Gives the time up to which all slots have been told of.
    async fn check(&self, slot: Slot, pass: Pass<'_>) -> Result<Slot, String> {
        self.progress.checking.set(Some(slot));
        fail::fail_point!("site::check", |_| Err("injected fault".to_owned()));
        fail::fail_point!(
            "site::check::named",
            self.settings.name.contains("failing"),
            |_| { Err("injected fault".to_owned()) }
        );
        let (site, around) = (&self.settings, &self.around);
        for checked in self.parts.check_now(site, slot, around, pass).await {
            self.hand_over(checked.result).await;
        }
        self.told_of(slot).await;
        // A site that was replaced leaves what passed meanwhile to its successor, which has been checking since.
        let told = if self.progress.stopping.get() {
            slot
        } else {
            self.report_missed(slot).await
        };
        self.progress.checking.set(None);
        Ok(told)
    }

    /// The life before this one ended in the middle of the check of `slot`, which is not passed over in silence.
    async fn make_up_for(&self, slot: Slot) -> Slot {
        let detail = "the check was interrupted by a failure";
        self.report_unwell(slot, ErrorKind::InternalError, detail)
            .await;
        let told = self.report_missed(slot).await;
        self.progress.checking.set(None);
        told
    }

    /// Reports the slots after `slot` that have passed by now, and returns that time: the clock may be set while it reports. Not
    /// before `slot`, against which a timer may be a little early.
    async fn report_missed(&self, slot: Slot) -> Slot {
        let (now, was_set) = self.read_clock();
        if was_set {
            // Up to then time has passed.
            let step = self.around.clock.step_after(self.progress.steps.get());
            self.report_passed(slot, step.map_or(slot, |step| step.from))
                .await;
            return self.go_around().await;
        }
        let now = now.max(slot);
        self.report_passed(slot, now).await;
        now
    }

    async fn report_passed(&self, slot: Slot, now: Slot) {
        let passed = self.schedule.passed(slot, now, MAX_MISSED);
        let metrics = &self.around.metrics;
        if passed.earlier > 0 {
            warn!(self.around.log, "many slots missed, the oldest are not reported one by one";
                "site" => &*self.settings.name, "missed" => passed.earlier + passed.slots.len() as u64,
                "not_reported" => passed.earlier);
            metrics.missed.inc_by(passed.earlier);
        }
        for missed in passed.slots {
            self.report_one_missed(missed).await;
        }
    }

    async fn report_one_missed(&self, slot: Slot) {
        self.around.metrics.missed.inc();
        let detail = "the slot passed while an earlier check was under way or the node was held up";
        self.report_unwell(slot, ErrorKind::Missed, detail).await;
    }

    async fn report_unwell(&self, slot: Slot, kind: ErrorKind, detail: &str) {
        for address in self.parts.addresses() {
            let site = &self.settings;
            let result = trial::unwell(site, slot, kind, detail, &self.around, address);
            self.hand_over(result).await;
        }
        self.told_of(slot).await;
    }

    async fn hand_over(&self, result: CheckResult) {
        self.results.offer_soon(result.into()).await;
    }

    /// In the first life: the first slot that is due is the one with which the loop will begin from `from` on.
    async fn announce_beginning(&self, from: Slot) {
        let first = self.schedule.next_after(from);
        if self.progress.next.get().is_none() {
            self.progress.next.set(Some(first));
        }
        // Of a site of which each address is checked nobody knows them yet.
        if self.parts.is_whole() && self.progress.standing.borrow().is_empty() {
            let changes = self.progress.standing.borrow_mut().cover(first, &[None]);
            self.announce(changes).await;
        }
    }

    /// All rows of `slot` are on their way.
    async fn told_of(&self, slot: Slot) {
        let next = Some(self.schedule.next_after(slot));
        self.progress.next.set(next.max(self.progress.next.get()));
        let addresses = self.parts.addresses();
        let changes = self.progress.standing.borrow_mut().cover(slot, &addresses);
        self.announce(changes).await;
    }

    pub(super) async fn announce_end(&self) {
        let Some(until) = self.progress.next.get() else {
            return;
        };
        let changes = self.progress.standing.borrow_mut().end(until);
        self.announce(changes).await;
    }

    async fn announce(&self, changes: Vec<announce::Change>) {
        for change in changes {
            let revision = announce::revision(&self.settings, &self.schedule, &self.around, change);
            self.results.offer_soon(revision.into()).await;
        }
    }
}
