//! Servers that do exactly what a script says, on loopback, for tests of what a client makes of them.
//!
//! [`Script`] says what happens on one connection, [`Scripts`] which connection or path gets which script, [`Server`] is the
//! running server and remembers what arrived. [`http`] and [`h2`] have ready-made answers, [`tls`] an authority and its
//! certificates, [`dns`] and [`proxy`] servers of their own. A server ends, with all its connections, when it is dropped.
//!
//! ```ignore
//! let server = Script::new().accept().read_head().wait(100 * MS).send("HTTP/1.1 200 OK\r\n\r\nhi").close().serve();
//! let secure = http::ok("all is well").serve_tls(Tls::with(&authority.good()));
//! ```

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    unused_imports,
    reason = "each test binary uses a part of it"
)]

pub mod connection;
pub mod dns;
pub mod encoded;
pub mod h2;
mod host;
pub mod http;
pub mod proxy;
pub mod script;
pub mod server;
pub mod tls;

use std::time::Duration;

pub use script::Script;
pub use server::{Request, Scripts, Server, closed_port};
pub use tls::{Authority, Tls};

/// So that a script can say `100 * MS`.
pub const MS: Duration = Duration::from_millis(1);

/// No connection is served for longer: a test that hangs fails instead of holding up the others.
const LIFETIME: Duration = Duration::from_secs(60);
