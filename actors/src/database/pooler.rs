//! Poolers that do not keep a connection on one session of the server: recognised, since nothing of this program works by way of them.
//!
//! A session's settings, its temporary table, prepared statements and advisory locks are all lost when PgBouncer hands the next
//! transaction to another session (`pool_mode = transaction` or `statement`). Nothing tells a client of it, so two connections are
//! compared: sessions of their own are two, and stay the same two.

use std::{collections::BTreeSet, time::Duration};

use tokio_postgres::Client;

use super::{error::SessionError, parameters::patiently, server::values};

/// How often the two are compared. In a pool of two sessions, of which others take one at random each time, a shared session goes
/// unnoticed once in 256 times; each connection that is made later is looked at, too.
const ROUNDS: usize = 3;

/// How long the second connection may wait for a session. A pooler that keeps the first one on its session, and has no other, lets
/// the second one wait: that is as it should be.
const PATIENCE: Duration = Duration::from_secs(2);

/// The setting makes poolers that look at statements, as Amazon's RDS Proxy, keep the connection on its session, as all that
/// follows would. With PgBouncer it is of no consequence.
const PINNED: &str =
    "SET sitewatch.session = 'kept'; SELECT pg_catalog.pg_backend_pid()::pg_catalog.text";

/// Refuses the connection `one`, if `other`, which was made alike, is served by the same session, or either of them by several.
pub(super) async fn refuse_shared(one: &Client, other: &Client) -> Result<(), SessionError> {
    let mut seen = Seen::default();
    for _ in 0..ROUNDS {
        seen.by_one.insert(session(one).await?);
        // The second one twice: a pooler that gives its sessions in turn would else keep two of them in step.
        for _ in 0..2 {
            // One that gets no session in time, or is refused, proves nothing against the first.
            let Ok(Ok(answered)) = tokio::time::timeout(PATIENCE, session(other)).await else {
                return Ok(());
            };
            seen.by_other.insert(answered);
        }
        if seen.is_shared() {
            return Err(SessionError::Pooled);
        }
    }
    Ok(())
}

/// The session of the server that answers, by its process.
async fn session(client: &Client) -> Result<String, SessionError> {
    let answer = patiently(client, PINNED).await?;
    Ok(values(&answer).pop().unwrap_or_default())
}

/// The sessions that answered two connections.
#[derive(Default)]
struct Seen {
    by_one: BTreeSet<String>,
    by_other: BTreeSet<String>,
}

impl Seen {
    fn is_shared(&self) -> bool {
        self.by_one.len() > 1 || self.by_other.len() > 1 || !self.by_one.is_disjoint(&self.by_other)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A pooler's idle sessions.
    struct Pool {
        idle: VecDeque<u32>,
        takes_last_first: bool,
    }

    impl Pool {
        fn new(size: u32, takes_last_first: bool) -> Self {
            Self {
                idle: (0..size).collect(),
                takes_last_first,
            }
        }

        /// The session that answers one statement.
        fn ask(&mut self) -> String {
            let session = self.idle.pop_front().unwrap();
            if self.takes_last_first {
                self.idle.push_front(session);
            } else {
                self.idle.push_back(session);
            }
            session.to_string()
        }
    }

    #[test]
    fn a_pool_of_any_size_is_recognised_in_either_order_with_the_first_round() {
        for size in [1, 2, 3, 20] {
            for takes_last_first in [true, false] {
                let mut pool = Pool::new(size, takes_last_first);
                let mut seen = Seen::default();
                seen.by_one.insert(pool.ask());
                seen.by_other.insert(pool.ask());
                seen.by_other.insert(pool.ask());
                assert!(seen.is_shared(), "{size} {takes_last_first}");
            }
        }
    }

    #[test]
    fn sessions_of_their_own_are_not_taken_for_shared() {
        let seen = Seen {
            by_one: BTreeSet::from(["17".to_owned()]),
            by_other: BTreeSet::from(["18".to_owned()]),
        };
        assert!(!seen.is_shared());
    }
}
