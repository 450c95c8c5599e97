//! Ready-made HTTP/1 behaviours, right ones and wrong ones. What they need, as another status, is one [`Script`] away.

use std::time::Duration;

use super::{Script, Scripts, encoded};

/// Reads a whole request and answers it in one piece, with its length. Keeps the connection.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Script {
    let body = body.as_ref();
    let mut bytes = head(status, headers, Some(body.len())).into_bytes();
    bytes.extend_from_slice(body);
    request().send(bytes)
}

/// The text of an answer's head with its empty line; without a length, the body ends with the connection.
pub fn head(status: u16, headers: &[(&str, &str)], length: Option<usize>) -> String {
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    match length {
        // These must not have one (RFC 9110, 8.6).
        Some(_) if status == 204 || status < 200 => {}
        Some(length) => text += &format!("content-length: {length}\r\n"),
        None => text += "connection: close\r\n",
    }
    text + "\r\n"
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        403 => "Forbidden",
        404 => "Not Found",
        407 => "Proxy Authentication Required",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Some Reason",
    }
}

/// The beginning of most scripts: a whole request is read.
pub fn request() -> Script {
    Script::new().accept().read_head().read_body()
}

pub fn ok(body: impl AsRef<[u8]>) -> Script {
    answer(200, &[("content-type", "text/plain")], body)
}

pub fn status(status: u16) -> Script {
    answer(status, &[], "")
}

pub fn json(body: &str) -> Script {
    answer(200, &[("content-type", "application/json")], body)
}

pub fn redirect(to: &str) -> Script {
    redirect_by(302, to)
}

pub fn redirect_by(status: u16, to: &str) -> Script {
    answer(status, &[("location", to)], "")
}

/// Every path leads to `/again`.
pub fn redirect_loop() -> Script {
    redirect("/again")
}

/// `/` leads to `/1`, that to `/2`, and so on: after `hops` redirects, `/{hops}` is answered by 200.
pub fn redirect_chain(hops: usize) -> Scripts {
    let last = format!("/{hops}");
    (0..hops)
        .fold(Scripts::new(), |scripts, n| {
            let from = if n == 0 {
                "/".to_owned()
            } else {
                format!("/{n}")
            };
            scripts.path(&from, redirect(&format!("/{}", n + 1)))
        })
        .path(&last, ok("the end of the chain"))
}

/// A body that is packed already, under the name of its encoding.
pub fn encoded(encoding: &str, packed: impl AsRef<[u8]>) -> Script {
    answer(200, &[("content-encoding", encoding)], packed)
}

pub fn gzip(body: impl AsRef<[u8]>) -> Script {
    encoded("gzip", encoded::gzip(body))
}

pub fn brotli(body: impl AsRef<[u8]>) -> Script {
    encoded("br", encoded::brotli(body))
}

pub fn zstd(body: impl AsRef<[u8]>) -> Script {
    encoded("zstd", encoded::zstd(body))
}

/// About 1 MB that unpacks to 1 GiB.
pub fn gzip_bomb() -> Script {
    encoded("gzip", encoded::gzip_bomb(1024))
}

/// Some hundred bytes that unpack to 32 MiB, with a window of 1 GiB.
pub fn brotli_bomb() -> Script {
    encoded("br", encoded::brotli_bomb(32))
}

/// A few kilobytes that unpack to 32 MiB, with a window of 128 MiB.
pub fn zstd_bomb() -> Script {
    encoded("zstd", encoded::zstd_bomb(32))
}

/// Says gzip and sends none.
pub fn false_gzip() -> Script {
    encoded("gzip", "this is not compressed")
}

/// A gzip body that ends in the middle, while the length is right.
pub fn truncated_gzip(body: impl AsRef<[u8]>) -> Script {
    let packed = encoded::gzip(body);
    encoded("gzip", &packed[..packed.len() / 2])
}

/// Announces 100 bytes more than it sends, then closes.
pub fn length_too_long(body: &str) -> Script {
    let head = head(200, &[], Some(body.len() + 100));
    request().send(head + body).close()
}

