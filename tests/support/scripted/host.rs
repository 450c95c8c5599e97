//! The thread a server lives in.

use std::{pin::pin, thread::JoinHandle};

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

/// A thread with a runtime of its own: it goes on while the test blocks, and dropping it ends every task and closes every
/// socket before the test goes on.
#[derive(Debug)]
pub(super) struct Host {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Runs what `work` gives until it ends or the host is dropped. `work` is called inside the runtime.
    pub(super) fn run<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                match select(pin!(work()), stopped).await {
                    Either::Left(((), stopped)) => drop(stopped.await),
                    Either::Right(_) => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("scripted".to_owned())
            .spawn(serve)
            .unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A server that panicked has told so on stderr; panicking again here would hide what the test found.
            drop(thread.join());
        }
    }
}
