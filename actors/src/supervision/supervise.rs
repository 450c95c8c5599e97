//! Drives one actor's life and starts it again after a panic or a fault.
//!
//! `actix::Supervisor` does not survive a panic: the task dies and the address closes. This loop drives the public
//! `ContextFut` under `catch_unwind` and calls its `restart`, so the address and the queue survive and only the message
//! in work is lost.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use actix::{dev::ContextFut, prelude::*};
use futures_util::{FutureExt, future::Either};
use sitewatch_config::RestartSettings;
use slog::{Logger, error, warn};
use tokio::{sync::oneshot, time::Instant};

use super::{Exit, Fault, RestartPolicy};
use crate::metrics::Metrics;

/// Asks an actor to finish what it has accepted and then to stop its context.
#[derive(Debug, Clone, Copy)]
pub struct Stop;

impl Message for Stop {
    type Result = ();
}

/// What an actor needs to be supervised: it stops when asked. A restart calls `started` again on the same actor value
/// (actix clears its futures and its started flag), so `started` is where an actor begins each of its lives.
pub trait SupervisedActor: Actor<Context = Context<Self>> + Supervised + Handler<Stop> {}
impl<A: Actor<Context = Context<A>> + Supervised + Handler<Stop>> SupervisedActor for A {}

/// What the supervision of an actor, or of many alike, is told about it.
pub struct Supervision {
    /// The kind of actor, for logs and metrics: `site`, `publisher`, `writer` …
    pub kind: &'static str,
    /// Where its restarts are logged.
    pub log: Logger,
    /// How often and how soon it is started again.
    pub restart: RestartSettings,
    /// Where its restarts are counted.
    pub metrics: Metrics,
}

/// An actor's context that is not driven yet: its address is already known, so intakes can be made before it starts.
pub struct Unborn<A: Actor<Context = Context<A>>> {
    ctx: Context<A>,
    address: Addr<A>,
}

impl<A: SupervisedActor> Default for Unborn<A> {
    fn default() -> Self {
        let ctx = Context::new();
        let address = ctx.address();
        Self { ctx, address }
    }
}

impl<A: SupervisedActor> Unborn<A> {
    /// The address that stays valid for the actor's whole life, restarts included.
    pub fn address(&self) -> Addr<A> {
        self.address.clone()
    }

    /// Drives the actor until it stops, is told to stop, or fails beyond its policy. To be called on the thread where it
    /// lives.
    ///
    /// `stop`: a message on it asks the actor to finish its work first; dropping its sender ends it at once.
    pub fn live(
        self,
        make: impl FnOnce(Fault) -> A,
        supervision: Arc<Supervision>,
        mut stop: oneshot::Receiver<()>,
    ) -> impl Future<Output = Exit> {
        // What is made before the future is not stored in it twice: a node has as many of these as sites.
        let fault = Fault::default();
        let made = std::panic::catch_unwind(AssertUnwindSafe(|| make(fault.clone())));
        let life = match made {
            Ok(actor) => Ok(self.ctx.into_future(actor)),
            // Without an actor there is nothing to restart: its supervisor decides.
            Err(panic) => Err(Exit::GaveUp(Box::new(Exit::read(Err(panic), &fault)))),
        };
        let address = self.address;
        async move {
            let mut life = match life {
                Ok(life) => life,
                Err(exit) => return exit,
            };
            let mut stopping = false;
            // Made at the first failure, which most actors never have.
            let mut policy = None;
            loop {
                let exit = match drive(&mut life, &address, &fault, &mut stop, &mut stopping).await
                {
                    Some(exit) => exit,
                    None => return Exit::Stopped,
                };
                if exit == Exit::Stopped || stopping {
                    return exit;
                }
                let policy = policy
                    .get_or_insert_with(|| Box::new(RestartPolicy::new(&supervision.restart)));
                match supervision.after_failure(&exit, policy) {
                    None => return Exit::GaveUp(Box::new(exit)),
                    Some(delay) => {
                        let delay = Box::pin(tokio::time::sleep(delay));
                        if let Either::Right(_) =
                            futures_util::future::select(delay, &mut stop).await
                        {
                            return exit;
                        }
                    }
                }
                if let Err(exit) = restart(&mut life, &fault) {
                    return Exit::GaveUp(Box::new(exit));
                }
            }
        }
    }
}

impl Supervision {
    /// Tells of a failure. The delay after which the actor is to be started again, if it is.
    fn after_failure(&self, exit: &Exit, policy: &mut RestartPolicy) -> Option<Duration> {
        if exit.refusal().is_some() {
            return None;
        }
        let labels = [self.kind, exit.label()];
        self.metrics.restarts.with_label_values(&labels).inc();
        let delay = policy.after_failure(Instant::now());
        match delay {
            None => {
                error!(self.log, "actor failed too often, giving up"; "actor" => self.kind, "reason" => %exit);
            }
            Some(delay) => warn!(self.log, "actor failed, restarting";
                "actor" => self.kind, "reason" => %exit, "delay_ms" => delay.as_millis()),
        }
        delay
    }
}

/// Runs one life to its end. `None`: the supervisor is gone and so is the reason to live.
async fn drive<A: SupervisedActor>(
    life: &mut ContextFut<A, Context<A>>,
    address: &Addr<A>,
    fault: &Fault,
    stop: &mut oneshot::Receiver<()>,
    stopping: &mut bool,
) -> Option<Exit> {
    let mut life = AssertUnwindSafe(life).catch_unwind();
    if !*stopping {
        match futures_util::future::select(&mut life, &mut *stop).await {
            Either::Left((end, _)) => return Some(Exit::read(end, fault)),
            Either::Right((Err(_), _)) => return None,
            Either::Right((Ok(()), _)) => {
                *stopping = true;
                address.do_send(Stop);
            }
        }
    }
    Some(Exit::read(life.await, fault))
}

fn restart<A: SupervisedActor>(
    life: &mut ContextFut<A, Context<A>>,
    fault: &Fault,
) -> Result<(), Exit> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| life.restart())) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Exit::Failed("its mailbox is closed".to_owned())),
        Err(panic) => Err(Exit::read(Err(panic), fault)),
    }
}
