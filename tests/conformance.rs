//! What a check makes of each behaviour of a server: the table that the check engine is held to. Every row also has a bound
//! in time (its timeout and 50 ms) and in memory (`max_body_bytes` and 64 kB).

#[path = "conformance/expectations.rs"]
mod expectations;
#[path = "conformance/hostile.rs"]
mod hostile;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/requests.rs"]
mod requests;
#[path = "conformance/row.rs"]
mod row;
#[path = "support/scripted/mod.rs"]
mod scripted;
#[path = "conformance/times.rs"]
mod times;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;
