//! HTTP/2 over a connection that is there already, by the crate h2.

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Method, Request, Response, Version};

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

/// A connection that requests can be sent on. Its other half runs as a task of this thread and ends with it.
pub(super) type Sender = SendRequest<Bytes>;

/// Begins HTTP/2 on a connection over which bodies of up to `max_body_bytes` are read. The server may send one at once: a
/// smaller window would have it wait for the way there and back, which no visitor does.
///
/// # Errors
/// If the server does not.
pub(super) async fn begin(link: Link, max_body_bytes: usize) -> Result<Sender, Failure> {
    let window = (max_body_bytes + BEYOND).min(LARGEST_WINDOW) as u32;
    let (sender, connection) = Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(window)
        .max_header_list_size(LARGEST_HEAD as u32)
        .enable_push(false)
        .handshake(link)
        .await
        .map_err(|error| name_error(&error))?;
    actix_rt::spawn(async move {
        // What ends the connection is also told to the request on it.
        let _ = connection.await;
    });
    Ok(sender)
}

/// An answer whose body has not been read.
pub(super) struct Answer(Response<h2::RecvStream>);

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
    let mut sender = sender
        .clone()
        .ready()
        .await
        .map_err(|error| name_error(&error))?;
    let request = build(ask, headers)?;
    let (answer, mut stream) = sender
        .send_request(request, body.is_empty())
        .map_err(|error| name_error(&error))?;
    if !body.is_empty() {
        stream
            .send_data(body, true)
            .map_err(|error| name_error(&error))?;
    }
    Ok(Answer(answer.await.map_err(|error| name_error(&error))?))
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
        self.0.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers().get(name).map(|value| value.as_bytes())
    }

    pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let headers = self.0.headers().iter();
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
        let mut body = self.0.into_body();
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
