//! The wall clock, as an argument: what depends on it can be given another one.

use std::time::SystemTime;

use crate::model::Slot;

/// Reads a wall clock.
pub type WallClock = fn() -> Slot;

/// The machine's.
pub fn wall_clock() -> Slot {
    let now = Slot::from_system_time(SystemTime::now());
    // A machine whose clock is wrong, by seconds.
    fail::fail_point!("wall_clock::ahead", |seconds| {
        let ahead = seconds.and_then(|seconds| seconds.parse::<i64>().ok());
        Slot::from_micros(now.as_micros() + ahead.unwrap_or_default() * 1_000_000)
    });
    now
}
