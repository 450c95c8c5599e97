//! Through an HTTP proxy by CONNECT (RFC 9110, 9.3.6).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sitewatch_config::Proxy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::super::attempt::Failure;
use crate::model::ErrorKind;

/// The longest answer of a proxy before the way is free.
const LONGEST_ANSWER: usize = 8 * 1024;

/// Asks the proxy at the other end of `stream` for a way to `host` and `port`.
///
/// # Errors
/// `connect_refused` with what the proxy said.
pub(super) async fn tunnel(
    stream: &mut TcpStream,
    host: &str,
    port: u16,
    proxy: &Proxy,
) -> Result<(), Failure> {
    let fail = |why: String| {
        let place = format!("{}:{}", proxy.host, proxy.port);
        Failure::new(
            ErrorKind::ConnectRefused,
            format!("the proxy {place} {why}"),
        )
    };
    let cut = |error: std::io::Error| fail(format!("can't be spoken to: {error}"));
    let target = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n");
    if let Some((user, password)) = &proxy.login {
        let login = BASE64_STANDARD.encode(format!("{}:{}", user.reveal(), password.reveal()));
        request += &format!("proxy-authorization: Basic {login}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await.map_err(cut)?;

    // Byte by byte, so that nothing of what follows is taken away: it is short, and once an attempt.
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_ANSWER {
            return Err(fail("answers with more than it should".to_owned()));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(fail(
                    "closed the connection instead of opening a way to the site".to_owned(),
                ));
            }
            Err(error) => return Err(cut(error)),
        }
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).unwrap_or_default();
    match status {
        "407" => Err(fail("asks for a name and password".to_owned())),
        _ if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') => Ok(()),
        _ => Err(fail(format!("answers: {line}"))),
    }
}
