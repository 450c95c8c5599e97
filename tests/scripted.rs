//! The scripted servers do what their scripts say: proved by plain clients, so that a test of the engine that fails tells of
//! the engine.

#[path = "support/scripted/mod.rs"]
mod scripted;
