//! Judges bodies where they hold up nobody: a pattern or a path can take seconds on a body of a megabyte, and nothing can interrupt it.
//!
//! Small bodies are judged at once. Others get a thread of their own, of which there are only so many at once; what does not come to its
//! end in time is the site's failure, and its thread is left to end by itself. A site that has been slow is judged on the one thread for
//! such sites until it is quick again: so slow ones wait for each other, and not the others for them.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use sitewatch_config::{Site, SiteOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{
    attempt::{Attempt, Failure, Looked},
    expect_body,
};
use crate::{metrics::Metrics, model::ErrorKind};

/// A body of so many bytes is judged at once: even a bad pattern takes no longer than 50 ms on it. JSON paths are never judged at once,
/// since their time may grow with the square of the body.
const SMALL: usize = 8 << 10;

/// How long it may take, waiting for a thread included.
const LIMIT: Duration = Duration::from_secs(2);

/// A site that takes longer is slow.
const SLOW: Duration = Duration::from_millis(100);

/// The threads on which bodies are judged.
pub(super) struct BodyPool {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    metrics: Metrics,
}

impl BodyPool {
    pub(super) fn new(metrics: Metrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            quick: Arc::new(Semaphore::new(cores.max(2))),
            slow: Arc::new(Semaphore::new(1)),
            metrics,
        }
    }

    /// Looks at everything that is expected of the body of `attempt`, and keeps in it what was seen. `is_slow` is the site's own, from
    /// check to check.
    pub(super) async fn look(&self, site: &Site, attempt: &mut Attempt, is_slow: &Cell<bool>) {
        let expect = &site.options.expect;
        if attempt.failure.is_some() || attempt.status.is_none() || !expect.look_into_body() {
            return;
        }
        if attempt.body.len() <= SMALL && expect.expect_json.is_empty() {
            attempt.looked = Some(expect_body::look(expect, &attempt.body));
            return;
        }
        let body = Arc::new(std::mem::take(&mut attempt.body));
        let options = Arc::clone(&site.options);
        let looked = self.look_apart(options, Arc::clone(&body), is_slow).await;
        attempt.looked = Some(looked.unwrap_or_else(Looked::failed));
        // A thread that was left alone still has it: then only what is shown of it is kept.
        let shown = site.options.capture_bytes;
        attempt.body =
            Arc::try_unwrap(body).unwrap_or_else(|body| body[..body.len().min(shown)].to_vec());
    }

    async fn look_apart(
        &self,
        options: Arc<SiteOptions>,
        body: Arc<Vec<u8>>,
        is_slow: &Cell<bool>,
    ) -> Result<Looked, Failure> {
        let begun = Instant::now();
        let threads = if is_slow.get() {
            &self.slow
        } else {
            &self.quick
        };
        let permit = timeout(LIMIT, Arc::clone(threads).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            self.count("busy");
            return Err(Failure::new(
                ErrorKind::InternalError,
                "the body was not judged: bodies of other sites that are slow to judge take all threads",
            ));
        };
        let bytes = body.len();
        let judged = spawn(permit, move || expect_body::look(&options.expect, &body));
        let judged = judged.map_err(|problem| {
            Failure::new(
                ErrorKind::InternalError,
                format!("no thread to judge the body on: {problem}"),
            )
        })?;
        match timeout(LIMIT.saturating_sub(begun.elapsed()), judged).await {
            Ok(Ok((looked, took))) => {
                is_slow.set(took > SLOW);
                Ok(looked)
            }
            Ok(Err(_)) => Err(Failure::new(
                ErrorKind::InternalError,
                "the body was not judged: the program failed with it",
            )),
            Err(_) => {
                is_slow.set(true);
                self.count("slow");
                let limit = humantime::format_duration(LIMIT);
                Err(Failure::new(
                    ErrorKind::BodyTimeout,
                    format!(
                        "{bytes} bytes of body are not judged within {limit}: body_matches, body_must_not_match and expect_json take too long on them"
                    ),
                ))
            }
        }
    }

    fn count(&self, reason: &str) {
        self.metrics
            .bodies_not_judged
            .with_label_values(&[reason])
            .inc();
    }
}

