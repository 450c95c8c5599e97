//! The scripted servers do what their scripts say: proved by plain clients, so that a conformance test that fails tells of
//! the engine and not of its servers.

#[path = "support/scripted/mod.rs"]
mod scripted;

#[path = "scripted/client.rs"]
mod client;

#[path = "scripted/dns.rs"]
mod dns;
#[path = "scripted/h2.rs"]
mod h2;
#[path = "scripted/http.rs"]
mod http;
#[path = "scripted/proxy.rs"]
mod proxy;
#[path = "scripted/tcp.rs"]
mod tcp;
#[path = "scripted/tls.rs"]
mod tls;
