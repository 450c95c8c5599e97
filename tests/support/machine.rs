//! Ports, pages and processes of this machine.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use super::PATIENCE;

/// A port that is free now. Another process could take it meanwhile, but none of these tests asks for it.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Returns the answer of the node at `port`, head and body.
pub fn page(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Returns the value of a metric of the node at `port`, whatever its labels: their sum.
pub fn metric(port: u16, name: &str) -> u64 {
    let page = page(port, "/metrics");
    let lines = page.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>() as u64
}

/// Waits until that value is `least` or more.
pub async fn wait_for_metric(port: u16, name: &str, least: u64) {
    let deadline = Instant::now() + PATIENCE;
    while metric(port, name) < least {
        assert!(
            Instant::now() < deadline,
            "no {least} of {name}\n{}",
            page(port, "/metrics")
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Memory of process `id` that is in RAM, in bytes.
pub fn resident(id: u32) -> u64 {
    resident_while_it_runs(id).unwrap()
}

/// The most memory that process `id` has had in RAM, in bytes.
pub fn peak(id: u32) -> u64 {
    in_status(id, "VmHWM:").unwrap()
}

/// As [`resident`]; `None` of a process that has just ended.
pub fn resident_while_it_runs(id: u32) -> Option<u64> {
    in_status(id, "VmRSS:")
}

fn in_status(id: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
