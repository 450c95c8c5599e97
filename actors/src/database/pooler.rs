//! Recognises a pooler that does not keep a connection on one session of the server. Nothing of this program works through one:
//! settings, temporary tables, prepared statements and advisory locks are lost when PgBouncer gives the next transaction another
//! session (`pool_mode = transaction` or `statement`).
//!
//! A pooler does not report its mode to a client, so two connections are compared: each must stay on one session, and the two
//! sessions must differ.

use std::{collections::BTreeSet, time::Duration};

use tokio_postgres::Client;

use super::{error::SessionError, parameters::patiently, server::values};

/// The number of comparisons. The worst case is a pool of two sessions that other clients use too: three rounds then miss a shared
/// session once in 256 times. Each later connection is compared again.
const ROUNDS: usize = 3;

/// The time for which the second connection waits for a session. A pooler in session mode that has no other session lets it wait;
/// the first connection is then accepted.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for the session, and sets a parameter: Amazon's RDS Proxy then keeps the connection on its session, as it would by the
/// parameters that are set later. PgBouncer takes no notice of it.
const PINNED: &str =
    "SET sitewatch.session = 'kept'; SELECT pg_catalog.pg_backend_pid()::pg_catalog.text";

/// Refuses the connection `one` if it shares a session with `other`, or if either of them changes its session.
pub(super) async fn refuse_shared(one: &Client, other: &Client) -> Result<(), SessionError> {
    let mut seen = Seen::default();
    for _ in 0..ROUNDS {
        seen.by_one.insert(session(one).await?);
        // Twice: a pooler that gives its sessions in turn would otherwise give both connections the same one in each round.
        for _ in 0..2 {
            // Without an answer in time there is nothing to compare, and the first connection is accepted.
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
