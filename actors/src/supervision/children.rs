//! The running children of one supervising actor.

use std::collections::HashMap;

use actix_rt::ArbiterHandle;
use futures_util::{Stream, future::LocalBoxFuture, stream};
use tokio::sync::{mpsc, oneshot};

use super::Exit;

/// One child's whole supervised life, made on the thread where it will run.
pub type Life = Box<dyn FnOnce(oneshot::Receiver<()>) -> LocalBoxFuture<'static, Exit> + Send>;

/// A child's last word.
#[derive(Debug)]
pub struct Ended {
    /// The child's key.
    pub id: String,
    /// Why it ended.
    pub exit: Exit,
    /// Tells a child from an earlier one of the same key.
    generation: u64,
}

/// The running children of one supervising actor. Dropping it ends all of them at once.
pub struct Children {
    running: HashMap<String, Child>,
    /// One message a child that ends: bounded by the number of children.
    ended: mpsc::UnboundedSender<Ended>,
    generations: u64,
}

struct Child {
    generation: u64,
    /// Taken when the child was asked to stop. Dropping it untouched ends the child at once.
    stop: Option<oneshot::Sender<()>>,
}

impl Children {
    /// No children yet, and the stream of those that end.
    pub fn new() -> (Self, impl Stream<Item = Ended> + 'static) {
        let (ended, ends) = mpsc::unbounded_channel();
        let ends = stream::unfold(ends, |mut ends| async move {
            ends.recv().await.map(|end| (end, ends))
        });
        (
            Self {
                running: HashMap::new(),
                ended,
                generations: 0,
            },
            ends,
        )
    }

    /// Starts `life` under the key `id`, on `arbiter` or else on this thread. An earlier child of that key, if it still
    /// runs, goes on to its own end.
    pub fn start(&mut self, id: &str, arbiter: Option<&ArbiterHandle>, life: Life) {
        let (stop, stopped) = oneshot::channel();
        self.generations += 1;
        let generation = self.generations;
        let (id, ended) = (id.to_owned(), self.ended.clone());
        self.running.insert(
            id.clone(),
            Child {
                generation,
                stop: Some(stop),
            },
        );
        let run = move || {
            actix_rt::spawn(async move {
                let exit = life(stopped).await;
                // Nobody listens only when the supervisor itself is gone, and then nobody needs to know.
                let _ = ended.send(Ended {
                    id,
                    exit,
                    generation,
                });
            });
        };
        match arbiter {
            // A refused closure is dropped with `ended` unsent only if the worker thread is gone, at process exit.
            Some(arbiter) => drop(arbiter.spawn_fn(run)),
            None => run(),
        }
    }

    /// Asks the child to finish its work and stop. Its end comes on the stream.
    pub fn stop(&mut self, id: &str) {
        if let Some(stop) = self.running.get_mut(id).and_then(|child| child.stop.take()) {
            let _ = stop.send(());
        }
    }

    /// Lets go of a child that is asked to stop, so that another may be started under its key.
    pub fn retire(&mut self, id: &str) {
        self.stop(id);
        self.running.remove(id);
    }

    /// Asks every child to stop.
    pub fn stop_all(&mut self) {
        for child in self.running.values_mut() {
            if let Some(stop) = child.stop.take() {
                let _ = stop.send(());
            }
        }
    }

    /// Takes note of an end. `true` if it is the current child of that key and it had not been asked to stop.
    pub fn note(&mut self, end: &Ended) -> bool {
        match self.running.get(&end.id) {
            Some(child) if child.generation == end.generation => {
                let unasked = child.stop.is_some();
                self.running.remove(&end.id);
                unasked
            }
            _ => false,
        }
    }

    /// Whether no child runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether the child runs.
    pub fn contains(&self, id: &str) -> bool {
        self.running.contains_key(id)
    }
}
