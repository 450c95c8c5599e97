//! Answers by HTTP/2.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Error, Reason, client};
use http::Request;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::Client;
use crate::scripted::{Authority, MS, Script, Server, Tls, h2 as scripted_h2};

/// What came by HTTP/2, and when.
#[derive(Debug, Default)]
struct Got {
    status: u16,
    body: Vec<u8>,
    head_after: Duration,
    body_after: Duration,
}

/// A POST of `hello` over TLS; reads at most `limit` bytes.
async fn post(
    authority: &Authority,
    server: &Server,
    path: &str,
    limit: usize,
) -> (Got, Result<(), Error>) {
    let mut settings = Client::of(authority);
    settings.alpn = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(server.address()).await.unwrap();
    let tls = TlsConnector::from(settings.config())
        .connect(ServerName::try_from("localhost").unwrap(), tcp)
        .await
        .unwrap();
    let (send, connection) = client::handshake(tls).await.unwrap();
    let mut driver = tokio::spawn(connection);
    let mut got = Got::default();
    let mut told = exchange(send, server.url_for("localhost", path), limit, &mut got).await;
    // A GOAWAY is told to the connection. Its streams, which may have been processed, only see it end.
    match tokio::time::timeout(100 * MS, &mut driver).await {
        Ok(Ok(Err(error))) if error.is_go_away() => told = Err(error),
        Ok(_) => {}
        Err(_) => {
            driver.abort();
            // Only now has it let go of the connection.
            let _ = driver.await;
        }
    }
    (got, told)
}

async fn exchange(
    send: client::SendRequest<Bytes>,
    url: String,
    limit: usize,
    got: &mut Got,
) -> Result<(), Error> {
    let start = Instant::now();
    let request = Request::post(url).header("x-odd", "1").body(()).unwrap();
    let (response, mut stream) = send.ready().await?.send_request(request, false)?;
    stream.send_data(Bytes::from_static(b"hello"), true)?;
    let response = response.await?;
    got.status = response.status().as_u16();
    got.head_after = start.elapsed();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        if got.body.is_empty() {
            got.body_after = start.elapsed();
        }
        body.flow_control().release_capacity(chunk.len())?;
        got.body.extend_from_slice(&chunk);
        if got.body.len() >= limit {
            break;
        }
    }
    Ok(())
}

fn serve(authority: &Authority, script: Script) -> Server {
    script.serve_tls(Tls::with(&authority.good()).alpn(&["h2", "http/1.1"]))
}

#[tokio::test]
async fn answers_come_and_requests_are_remembered() {
    let authority = Authority::new();
    let answer = scripted_h2::ok("all is well")
        .status(201)
        .header("x-a", "b");
    let server = serve(&authority, answer.script());
    let (got, told) = post(&authority, &server, "/path?q", usize::MAX).await;
    told.unwrap();
    assert_eq!((got.status, &got.body[..]), (201, &b"all is well"[..]));
    let request = server.requests().remove(0);
    assert_eq!(
        (request.method(), request.target(), request.version()),
        ("POST", "/path?q", "HTTP/2.0")
    );
    assert_eq!(request.header("x-odd"), Some("1"));
    assert_eq!(request.body, b"hello");
    assert_eq!(request.tls.unwrap().alpn.as_deref(), Some("h2"));
    assert!(server.all_closed_within(Duration::from_secs(5)));
}

#[tokio::test]
async fn head_and_body_wait() {
    let authority = Authority::new();
    let answer = scripted_h2::ok("late")
        .before_head(80 * MS)
        .before_body(60 * MS);
    let server = serve(&authority, answer.script());
    let (got, told) = post(&authority, &server, "/", usize::MAX).await;
    told.unwrap();
    assert!(got.head_after >= 75 * MS, "{got:?}");
    assert!(got.body_after >= 135 * MS, "{got:?}");
}

#[tokio::test]
async fn streams_and_connections_are_broken_off() {
    let authority = Authority::new();
    let answers = scripted_h2::Answers::otherwise(scripted_h2::ok(""))
        .path("/reset", scripted_h2::reset_stream(Reason::INTERNAL_ERROR))
        .path("/away", scripted_h2::go_away(Reason::ENHANCE_YOUR_CALM))
        .path(
            "/body",
            scripted_h2::ok("some").reset_in_body(Reason::CANCEL),
        );
    let server = serve(&authority, answers.script());
    let (got, told) = post(&authority, &server, "/reset", 0).await;
    let error = told.unwrap_err();
    assert!(error.is_reset() && got.status == 0, "{error}");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let (_, told) = post(&authority, &server, "/away", 0).await;
    let error = told.unwrap_err();
    assert!(error.is_go_away(), "{error}");
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    let (got, told) = post(&authority, &server, "/body", usize::MAX).await;
    assert_eq!(got.body, b"some");
    assert_eq!(told.unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn an_endless_body_goes_on_and_a_stalled_one_does_not() {
    let authority = Authority::new();
    let endless = serve(&authority, scripted_h2::endless_body().script());
    let (got, told) = post(&authority, &endless, "/", 5 << 20).await;
    told.unwrap();
    assert!(got.body.len() >= 5 << 20);
    assert!(endless.all_closed_within(Duration::from_secs(5)));
    for answer in [
        scripted_h2::no_answer(),
        scripted_h2::ok("some").stall_in_body(),
    ] {
        let server = serve(&authority, answer.script());
        let stalled = post(&authority, &server, "/", usize::MAX);
        tokio::time::timeout(200 * MS, stalled).await.unwrap_err();
    }
}

#[tokio::test]
async fn one_server_speaks_both() {
    let authority = Authority::new();
    let script = Script::new()
        .accept()
        .h2(scripted_h2::ok("by 2"))
        .read_head()
        .send("HTTP/1.1 200 OK\r\n\r\nby 1");
    let server = serve(&authority, script);
    let (got, told) = post(&authority, &server, "/", usize::MAX).await;
    told.unwrap();
    assert_eq!(got.body, b"by 2");
    let mut old = Client::of(&authority);
    old.alpn = vec![b"http/1.1".to_vec()];
    let got = old.get(server.address()).unwrap();
    assert_eq!(got.body(), b"by 1");
}

#[tokio::test]
async fn clients_that_know_need_no_tls() {
    let server = scripted_h2::ok("plain").script().serve();
    let tcp = TcpStream::connect(server.address()).await.unwrap();
    let (send, connection) = client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut got = Got::default();
    exchange(send, server.url("/"), usize::MAX, &mut got)
        .await
        .unwrap();
    assert_eq!(got.body, b"plain");
}
