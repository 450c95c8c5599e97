//! HTTP/2 over a connection that is there already, by the crate h2.

use std::{pin::pin, rc::Rc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use h2::client::{Builder, SendRequest};
use http::{Method, Request, Response, Version};
use tokio::{sync::oneshot, time::timeout};

use super::{
    super::attempt::Failure,
    body::BodyReader,
    link::Link,
    redirect::Ask,
    request::{self, Headers},
    tls,
    trace::LARGEST_HEAD,
};
use crate::model::ErrorKind;

/// What the server may send beyond the largest body that is read: enough to tell that it is too large.
const BEYOND: usize = 1;

/// The largest window that HTTP/2 knows.
const LARGEST_WINDOW: usize = (1 << 31) - 1;

/// How long a connection may take to end that nobody needs any more.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection that requests can be sent on. Its other half runs as a task of this thread, and ends soon after the last copy
/// of this is gone, whatever the server does.
#[derive(Clone)]
pub(super) struct Sender {
    requests: SendRequest<Bytes>,
    _needed: Rc<oneshot::Sender<()>>,
}

/// Begins HTTP/2 on a connection over which bodies of up to `max_body_bytes` are read. The server may send one at once: a
/// smaller window would have it wait for the way there and back, which no visitor does.
///
/// # Errors
/// If the server does not.
pub(super) async fn begin(link: Link, max_body_bytes: usize) -> Result<Sender, Failure> {
    let window = (max_body_bytes + BEYOND).min(LARGEST_WINDOW) as u32;
    let (requests, connection) = Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(window)
        .max_header_list_size(LARGEST_HEAD as u32)
        .enable_push(false)
        .handshake(link)
        .await
        .map_err(|error| name_error(&error))?;
    let (needed, not_needed) = oneshot::channel();
    actix_rt::spawn(async move {
        let mut connection = pin!(connection);
        // What ends the connection is also told to the request on it.
        if let Either::Right(_) = select(connection.as_mut(), not_needed).await {
            let _ = timeout(GOODBYE, connection).await;
        }
    });
    Ok(Sender {
        requests,
        _needed: Rc::new(needed),
    })
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    response: Response<h2::RecvStream>,
    /// The connection is needed for as long as the body is.
    _sender: Sender,
}

/// Sends a request and reads the head of its answer.
///
/// # Errors
/// If there is none.
pub(super) async fn send(
    sender: &Sender,
    ask: &Ask,
    headers: &Headers<'_>,
    body: Bytes,
) -> Result<Answer, Failure> {
    let mut requests = sender
        .requests
        .clone()
        .ready()
        .await
        .map_err(|error| name_error(&error))?;
    let request = build(ask, headers)?;
    let (answer, mut stream) = requests
        .send_request(request, body.is_empty())
        .map_err(|error| name_error(&error))?;
    if !body.is_empty() {
        stream
            .send_data(body, true)
            .map_err(|error| name_error(&error))?;
    }
    let response = answer.await.map_err(|error| name_error(&error))?;
    Ok(Answer {
        response,
        _sender: sender.clone(),
    })
}

fn build(ask: &Ask, headers: &Headers<'_>) -> Result<Request<()>, Failure> {
    let fail = |error: http::Error| {
        Failure::new(
            ErrorKind::SendError,
            format!("the request can't be sent: {error}"),
        )
    };
    let authority = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map_or_else(|| request::host(&ask.url), |(_, value)| value.to_string());
    let uri = http::Uri::builder()
        .scheme(ask.url.scheme())
        .authority(authority)
        .path_and_query(request::path(&ask.url))
        .build()
        .map_err(fail)?;
    let method = Method::from_bytes(ask.method.as_bytes()).map_err(|error| fail(error.into()))?;
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .version(Version::HTTP_2);
    // These are about a connection, of which HTTP/2 has its own words (RFC 9113, 8.2.2).
    let of_connection = [
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ];
    for (name, value) in headers {
        if !of_connection
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
        {
            request = request.header(*name, value.as_ref());
        }
    }
    request.body(()).map_err(fail)
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.response
            .headers()
            .get(name)
            .map(|value| value.as_bytes())
    }

    pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let headers = self.response.headers().iter();
        headers
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// If it does not end well, or the reader refuses it.
    pub(super) async fn read(self, reader: &mut BodyReader) -> Result<(), Failure> {
        let packed = self.header("content-encoding").is_some();
        let mut body = self.response.into_body();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|error| name_error(&error))?;
            reader.take(&piece)?;
            if packed {
                // Room for as much again. Refused only on a stream that is gone, which the next read tells.
                let _ = body.flow_control().release_capacity(piece.len());
            }
        }
        reader.finish()
    }
}

fn name_error(error: &h2::Error) -> Failure {
    if let Some(io) = error.get_io() {
        if let Some(failure) = tls::name_late_error(io) {
            return failure;
        }
        return Failure::new(
            ErrorKind::ConnectionReset,
            format!("the connection was cut: {io}"),
        );
    }
    if error.is_remote() && (error.is_reset() || error.is_go_away()) {
        let reason = error.reason().map_or(String::new(), |reason| {
            format!(" ({})", reason.description())
        });
        return Failure::new(
            ErrorKind::ConnectionReset,
            format!("the server ended the HTTP/2 stream{reason}"),
        );
    }
    Failure::new(
        ErrorKind::ProtocolError,
        format!("not valid HTTP/2: {error}"),
    )
}