/// Does the work on a thread of its own, which gives the permit back at its end, whoever waits for it.
fn spawn<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<oneshot::Receiver<(T, Duration)>> {
    let (done, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("judges-body".to_owned())
        .spawn(move || {
            let begun = Instant::now();
            let result = work();
            // The body is let go of before anybody hears of it.
            let took = begun.elapsed();
            // Nobody may wait any more.
            let _ = done.send((result, took));
            drop(permit);
        })?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use futures_util::future::{Either, select};
    use sitewatch_config::{Pattern, Site, SiteOptions};

    use super::*;

    /// A pattern that takes seconds on a megabyte of such letters.
    const HOSTILE: &str = "(?s)[a-d]{2}.{0,300}[e-h]{2}.{0,300}[0-9]";

    fn site(pattern: &str) -> Site {
        let mut options = SiteOptions::default();
        options.expect.body_matches = vec![Pattern::new(pattern).unwrap()];
        Site::with_options("a", "http://a/", options)
    }

    fn answered(body: Vec<u8>) -> Attempt {
        Attempt {
            status: Some(200),
            body,
            ..Attempt::default()
        }
    }

    fn letters(bytes: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..bytes)
            .map(|_| *random.choice(b"abcdefgh ").unwrap_or(&b' '))
            .collect()
    }

    fn kind(attempt: &Attempt) -> Option<ErrorKind> {
        let looked = attempt.looked.as_ref().unwrap();
        looked
            .seen
            .iter()
            .find_map(|(_, failure)| failure.as_ref().map(|it| it.kind))
    }

    #[actix_rt::test]
    async fn a_body_that_takes_long_is_the_sites_failure_and_holds_up_no_other_site() {
        let pool = BodyPool::new(Metrics::new().unwrap());
        // Far beyond the limit also on a quick machine: the thread is left alone.
        let (hostile, honest) = (site(HOSTILE), site("well$"));
        let (of_hostile, of_honest) = (Cell::new(false), Cell::new(false));
        let mut bad = answered(letters(512 << 10));
        pool.look(&hostile, &mut bad, &of_hostile).await;
        assert_eq!(kind(&bad), Some(ErrorKind::BodyTimeout));
        assert!(of_hostile.get() && !bad.looked.as_ref().unwrap().matches);

        // It waits for its own thread from now on: others go on meanwhile, on more threads than it could take.
        let mut again = answered(letters(512 << 10));
        let mut good = answered([letters(64 << 10), b"all is well".to_vec()].concat());
        let hostile_ends = Box::pin(pool.look(&hostile, &mut again, &of_hostile));
        let honest_ends = Box::pin(pool.look(&honest, &mut good, &of_honest));
        let is_honest = matches!(select(honest_ends, hostile_ends).await, Either::Left(_));
        assert!(is_honest, "the honest site waited for the hostile one");
        assert_eq!(kind(&good), None);
        assert!(good.body.ends_with(b"well"), "the body is given back");
    }

    #[actix_rt::test]
    async fn small_bodies_are_judged_at_once_and_alike() {
        let pool = BodyPool::new(Metrics::new().unwrap());
        for (body, expected) in [
            ("all is well", None),
            ("oops", Some(ErrorKind::BodyMismatch)),
        ] {
            for filling in [0, 2 * SMALL] {
                let mut attempt = answered([vec![b' '; filling], body.into()].concat());
                pool.look(&site("well"), &mut attempt, &Cell::new(false))
                    .await;
                assert_eq!(kind(&attempt), expected, "{filling}");
                assert_eq!(attempt.body.len(), filling + body.len());
            }
        }
    }
}
