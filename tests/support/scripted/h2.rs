//! Answers by HTTP/2, over TLS with ALPN or, without TLS, to clients that know.

use std::{collections::BTreeMap, future::poll_fn, sync::Arc, time::Duration, time::Instant};

use bytes::Bytes;
use h2::{
    Error, RecvStream, SendStream,
    server::{self, SendResponse},
};
use http::{Request as HttpRequest, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::sleep,
};

pub use h2::Reason;

use super::{
    Script,
    server::{Request, Seen},
    tls::TlsSeen,
};

/// What comes after the body.
#[derive(Clone, Copy, Debug)]
enum End {
    InOrder,
    Reset(Reason),
    Stall,
    /// The body goes on.
    Never,
}

/// What comes instead of an answer.
#[derive(Clone, Copy, Debug)]
enum Instead {
    Reset(Reason),
    GoAway(Reason),
    Stall,
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    before_head: Duration,
    before_body: Duration,
    end: End,
    instead: Option<Instead>,
}

pub fn ok(body: impl AsRef<[u8]>) -> Answer {
    Answer {
        status: 200,
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body.as_ref()),
        before_head: Duration::ZERO,
        before_body: Duration::ZERO,
        end: End::InOrder,
        instead: None,
    }
}

/// Its body never ends.
pub fn endless_body() -> Answer {
    Answer {
        end: End::Never,
        ..ok([b'x'; 16 * 1024])
    }
}

/// RST_STREAM instead of an answer.
pub fn reset_stream(reason: Reason) -> Answer {
    Answer {
        instead: Some(Instead::Reset(reason)),
        ..ok("")
    }
}

/// GOAWAY instead of an answer, and the connection's end. It names the request's stream as the last that was processed, so a
/// client learns the reason from its connection; the stream itself may only see the end.
pub fn go_away(reason: Reason) -> Answer {
    Answer {
        instead: Some(Instead::GoAway(reason)),
        ..ok("")
    }
}

/// Takes the request and says nothing.
pub fn no_answer() -> Answer {
    Answer {
        instead: Some(Instead::Stall),
        ..ok("")
    }
}

impl Answer {
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Delays the head, or what comes instead of it.
    pub fn before_head(mut self, time: Duration) -> Self {
        self.before_head = time;
        self
    }

    pub fn before_body(mut self, time: Duration) -> Self {
        self.before_body = time;
        self
    }

    /// Sends the body, then RST_STREAM instead of its end.
    pub fn reset_in_body(mut self, reason: Reason) -> Self {
        self.end = End::Reset(reason);
        self
    }

    /// Sends the body, but never its end.
    pub fn stall_in_body(mut self) -> Self {
        self.end = End::Stall;
        self
    }

    pub fn script(self) -> Script {
        Answers::from(self).script()
    }
}

/// Which path gets which answer.
#[derive(Clone, Debug)]
pub struct Answers {
    by_path: BTreeMap<String, Answer>,
    rest: Answer,
}

impl From<Answer> for Answers {
    fn from(rest: Answer) -> Self {
        Self {
            by_path: BTreeMap::new(),
            rest,
        }
    }
}

impl Answers {
    /// Answers what no path is given for.
    pub fn otherwise(answer: Answer) -> Self {
        answer.into()
    }

    pub fn path(mut self, path: &str, answer: Answer) -> Self {
        self.by_path.insert(path.to_owned(), answer);
        self
    }

    /// Only HTTP/2: clients that chose another protocol find the connection closed. `Script::h2` is for both.
    pub fn script(self) -> Script {
        Script::new().accept().h2(self)
    }
}

/// Where requests are recorded, and what is known of their connection.
pub(super) struct Log {
    pub(super) connection: usize,
    pub(super) seen: Arc<Seen>,
    pub(super) tls: Option<TlsSeen>,
}

pub(super) async fn speak(
    io: impl AsyncRead + AsyncWrite + Unpin,
    answers: &Answers,
    log: &Log,
) -> Result<(), Error> {
    let mut connection = server::handshake(io).await?;
    // Dropped with the connection, and all its streams with it.
    let mut streams = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let place = log.seen.record(Request {
            connection: log.connection,
            at: Instant::now(),
            head: head_text(&HttpRequest::from_parts(parts, ())),
            body: Vec::new(),
            tls: log.tls.clone(),
        });
        let answer = answers.by_path.get(&path).unwrap_or(&answers.rest).clone();
        if let Some(Instead::GoAway(reason)) = answer.instead {
            sleep(answer.before_head).await;
            connection.abrupt_shutdown(reason);
        } else {
            let seen = Arc::clone(&log.seen);
            streams.spawn(async move {
                // The client may take back its request at any time.
                let _ = give(answer, respond, body, &seen, place).await;
            });
        }
    }
    Ok(())
}

async fn give(
    answer: Answer,
    mut respond: SendResponse<Bytes>,
    mut body: RecvStream,
    seen: &Seen,
    place: usize,
) -> Result<(), Error> {
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        seen.add_body(place, &chunk);
    }
    sleep(answer.before_head).await;
    match answer.instead {
        Some(Instead::Reset(reason)) => {
            respond.send_reset(reason);
            return Ok(());
        }
        Some(_) => {
            poll_fn(|cx| respond.poll_reset(cx)).await?;
            return Ok(());
        }
        None => {}
    }
    let mut head = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        head = head.header(name, value);
    }
    let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
    sleep(answer.before_body).await;
    send(&mut stream, answer.body.clone()).await?;
    match answer.end {
        End::InOrder => stream.send_data(Bytes::new(), true),
        End::Reset(reason) => {
            // RST_STREAM drops what still waits to be sent.
            sleep(Duration::from_millis(50)).await;
            stream.send_reset(reason);
            Ok(())
        }
        End::Stall => poll_fn(|cx| stream.poll_reset(cx)).await.map(drop),
        End::Never => loop {
            send(&mut stream, answer.body.clone()).await?;
        },
    }
}

/// Sends no more than the client has room for, so that an endless body does not fill the memory.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => {
                let piece = bytes.split_to(room?.min(bytes.len()));
                stream.send_data(piece, false)?;
            }
            None => return Err(Reason::CANCEL.into()),
        }
    }
    Ok(())
}

fn head_text(request: &HttpRequest<()>) -> String {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut text = format!("{} {target} HTTP/2.0\r\n", request.method());
    if let Some(authority) = request.uri().authority() {
        text += &format!("host: {authority}\r\n");
    }
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}
