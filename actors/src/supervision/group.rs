//! A supervising actor with a fixed set of children that belong together.

use actix::prelude::*;
use slog::{Logger, debug};

use super::{Children, Ended, Exit, Fault, LocalLife, Stop};

/// One child of a [`Group`].
pub struct ChildSpec {
    /// Its key.
    pub id: String,
    /// Makes its life.
    pub life: LocalLife,
}

/// Children that are started together. If one gives up, the group fails and, when it is restarted, starts all anew; a
/// stop goes through them in order, each only after the one before has drained.
pub struct Group {
    plan: Box<dyn FnMut() -> Vec<ChildSpec>>,
    fault: Fault,
    log: Logger,
    children: Children,
    /// What is still to be stopped, in order, once the group was asked to stop.
    to_stop: Option<Vec<String>>,
    order: Vec<String>,
}

impl Group {
    /// A group of the children that `plan` makes, listed in the order in which they are stopped. `plan` is called again
    /// for each restart of the group, so that it can connect new children to each other.
    pub fn new(log: Logger, fault: Fault, plan: impl FnMut() -> Vec<ChildSpec> + 'static) -> Self {
        let (children, _) = Children::new();
        Self {
            plan: Box::new(plan),
            fault,
            log,
            children,
            to_stop: None,
            order: Vec::new(),
        }
    }

    fn start_children(&mut self, ctx: &mut Context<Self>) {
        let (children, ends) = Children::new();
        self.children = children;
        ctx.add_stream(ends);
        let specs = (self.plan)();
        self.order = specs.iter().map(|spec| spec.id.clone()).collect();
        for spec in specs.into_iter().rev() {
            self.children.start(spec.id.into(), spec.life);
        }
    }

    fn stop_next(&mut self, ctx: &mut Context<Self>) {
        let Some(to_stop) = &mut self.to_stop else {
            return;
        };
        while let Some(next) = to_stop.first() {
            if self.children.contains(next) {
                debug!(self.log, "stopping"; "actor" => next);
                self.children.stop(next);
                return;
            }
            to_stop.remove(0);
        }
        ctx.stop();
    }
}

impl Actor for Group {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.start_children(ctx);
    }
}

impl Supervised for Group {}

impl StreamHandler<Ended> for Group {
    fn handle(&mut self, end: Ended, ctx: &mut Self::Context) {
        let unasked = self.children.note(&end);
        if self.to_stop.is_some() {
            self.stop_next(ctx);
        } else if let Some(reason) = end.exit.refusal() {
            self.fault.refuse(format!("{}: {reason}", end.id));
            ctx.stop();
        } else if unasked || matches!(end.exit, Exit::GaveUp(_)) {
            self.fault.raise(format!("{}: {}", end.id, end.exit));
            ctx.stop();
        }
    }
}

impl Handler<Stop> for Group {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.to_stop = Some(self.order.clone());
        self.stop_next(ctx);
    }
}
