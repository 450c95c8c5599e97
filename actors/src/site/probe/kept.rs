//! A connection that is kept from one check of a site to the next.

use std::{cell::RefCell, rc::Rc};

use super::{http2, trace::Trace};

/// A connection that is kept, if there is one.
#[derive(Default)]
pub(in crate::site) struct Kept(RefCell<Option<KeptConnection>>);

/// Where the connection is.
pub(super) enum KeptConnection {
    /// In the pool of the HTTP/1.1 client, under this number; it tells its trace what it sees.
    One { number: u64, trace: Rc<Trace> },
    /// Ready for the next request.
    Two(http2::Sender),
}

impl Kept {
    pub(super) fn take(&self) -> Option<KeptConnection> {
        self.0.take()
    }

    pub(super) fn put(&self, connection: KeptConnection) {
        self.0.replace(Some(connection));
    }

    /// Lets the connection go, so that the next attempt begins anew.
    pub(in crate::site) fn let_go(&self) {
        self.0.replace(None);
    }
}
