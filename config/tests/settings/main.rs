//! The settings as people write them: files, environment, imports from other monitors, and what is told of mistakes.

mod bounds;
mod examples;
mod fixtures;
mod formats;
mod import;
mod kafka;
mod layers;
mod legacy;
mod options;
mod secrets;
mod sites;
mod support;
