//! HTTP/1.1 over a connection that is there already, by awc.
//!
//! One client a thread serves all sites but those that keep their connection, each of which has one of its own. Clients have
//! no part in DNS, TCP and TLS: each request carries a number in the place of the host, under which the connection is
//! handed to the client's connector.

use std::{cell::RefCell, collections::HashMap, io, time::Duration};

use actix_service::fn_service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::{
    Client, ClientResponse, Connector,
    error::{PayloadError, SendRequestError},
    http::{Method, Uri},
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    super::attempt::Failure,
    body::BodyReader,
    link::{CUT_IN_HEAD, HEAD_TOO_LARGE, Link},
    request::Headers,
    tls,
    trace::{Framing, LARGEST_HEAD, Trace},
};
use crate::model::ErrorKind;

/// awc's own limits are switched off: the site's timeout bounds everything.
const NO_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

thread_local! {
    static CLIENT: Client = client();
    /// Connections on their way into the client, by their numbers.
    static LINKS: RefCell<HashMap<u64, Link>> = RefCell::default();
}

/// A connection that the client is to take, and that ends if it does not come to that.
struct HandedOver(u64);

impl HandedOver {
    fn new(number: u64, link: Link) -> Self {
        LINKS.with_borrow_mut(|links| links.insert(number, link));
        Self(number)
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        let left = LINKS.with_borrow_mut(|links| links.remove(&self.0));
        // Not within the borrow: the end of a connection may be the beginning of something else.
        drop(left);
    }
}

/// A client for one connection that is kept. The connection ends with it: of what stands in the pool of a client nobody
/// hears again until somebody asks for it.
pub(super) fn client() -> Client {
    let take = |request: ConnectInfo<Uri>| async move {
        let number = request.request().host().and_then(|host| host.parse().ok());
        let link =
            number.and_then(|number: u64| LINKS.with_borrow_mut(|links| links.remove(&number)));
        match link {
            Some(link) => Ok(Connection::new(request.request().clone(), link)),
            // A kept connection is gone: the caller brings another.
            None => Err(ConnectError::Unresolved),
        }
    };
    let connector = Connector::new()
        .connector(fn_service(take))
        .timeout(NO_LIMIT)
        .conn_keep_alive(NO_LIMIT)
        .conn_lifetime(NO_LIMIT)
        .disconnect_timeout(Duration::ZERO)
        .limit(0);
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish()
}

/// What is sent.
pub(super) struct Request<'a> {
    /// Tells connections apart.
    pub(super) number: u64,
    /// The connection; none to use the one that its client has under the number.
    pub(super) link: Option<Link>,
    /// The client of the connection, if it is kept afterwards.
    pub(super) keeper: Option<&'a Client>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a Headers<'a>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
pub(super) enum SendError {
    /// There is no kept connection, or it is gone.
    NotKept,
    Failed(Failure),
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    response: ClientResponse,
}

/// Sends a request and reads the head of its answer.
pub(super) async fn send(request: Request<'_>) -> Result<Answer, SendError> {
    let fail = |detail: String| SendError::Failed(Failure::new(ErrorKind::SendError, detail));
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|error| fail(format!("method {:?}: {error}", request.method)))?;
    let uri = Uri::builder()
        .scheme("http")
        .authority(format!("{}:80", request.number))
        .path_and_query(request.path)
        .build()
        .map_err(|error| fail(format!("the URL can't be sent: {error}")))?;
    let mut sent = match request.keeper {
        Some(client) => client.request(method, uri),
        None => CLIENT
            .with(|client| client.request(method, uri))
            .force_close(),
    }
    .no_decompress();
    for (name, value) in request.headers {
        sent = sent.append_header((*name, value.as_ref()));
    }
    let reused = request.link.is_none();
    let handed_over = request
        .link
        .map(|link| HandedOver::new(request.number, link));
    let result = sent.send_body(request.body).await;
    drop(handed_over);
    match result {
        Ok(response) => Ok(Answer { response }),
        Err(SendRequestError::Connect(
            awc::error::ConnectError::Resolver(_) | awc::error::ConnectError::Unresolved,
        )) => Err(SendError::NotKept),
        // The server may have closed a kept connection just now: that is no fault of the site.
        Err(error) if reused && is_cut(&error) => Err(SendError::NotKept),
        Err(error) => Err(SendError::Failed(name_send_error(&error))),
    }
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

    /// Sorted: the client does not keep their order.
    pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let headers = self.response.headers().iter();
        let mut headers: Vec<_> = headers
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        headers.sort();
        headers
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// If it does not end well, or the reader refuses it.
    pub(super) async fn read(
        mut self,
        reader: &mut BodyReader,
        trace: &Trace,
    ) -> Result<(), Failure> {
        // Its head may name a length all the same, that of what GET would bring: awc would wait for it.
        if trace.framing.get() == Framing::Empty {
            return reader.finish();
        }
        while let Some(piece) = self.response.next().await {
            let piece = piece.map_err(|error| name_body_error(&error, reader.count()))?;
            reader.take(&piece)?;
        }
        // awc takes the end of the connection as the end of any body.
        if trace.framing.get() == Framing::Told && trace.ended.get() {
            return Err(cut_short(reader.count()));
        }
        reader.finish()
    }
}

