//! The actors of sitewatch-node and what they share.
//!
//! Each component is a folder: its `mod.rs` is the actor, one file does the I/O, pure decisions have files of their own.
//! Components never import one another: they share the types in [`model`], send through an [`intake::Intake`], and are
//! connected by the node.

pub mod audit;
pub mod consumer;
pub mod database;
pub mod folder_lock;
pub mod health;
pub mod history;
pub mod housekeeping;
pub mod intake;
pub mod kafka;
pub mod maintenance;
pub mod metrics;
pub mod model;
pub mod private;
pub mod publisher;
pub mod retry;
pub mod site;
pub mod supervision;
pub mod time;
pub mod tls;
pub mod wanted;
pub mod writer;
