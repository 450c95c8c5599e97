//! One HTTP exchange with a site, redirects followed, within its timeout. Decides nothing about up or down.

use std::{io, rc::Rc, sync::Arc, time::Instant};

use actix_service::fn_service;
use awc::{
    Client, ClientResponse, Connector,
    error::{PayloadError, SendRequestError},
    http::{Method, Uri, Version, header},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use sitewatch_config::{Site, Url};

use super::{
    attempt::{Attempt, Failure},
    link::{Reached, Trace, connect, micros_since},
};
use crate::model::ErrorKind;

/// awc's own limits are switched off: the site's timeout bounds everything.
const NO_LIMIT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

const USER_AGENT: &str = concat!("sitewatch-node/", env!("CARGO_PKG_VERSION"));

/// Makes one exchange with `site` on new connections. Never fails: what went wrong is in the attempt, with the times of
/// what had been reached.
pub(super) async fn probe(site: &Site, tls: &Arc<ClientConfig>) -> Attempt {
    let trace = Rc::new(Trace::default());
    let start = Instant::now();
    let mut attempt = Attempt::default();
    let failure =
        match tokio::time::timeout(site.timeout, exchange(site, tls, &trace, &mut attempt)).await {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some(timed_out(site, trace.reached.get())),
        };
    trace.note(|phases| phases.total_us = micros_since(start));
    Attempt {
        failure,
        phases: trace.phases.get(),
        remote_ip: trace.remote_ip.get(),
        ..attempt
    }
}

fn timed_out(site: &Site, reached: Reached) -> Failure {
    let (kind, what) = match reached {
        Reached::Dns => (ErrorKind::DnsTimeout, "no answer from DNS"),
        Reached::Connect => (ErrorKind::ConnectTimeout, "no connection"),
        Reached::Tls => (ErrorKind::TlsError, "TLS handshake not finished"),
        Reached::Request => (ErrorKind::TtfbTimeout, "no answer"),
        Reached::Body => (ErrorKind::BodyTimeout, "body not complete"),
    };
    Failure::new(kind, format!("{what} within {:?}", site.timeout))
}

/// What is asked of the next hop.
struct Hop {
    url: Url,
    method: Method,
    with_body: bool,
}

async fn exchange(
    site: &Site,
    tls: &Arc<ClientConfig>,
    trace: &Rc<Trace>,
    attempt: &mut Attempt,
) -> Result<(), Failure> {
    let method = Method::from_bytes(site.method.as_bytes()).map_err(|error| {
        Failure::new(
            ErrorKind::SendError,
            format!("method {:?}: {error}", site.method),
        )
    })?;
    let mut hop = Hop {
        url: site.url.clone(),
        method,
        with_body: true,
    };
    loop {
        let response = send(site, &hop, tls, trace).await?;
        attempt.status = Some(response.status().as_u16());
        attempt.http_version = Some(if response.version() == Version::HTTP_10 {
            "1.0"
        } else {
            "1.1"
        });
        trace.reached.set(Reached::Body);
        match redirect(site, &hop, &response)? {
            Some(next) if attempt.redirects < site.max_redirects => {
                attempt.redirects += 1;
                hop = next;
            }
            Some(_) => {
                return Err(Failure::new(
                    ErrorKind::RedirectError,
                    format!("more than {} redirects", site.max_redirects),
                ));
            }
            None => return read_body(site, response, trace, attempt).await,
        }
    }
}

async fn send(
    site: &Site,
    hop: &Hop,
    tls: &Arc<ClientConfig>,
    trace: &Rc<Trace>,
) -> Result<ClientResponse<impl Stream<Item = Result<Bytes, PayloadError>> + Unpin + use<>>, Failure>
{
    let tls = (hop.url.scheme() == "https").then(|| Arc::clone(tls));
    let link_trace = Rc::clone(trace);
    let connector = Connector::new()
        .connector(fn_service(move |request| {
            connect(request, tls.clone(), Rc::clone(&link_trace))
        }))
        .timeout(NO_LIMIT);
    let client = Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish();

    let mut request = client
        .request(hop.method.clone(), address(&hop.url)?)
        .force_close();
    request = request.insert_header((header::HOST, host_header(&hop.url)));
    request = request
        .insert_header((header::USER_AGENT, USER_AGENT))
        .insert_header((header::ACCEPT, "*/*"));
    let body = site.body.as_ref().filter(|_| hop.with_body);
    if body.is_some_and(|body| body.is_json) {
        request = request.insert_header((header::CONTENT_TYPE, "application/json"));
    }
    let same_origin = hop.url.origin() == site.url.origin();
    if same_origin && !hop.url.username().is_empty() {
        let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        request = request.basic_auth(
            decode(hop.url.username()),
            hop.url.password().map(decode).unwrap_or_default(),
        );
    }
    for (name, value) in &site.headers {
        // What is meant for one origin is not shown to another.
        if same_origin || !is_credential(name) {
            request = request.insert_header((name.as_str(), value.as_str()));
        }
    }
    let body = body.map(|body| body.bytes.clone()).unwrap_or_default();
    let response = request
        .send_body(body)
        .await
        .map_err(|error| name_send_error(&error, trace))?;
    if let Some(ready) = trace.ready.get() {
        trace.note(|phases| phases.ttfb_us = micros_since(ready));
    }
    Ok(response)
}

/// The URL as awc gets it: always `http`, since TLS is done underneath, with the port spelled out.
fn address(url: &Url) -> Result<Uri, Failure> {
    let port = url.port_or_known_default().unwrap_or(80);
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    Uri::builder()
        .scheme("http")
        .authority(format!("{}:{port}", url.host_str().unwrap_or_default()))
        .path_and_query(path)
        .build()
        .map_err(|error| {
            Failure::new(
                ErrorKind::SendError,
                format!("the URL can't be sent: {error}"),
            )
        })
}

fn host_header(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_credential(header: &str) -> bool {
    ["authorization", "cookie", "proxy-authorization"]
        .iter()
        .any(|name| header.eq_ignore_ascii_case(name))
}

/// Where the answer leads, if it redirects and the site follows. After 303 every method, after 301 and 302 POST, becomes
/// GET without a body (RFC 9110, 15.4).
fn redirect<S>(
    site: &Site,
    hop: &Hop,
    response: &ClientResponse<S>,
) -> Result<Option<Hop>, Failure> {
    let status = response.status().as_u16();
    if !site.follow_redirects || !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(location.as_bytes());
    let url = hop
        .url
        .join(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| {
        Failure::new(
            ErrorKind::RedirectError,
            format!(
                "status {status} leads to {:?}, which can't be followed",
                text
            ),
        )
    })?;
    let to_get = status == 303 && hop.method != Method::HEAD
        || matches!(status, 301 | 302) && hop.method == Method::POST;
    let method = if to_get {
        Method::GET
    } else {
        hop.method.clone()
    };
    Ok(Some(Hop {
        url,
        method,
        with_body: hop.with_body && !to_get,
    }))
}

async fn read_body<S>(
    site: &Site,
    mut response: ClientResponse<S>,
    trace: &Trace,
    attempt: &mut Attempt,
) -> Result<(), Failure>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let start = Instant::now();
    let mut body = Vec::new();
    let mut read = 0;
    while let Some(chunk) = response.next().await {
        let chunk = chunk.map_err(|error| {
            trace.note(|phases| phases.body_us = micros_since(start));
            name_body_error(&error, read)
        })?;
        read += chunk.len();
        attempt.body_bytes = Some(read as u64);
        if read > site.max_body_bytes {
            trace.note(|phases| phases.body_us = micros_since(start));
            let limit = site.max_body_bytes;
            return Err(Failure::new(
                ErrorKind::BodyTooLarge,
                format!("the body is larger than {limit} bytes"),
            ));
        }
        if site.body_matches.is_some() {
            body.extend_from_slice(&chunk);
        }
    }
    trace.note(|phases| phases.body_us = micros_since(start));
    attempt.body_bytes = Some(read as u64);
    attempt.body_match = site
        .body_matches
        .as_ref()
        .map(|pattern| pattern.is_match(&body));
    Ok(())
}

fn name_send_error(error: &SendRequestError, trace: &Trace) -> Failure {
    if let Some(failure) = trace.failure.borrow_mut().take() {
        return failure;
    }
    match error {
        SendRequestError::Connect(awc::error::ConnectError::Disconnected) => Failure::new(
            ErrorKind::ConnectionReset,
            "the connection was closed without an answer",
        ),
        SendRequestError::Send(error) => name_io_error(error),
        SendRequestError::Response(actix_http::error::ParseError::Io(error)) => {
            name_io_error(error)
        }
        SendRequestError::Response(actix_http::error::ParseError::Incomplete) => Failure::new(
            ErrorKind::ConnectionReset,
            "the connection was closed in the middle of the answer's head",
        ),
        SendRequestError::Response(error) => {
            Failure::new(ErrorKind::ProtocolError, format!("not valid HTTP: {error}"))
        }
        SendRequestError::Connect(awc::error::ConnectError::Io(error)) => name_io_error(error),
        other => Failure::new(ErrorKind::SendError, other.to_string()),
    }
}

fn name_body_error(error: &PayloadError, read: usize) -> Failure {
    match error {
        PayloadError::Incomplete(_) => Failure::new(
            ErrorKind::ConnectionReset,
            format!("the connection was closed after {read} bytes of body"),
        ),
        PayloadError::Io(error) => name_io_error(error),
        other => Failure::new(
            ErrorKind::ProtocolError,
            format!("the body is not valid HTTP: {other}"),
        ),
    }
}

fn name_io_error(error: &io::Error) -> Failure {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Failure::new(
            ErrorKind::ConnectionReset,
            format!("the connection was cut: {error}"),
        ),
        _ => Failure::new(ErrorKind::SendError, error.to_string()),
    }
}
