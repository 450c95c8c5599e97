//! The sites: a web server that answers at once, and logs each request.

use std::{
    fs::File,
    io::{BufWriter, Write},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

/// The server.
pub(crate) struct Web {
    requests: Arc<AtomicU64>,
}

impl Web {
    /// Listens on `port` of 127.0.0.1; a line for each request goes to `log`: microseconds since 1970, and the path.
    pub(crate) fn start(runtime: &Handle, port: u16, log: &Path) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        listener.set_nonblocking(true)?;
        let requests = Arc::<AtomicU64>::default();
        let log = Arc::new(Mutex::new(BufWriter::new(File::create(log)?)));
        let count = Arc::clone(&requests);
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            loop {
                // Out of files for a moment, at worst.
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&count)));
                }
            }
        });
        Ok(Self { requests })
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<BufWriter<File>>>, count: Arc<AtomicU64>) {
    let mut head = Vec::with_capacity(512);
    loop {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) if head.windows(4).any(|end| end == b"\r\n\r\n") => break,
            Ok(_) if head.len() > 16 << 10 => return,
            Ok(_) => {}
        }
    }
    count.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // A log that can't be written says less, no more.
    let _ = writeln!(
        log.lock().unwrap_or_else(PoisonError::into_inner),
        "{} {path}",
        now.as_micros()
    );
    let (status, body) = if path.starts_with("/failing/") {
        ("500 Internal Server Error", "oops")
    } else {
        ("200 OK", "all is well")
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // A client that has gone away is part of the game.
    let _ = stream.write_all(answer.as_bytes()).await;
}
