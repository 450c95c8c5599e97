//! The wall clock, as an argument: what depends on it can be given another one.

use std::time::SystemTime;

use crate::model::Slot;

/// Reads a wall clock.
pub type WallClock = fn() -> Slot;

/// The machine's.
pub fn wall_clock() -> Slot {
    Slot::from_system_time(SystemTime::now())
}
