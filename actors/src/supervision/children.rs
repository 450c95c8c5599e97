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

/// How a child's end reaches its supervisor. It is said when this is dropped, so also where a panic passes by everything that
/// catches one, and where the child's thread is gone.
struct LastWord {
    id: Arc<str>,
    generation: u64,
    exit: Exit,
    ended: mpsc::UnboundedSender<Ended>,
}

impl LastWord {
    fn say(mut self, exit: Exit) {
        self.exit = exit;
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        // Nobody listens only when the supervisor itself is gone, and then nobody needs to know.
        let _ = self.ended.send(Ended {
            id: Arc::clone(&self.id),
            exit: self.exit.clone(),
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
            exit: Exit::Panicked("outside of what is caught and restarted".to_owned()),
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[actix_rt::test]
    async fn a_child_that_panics_past_its_supervision_has_a_last_word() {
        let (mut children, ends) = Children::new();
        let mut ends = std::pin::pin!(ends);
        let life = |_| -> LocalBoxFuture<'static, Exit> {
            Box::pin(async { std::panic::resume_unwind(Box::new("past the hook")) })
        };
        children.start("here".into(), Box::new(life));
        let worker = actix_rt::Arbiter::new();
        children.start_on(&worker.handle(), "there".into(), Box::new(life));
        for _ in 0..2 {
            let end = ends.next().await.unwrap();
            assert!(matches!(end.exit, Exit::Panicked(_)), "{end:?}");
            assert!(children.note(&end), "nobody asked it to stop");
        }
        worker.stop();
        worker.join().unwrap();
        // Its thread is gone: it never lives.
        let (mut children, ends) = Children::new();
        let gone = actix_rt::Arbiter::new();
        let handle = gone.handle();
        gone.stop();
        gone.join().unwrap();
        children.start_on(&handle, "nowhere".into(), Box::new(life));
        let end = std::pin::pin!(ends).next().await.unwrap();
        assert!(children.note(&end));
    }
}
