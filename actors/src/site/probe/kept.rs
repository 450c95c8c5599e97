//! A connection that is kept from one check of a site to the next.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use awc::Client;

use super::{http2, trace::Trace};

/// How long a connection is kept: after this time a check shows again where the site's name leads, and the certificate that
/// new visitors get.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// A connection that is kept, if there is one.
#[derive(Default)]
pub(in crate::site) struct Kept(RefCell<Option<KeptConnection>>);

/// The connection that is kept.
pub(super) struct KeptConnection {
    /// When it was made.
    pub(super) since: Instant,
    pub(super) line: Line,
}

/// How the connection is used again.
pub(super) enum Line {
    /// In the pool of a client of its own, under this number; it tells its trace what it sees.
    One {
        client: Client,
        number: u64,
        trace: Rc<Trace>,
    },
    /// Ready for the next request; the trace is that of the first.
    Two {
        sender: http2::Sender,
        trace: Rc<Trace>,
    },
}

impl Kept {
    /// The connection, unless it has been kept for long enough.
    pub(super) fn take(&self, now: Instant) -> Option<KeptConnection> {
        let connection = self.0.take()?;
        (now.saturating_duration_since(connection.since) < LONGEST).then_some(connection)
    }

    /// Keeps a new connection.
    pub(super) fn put(&self, line: Line) {
        let since = Instant::now();
        self.put_back(KeptConnection { since, line });
    }

    /// Keeps a connection on.
    pub(super) fn put_back(&self, connection: KeptConnection) {
        self.0.replace(Some(connection));
    }

    /// Lets the connection go, so that the next attempt begins anew.
    pub(in crate::site) fn let_go(&self) {
        self.0.replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::http1, *};

    #[actix_rt::test]
    async fn a_connection_is_kept_for_an_hour_however_often_it_is_used() {
        let kept = Kept::default();
        kept.put(Line::One {
            client: http1::client(),
            number: 1,
            trace: Rc::new(Trace::new()),
        });
        let connection = kept.take(Instant::now()).unwrap();
        let since = connection.since;
        kept.put_back(connection);
        let connection = kept.take(since + LONGEST - Duration::from_millis(1));
        kept.put_back(connection.unwrap());
        assert!(kept.take(since + LONGEST).is_none());
        assert!(kept.take(since).is_none(), "it is gone for good");
    }
}
