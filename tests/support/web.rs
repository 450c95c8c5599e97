//! A local web server that behaves in known ways.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::PATIENCE;

/// A web server on loopback: `/up`, `/500`, `/slow` (3 s), `/reset`, `/text`, `/moved` (leads to `/up`), `/redirects` (to
/// itself), `/garbage`, `/stalls` (the body never ends), `/large` (100 kB),
/// `/control` (500, 64 kB of control characters).
pub struct Web {
    pub port: u16,
    pub paths: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let paths = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&paths);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || answer(stream, &seen));
            }
        });
        Self { port, paths }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Waits for so many more requests.
    pub async fn wait_for_requests(&self, more: usize) {
        let count = || self.paths.lock().unwrap().len();
        let (before, deadline) = (count(), Instant::now() + PATIENCE);
        while count() < before + more {
            assert!(
                Instant::now() < deadline,
                "{} requests, not {more}",
                count() - before
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn answer(mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).unwrap_or(0);
    let head = String::from_utf8_lossy(&request[..read]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(path.clone());
    let respond = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            body.len()
        )
    };
    let text = match path.as_str() {
        "/reset" => return,
        "/500" => respond("500 Internal Server Error", "", "oops"),
        "/slow" => {
            std::thread::sleep(Duration::from_secs(3));
            respond("200 OK", "", "at last")
        }
        "/moved" => respond("302 Found", "location: /up\r\n", ""),
        "/redirects" => respond("302 Found", "location: /redirects\r\n", ""),
        "/garbage" => "this is not HTTP\r\n\r\n".to_owned(),
        "/stalls" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome".to_owned(),
        "/control" => respond("500 Internal Server Error", "", &"\u{1}".repeat(65_536)),
        "/large" => respond("200 OK", "", &"x".repeat(100_000)),
        _ => respond("200 OK", "", "all is well"),
    };
    // A client that has gone away is part of the game.
    let _ = stream.write_all(text.as_bytes());
    if path == "/stalls" {
        std::thread::sleep(Duration::from_secs(5));
    }
}
