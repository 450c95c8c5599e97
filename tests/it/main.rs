//! The whole-node tests: real processes of the node against a real Kafka and a real PostgreSQL, one module a subject.
//!
//! They are one binary, so that what they share is compiled and linked once. Each test has a world of its own (a topic and a
//! database); the services are shared, and a test that stops a service starts one of its own.

#[path = "../support/accepted.rs"]
mod accepted;
#[path = "../support/bounds/mod.rs"]
mod bounds_of_messages;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/overtaken.rs"]
mod overtaken;
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
#[path = "../support/scripted/mod.rs"]
mod scripted;
#[path = "../support/services.rs"]
mod services;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the torture test uses all of it")]
#[path = "../support/tcp_proxy.rs"]
mod tcp_proxy;
#[path = "../support/topic.rs"]
mod topic;

mod audit;
mod backlog;
mod bounds;
mod commands;
mod database;
mod dead_letter;
mod demo;
mod durability;
mod engine;
mod export;
mod failures;
mod history;
mod incidents;
mod log;
mod memory;
mod operation;
mod outage;
mod output;
mod parameters;
mod path;
mod placeholders;
mod pooler;
mod private_files;
mod refused;
mod reload;
mod restore;
mod retention;
mod room;
mod rotation;
mod secrets;
mod servers;
mod sites;
mod spool;
mod standalone;
mod tls;
mod topic_identity;
mod upgrade;
mod uptime;
mod versions;
mod watchdog;
mod writers;
