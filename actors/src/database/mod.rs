//! What all that work with PostgreSQL share: sessions on the right schema, partitions, and what its errors mean.

mod ask;
mod calendars;
mod clock;
mod error;
mod expected;
pub(crate) mod incidents;
mod parameters;
mod partitions;
mod pooler;
mod schema;
mod secure;
mod server;
mod session;
mod sqlstate;
mod tables;
mod whose;
mod width;
mod windows;

/// The advisory lock around `rollup_state`: shared by writers until their transaction ends, exclusive to move it on.
pub(crate) const ROLLUP_LOCK: i64 = 0x7369_7465_0004;

pub use self::{
    ask::{AskError, ask},
    clock::{Clocks, DatabaseClock},
    error::{SessionError, StoreError},
    expected::Difference,
    server::Unfit,
    session::{SchemaText, migrate, try_out},
    sqlstate::Remedy,
};
pub(crate) use self::{
    calendars::{slots_between, write_calendars},
    partitions::{CHECKS, Partition, Partitions, existing},
    session::{open, tell_connected, untold},
    whose::{numbers, refuse_unknown},
    width::Span,
    windows::write_windows,
};
