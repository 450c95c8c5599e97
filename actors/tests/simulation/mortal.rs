//! A process that may die.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use super::world::World;

/// Drops its future, and with it all that is in work, after so many polls: at any await. Nothing dies when all is calm.
pub(crate) struct Mortal<F> {
    inner: Option<Pin<Box<F>>>,
    polls_left: u64,
    world: Rc<World>,
}

impl<F: Future> Mortal<F> {
    pub(crate) fn new(inner: F, polls_left: u64, world: &Rc<World>) -> Self {
        Self {
            inner: Some(Box::pin(inner)),
            polls_left,
            world: Rc::clone(world),
        }
    }
}

impl<F: Future> Future for Mortal<F> {
    /// What came of it; `None` if it died.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 && self.world.has_faults() {
            self.inner = None;
        }
        self.polls_left = self.polls_left.saturating_sub(1);
        match &mut self.inner {
            None => Poll::Ready(None),
            Some(inner) => inner.as_mut().poll(context).map(Some),
        }
    }
}
