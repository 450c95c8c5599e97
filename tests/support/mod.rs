//! What the whole-node tests are told with: a world of its own for each test (a topic and a database on the real services
//! of `scripts/test`), real processes of the node, and a local web server that behaves in known ways.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

mod database;
mod forty_days;
mod kafka;
mod machine;
mod message;
mod node;
pub(crate) mod signals;
mod web;
mod world;

use std::time::Duration;

pub use self::{
    database::connect,
    forty_days::forty_days,
    kafka::{allow, scram_password},
    machine::{free_port, metric, page, peak, resident, resident_while_it_runs, wait_for_metric},
    message::message,
    node::{Node, assert_told, ends},
    web::Web,
    world::World,
};

/// How long a condition may take to come true on a machine that is busy with other tests. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub fn required(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by scripts/test"))
}