/// Announces only `length` bytes of the body, then closes.
pub fn length_too_short(body: &str, length: usize) -> Script {
    request().send(head(200, &[], Some(length)) + body).close()
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// A right body in chunks.
pub fn chunked(chunks: &[&str]) -> Script {
    let mut text = CHUNKED.to_owned();
    for chunk in chunks {
        text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    request().send(text + "0\r\n\r\n")
}

/// A chunk whose size is no number.
pub fn broken_chunk_size() -> Script {
    let text = format!("{CHUNKED}5\r\nfirst\r\nnot-a-size\r\nsecond\r\n0\r\n\r\n");
    request().send(text).close()
}

/// The connection is closed within a chunk.
pub fn broken_off_in_a_chunk() -> Script {
    request().send(format!("{CHUNKED}64\r\nonly this")).close()
}

/// All chunks, but not the last one that ends the body.
pub fn without_last_chunk() -> Script {
    request().send(format!("{CHUNKED}5\r\nfirst\r\n")).close()
}

/// 204 must not have a body (RFC 9110, 15.3.5); this one has.
pub fn no_content_with_a_body() -> Script {
    let text = "HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\nsomething";
    request().send(text).close()
}

/// Only a body, without a status line or headers.
pub fn http_0_9() -> Script {
    request()
        .send("<html>an answer of the last century</html>")
        .close()
}

/// An answer by HTTP/1.0, ended by the connection's end.
pub fn http_1_0(body: &str) -> Script {
    let text = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
    request().send(text).close()
}

/// Another protocol altogether.
pub fn ssh() -> Script {
    Script::new()
        .accept()
        .send("SSH-2.0-OpenSSH_9.9\r\n")
        .close()
}

/// Bytes that are not UTF-8, and NUL, in the body.
pub fn binary_body() -> Script {
    ok(b"all \xff\xfe is \0 well")
}

/// Bytes that are not UTF-8 in a header's value: allowed (RFC 9110, 5.5, obs-text).
pub fn latin_1_header() -> Script {
    request().send(b"HTTP/1.1 200 OK\r\nx-town: M\xfcnchen\r\ncontent-length: 2\r\n\r\nok")
}

/// NUL in a header's value: not allowed.
pub fn nul_in_a_header() -> Script {
    request()
        .send(b"HTTP/1.1 200 OK\r\nx-odd: a\0b\r\ncontent-length: 2\r\n\r\nok")
        .close()
}

/// One header of `bytes` bytes (10 MB, say), then a right end.
pub fn large_header(bytes: u64) -> Script {
    request()
        .send("HTTP/1.1 200 OK\r\nx-large: ")
        .repeat([b'x'; 1000], bytes / 1000)
        .send("\r\ncontent-length: 2\r\n\r\nok")
        .close()
}

/// Headers, and never the empty line.
pub fn endless_headers() -> Script {
    request()
        .send("HTTP/1.1 200 OK\r\n")
        .send_endlessly("x-more: and more\r\n".repeat(500))
}

/// A body without a length that goes on as fast as it is read.
pub fn endless_body() -> Script {
    request()
        .send(head(200, &[], None))
        .send_endlessly([b'x'; 16 * 1024])
}

/// A body in chunks that goes on as fast as it is read.
pub fn endless_chunks() -> Script {
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    request().send(CHUNKED).send_endlessly(chunk)
}

/// The head, then a byte every `interval`, without end.
pub fn slow_body(interval: Duration) -> Script {
    request()
        .send(head(200, &[], None))
        .send_every(interval, "x")
}

/// The head itself comes byte by byte.
pub fn slow_head(interval: Duration) -> Script {
    request().drip(head(200, &[], Some(0)), interval)
}

pub fn reset_after_accept() -> Script {
    Script::new().accept().reset()
}

pub fn close_after_accept() -> Script {
    Script::new().accept().close()
}

/// Accepts, and never says a word; not even a TLS handshake.
pub fn silence() -> Script {
    Script::new().accept().stall()
}

pub fn reset_after_request() -> Script {
    request().reset()
}

pub fn close_after_request() -> Script {
    request().close()
}

pub fn no_answer() -> Script {
    request().stall()
}

pub fn reset_in_head() -> Script {
    request().send("HTTP/1.1 200 OK\r\nserv").reset()
}

pub fn close_in_head() -> Script {
    request().send("HTTP/1.1 200 OK\r\nserv").close()
}

pub fn reset_in_body() -> Script {
    request().send(head(200, &[], Some(100)) + "some").reset()
}

pub fn stall_in_body() -> Script {
    request().send(head(200, &[], Some(100)) + "some").stall()
}

/// How long an answer takes in each phase; those not written are at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Before ServerHello; without TLS, before the request is read, which the client does not notice.
    pub before_tls: Duration,
    /// From the request to the answer's first byte.
    pub before_head: Duration,
    /// From the head to the body's first byte.
    pub before_body: Duration,
    /// From the body's first byte to its last.
    pub body_time: Duration,
}

/// An answer of `all is well`, in its time.
pub fn phases(phases: Phases) -> Script {
    const BODY: &str = "all is well";
    Script::new()
        .accept()
        .wait(phases.before_tls)
        .handshake()
        .read_head()
        .read_body()
        .wait(phases.before_head)
        .send(head(200, &[], Some(BODY.len())))
        .wait(phases.before_body)
        .send(&BODY[..1])
        .wait(phases.body_time)
        .send(&BODY[1..])
}
