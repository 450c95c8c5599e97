//! The commands that do one thing and end, as a person runs them.

#[path = "commands/check.rs"]
mod check;
#[path = "commands/docs.rs"]
mod docs;
#[path = "commands/hostile.rs"]
mod hostile;
#[path = "commands/run.rs"]
mod run;
#[path = "support/scripted/mod.rs"]
mod scripted;
#[path = "commands/secrets.rs"]
mod secrets;
#[path = "commands/settings.rs"]
mod settings;
mod support;