fn is_cut(error: &SendRequestError) -> bool {
    matches!(name_send_error(error).kind, ErrorKind::ConnectionReset)
}

fn name_send_error(error: &SendRequestError) -> Failure {
    use actix_http::error::ParseError;
    match error {
        SendRequestError::Connect(awc::error::ConnectError::Disconnected) => Failure::new(
            ErrorKind::ConnectionReset,
            "the connection was closed without an answer",
        ),
        SendRequestError::Send(error)
        | SendRequestError::Response(ParseError::Io(error))
        | SendRequestError::Connect(awc::error::ConnectError::Io(error)) => name_io_error(error),
        SendRequestError::Response(ParseError::Incomplete) => Failure::new(
            ErrorKind::ConnectionReset,
            "the connection was closed in the middle of the answer's head",
        ),
        SendRequestError::Response(ParseError::TooLarge) => head_too_large(),
        SendRequestError::Response(error) => {
            Failure::new(ErrorKind::ProtocolError, format!("not valid HTTP: {error}"))
        }
        other => Failure::new(ErrorKind::SendError, other.to_string()),
    }
}

fn head_too_large() -> Failure {
    Failure::new(
        ErrorKind::ProtocolError,
        format!("the head of the answer is larger than {LARGEST_HEAD} bytes"),
    )
}

fn name_body_error(error: &PayloadError, read: u64) -> Failure {
    match error {
        PayloadError::Incomplete(None) => cut_short(read),
        PayloadError::Incomplete(Some(error)) | PayloadError::Io(error) => name_io_error(error),
        other => not_valid(other),
    }
}

fn cut_short(read: u64) -> Failure {
    Failure::new(
        ErrorKind::ConnectionReset,
        format!("the connection was closed after {read} bytes of body, before its end"),
    )
}

fn not_valid(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorKind::ProtocolError,
        format!("the body is not valid HTTP: {error}"),
    )
}

fn name_io_error(error: &io::Error) -> Failure {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if let Some(failure) = tls::name_late_error(error) {
        return failure;
    }
    match error.to_string().as_str() {
        HEAD_TOO_LARGE => return head_too_large(),
        CUT_IN_HEAD => return Failure::new(ErrorKind::ConnectionReset, CUT_IN_HEAD),
        _ => {}
    }
    match error.kind() {
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Failure::new(
            ErrorKind::ConnectionReset,
            format!("the connection was cut: {error}"),
        ),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => not_valid(error),
        _ => Failure::new(ErrorKind::SendError, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// awc refuses some requests before it asks for a connection.
    #[actix_rt::test]
    async fn a_connection_that_the_client_does_not_take_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let headers = vec![("x-a", std::borrow::Cow::from("two\nlines"))];
        let request = Request {
            number: 1,
            link: Some(Link::plain(tcp, Rc::new(Trace::new()))),
            keeper: None,
            method: "GET",
            path: "/",
            headers: &headers,
            body: Bytes::new(),
        };
        assert!(matches!(send(request).await, Err(SendError::Failed(_))));
        assert!(LINKS.with_borrow(HashMap::is_empty));
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
