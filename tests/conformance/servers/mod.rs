//! The scripted servers do what their scripts say: proved by plain clients, so that a conformance test that fails tells of
//! the engine and not of its servers.

mod client;
mod dns;
mod h2;
mod http;
mod proxy;
mod tcp;
mod tls;
