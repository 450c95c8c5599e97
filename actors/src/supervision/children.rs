//! The running children of one supervising actor.

use std::{collections::BTreeMap, sync::Arc};

use actix_rt::ArbiterHandle;
use futures_util::{Stream, future::LocalBoxFuture, stream};
use tokio::sync::{mpsc, oneshot};

use super::Exit;

/// One child's whole supervised life on its supervisor's own thread.
pub type LocalLife = Box<dyn FnOnce(oneshot::Receiver<()>) -> LocalBoxFuture<'static, Exit>>;

/// One child's whole supervised life, made on the thread where it will run.
pub type Life = Box<dyn FnOnce(oneshot::Receiver<()>) -> LocalBoxFuture<'static, Exit> + Send>;

/// A child's last word.
#[derive(Debug)]
pub struct Ended {
    /// The child's key.
    pub id: Arc<str>,
    /// Why it ended.
    pub exit: Exit,
    /// Tells a child from an earlier one of the same key.
    generation: u64,
}

/// The running children of one supervising actor. Dropping it ends all of them at once.
pub struct Children {
    /// In an order, so that a simulation stops them alike each time.
    running: BTreeMap<Arc<str>, Child>,
    /// One message a child that ends: bounded by the number of children.
    ended: mpsc::UnboundedSender<Ended>,
    generations: u64,
}

struct Child {
    generation: u64,
    /// Taken when the child was asked to stop. Dropping it untouched ends the child at once.
    stop: Option<oneshot::Sender<()>>,
}

/// How a child's end reaches its supervisor.
struct LastWord {
    id: Arc<str>,
    generation: u64,
    ended: mpsc::UnboundedSender<Ended>,
}

impl LastWord {
    fn say(self, exit: Exit) {
        // Nobody listens only when the supervisor itself is gone, and then nobody needs to know.
        let _ = self.ended.send(Ended {
            id: self.id,
            exit,
            generation: self.generation,
        });
    }
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
                running: BTreeMap::new(),
                ended,
                generations: 0,
            },
            ends,
        )
    }

    /// Starts `life` on this thread under the key `id`. An earlier child of that key, if it still runs, goes on to its own
    /// end.
    pub fn start(&mut self, id: Arc<str>, life: LocalLife) {
        let (stopped, last_word) = self.enter(id);
        actix_rt::spawn(async move { last_word.say(life(stopped).await) });
    }

    /// Starts `life` on the thread of `arbiter`, else as [`Children::start`].
    pub fn start_on(&mut self, arbiter: &ArbiterHandle, id: Arc<str>, life: Life) {
        let (stopped, last_word) = self.enter(id);
        // Refused only if the worker thread is gone, at process exit.
        arbiter.spawn_fn(move || {
            actix_rt::spawn(async move { last_word.say(life(stopped).await) });
        });
    }

    fn enter(&mut self, id: Arc<str>) -> (oneshot::Receiver<()>, LastWord) {
        let (stop, stopped) = oneshot::channel();
        self.generations += 1;
        let last_word = LastWord {
            id: Arc::clone(&id),
            generation: self.generations,
            ended: self.ended.clone(),
        };
        self.running.insert(
            id,
            Child {
                generation: self.generations,
                stop: Some(stop),
            },
        );
        (stopped, last_word)
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
