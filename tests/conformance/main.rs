//! What a check makes of each behaviour of a server: the table that the check engine is held to. Every row also has a bound
//! in time (its timeout and 50 ms) and in memory (`max_body_bytes` and 64 kB).

mod expectations;
mod hostile;
mod memory;
mod redirects;
mod requests;
mod row;
#[path = "../support/scripted/mod.rs"]
mod scripted;
mod servers;
mod times;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;
