//! The commands that do one thing and end, as a person runs them.

mod check;
mod docs;
mod hostile;
mod run;
mod secrets;
mod settings;
