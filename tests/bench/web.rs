//! A web server on loopback that answers at once.

use std::net::{SocketAddr, TcpListener};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Loopback addresses of the server: one alone would run out of ports for connections that are closing.
const ADDRESSES: u8 = 16;
/// What it answers.
pub(crate) const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\nconnection: close\r\n\r\nall is well\n";
/// A server in a thread of its own that answers each connection once, as cheaply as it can.
pub(crate) fn serve() -> Vec<SocketAddr> {
    let listeners: Vec<_> = (1..=ADDRESSES)
        .map(|last| TcpListener::bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap())
        .collect();
    let addresses = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        for listener in listeners {
            listener.set_nonblocking(true).unwrap();
            local.spawn_local(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    tokio::task::spawn_local(async move {
                        let mut request = [0; 2048];
                        // A client that hangs up early is its own affair.
                        if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                            let _ = stream.write_all(ANSWER).await;
                        }
                    });
                }
            });
        }
        runtime.block_on(async { local.run_until(std::future::pending::<()>()).await });
    });
    addresses
}
