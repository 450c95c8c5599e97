//! One attempt: an HTTP exchange with a site, redirects followed, within its timeout. Decides nothing about up or down.

mod answer;
mod body;
mod connect;
mod dial;
mod exhausted;
mod guard;
mod http1;
mod http2;
mod kept;
mod link;
mod own;
mod proxy;
mod redirect;
mod request;
mod resolve;
mod tls;
mod trace;

use std::{
    cell::Cell,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sitewatch_config::{Site, SiteOptions};
use tokio::time::error::Elapsed;

use self::{
    answer::Answer,
    body::BodyReader,
    http1::SendError,
    kept::{KeptConnection, Line},
    redirect::Ask,
    request::Headers,
    trace::Trace,
};
pub(super) use self::{dial::addresses_of, kept::Kept, trace::micros};
use super::{
    attempt::{Attempt, Failure},
    tls_clients::{SiteClients, TlsClients},
};
use crate::model::{ErrorKind, Hop, Reached};

/// What an attempt is made with.
pub(super) struct Means<'a> {
    pub(super) tls: &'a TlsClients,
    pub(super) of_site: &'a SiteClients,
    /// A token to log in with, for sites that need one.
    pub(super) token: Option<&'a str>,
    /// The site's host and the only address of it to connect to, where each address is checked.
    pub(super) pinned: Option<(&'a str, IpAddr)>,
    /// The connection of the check before, for sites that keep it.
    pub(super) kept: Option<&'a Kept>,
}

impl<'a> Means<'a> {
    /// No more than these clients.
    pub(super) fn of(tls: &'a TlsClients, of_site: &'a SiteClients) -> Self {
        Self {
            tls,
            of_site,
            token: None,
            pinned: None,
            kept: None,
        }
    }
}

thread_local! {
    static NUMBERS: Cell<u64> = const { Cell::new(0) };
}

fn next_number() -> u64 {
    NUMBERS.set(NUMBERS.get() + 1);
    NUMBERS.get()
}

/// Makes one attempt at `site`. Never fails: what went wrong is in the attempt, with the times of what had been reached.
pub(super) async fn probe(site: &Site, means: &Means<'_>) -> Attempt {
    let timeout = site.options.schedule.timeout;
    let mut exchange = Exchange {
        options: &site.options,
        means,
        trace: Rc::new(Trace::new()),
        reader: None,
        attempt: Attempt::default(),
    };
    let start = Instant::now();
    let first = Ask {
        url: site.url.clone(),
        method: site.options.request.method.clone(),
        with_body: site.options.request.body.is_some(),
        at_own_origin: true,
    };
    let ended = tokio::time::timeout(timeout, exchange.run(first)).await;
    exchange.close(start, ended)
}

/// One attempt under way.
struct Exchange<'a> {
    options: &'a SiteOptions,
    means: &'a Means<'a>,
    trace: Rc<Trace>,
    /// There from the moment when the head of the last answer is complete.
    reader: Option<BodyReader>,
    attempt: Attempt,
}

impl Exchange<'_> {
    fn close(self, start: Instant, ended: Result<Result<(), Failure>, Elapsed>) -> Attempt {
        let (trace, mut attempt) = (self.trace, self.attempt);
        attempt.phases = trace.close();
        attempt.phases.total_us = Some(micros(start.elapsed()));
        attempt.reached = trace.reached();
        let has_head = self.reader.is_some();
        if let Some(reader) = self.reader {
            attempt.body_bytes = Some(reader.count());
            attempt.body = reader.into_bytes();
        }
        attempt.failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => {
                let read = has_head.then(|| attempt.body_bytes.unwrap_or_default());
                Some(timed_out(
                    self.options.schedule.timeout,
                    attempt.reached,
                    read,
                    &trace,
                ))
            }
        };
        if attempt.failure.is_none() {
            attempt.reached = Reached::End;
        }
        attempt.remote_ip = trace.remote_ip.get();
        attempt.tls = trace.tls.borrow().clone();
        attempt.refused = trace.refused.take();
        attempt
    }

    async fn run(&mut self, mut ask: Ask) -> Result<(), Failure> {
        let request = &self.options.request;
        loop {
            let start = Instant::now();
            let Some(next) = self.hop(&ask).await? else {
                return Ok(());
            };
            if self.attempt.hops.len() == usize::from(request.max_redirects) {
                let (most, last) = (request.max_redirects, next.shown(request));
                return Err(Failure::new(
                    ErrorKind::RedirectError,
                    format!("more than {most} redirects, the last one to {last}"),
                ));
            }
            let mut phases = self.trace.close();
            phases.total_us = Some(micros(start.elapsed()));
            self.attempt.hops.push(Hop {
                url: ask.shown(request).into(),
                status: self.attempt.status,
                remote_ip: self.trace.remote_ip.get(),
                phases,
            });
            // A trace goes with its connection, which may be kept, or not yet have come to its end.
            self.trace = Rc::new(Trace::new());
            // What is told of the last hop is not what the one before it brought, however this one ends.
            (self.attempt.status, self.attempt.http_version) = (None, None);
            self.attempt.final_url = Some(next.url.clone());
            self.attempt.left_origin = !next.at_own_origin;
            ask = next;
        }
    }

    /// Asks once. Gives what to ask next, if the answer redirects.
    async fn hop(&mut self, ask: &Ask) -> Result<Option<Ask>, Failure> {
        let options = self.options;
        let headers = request::headers(options, ask, self.means.token);
        let body = match &options.request.body {
            Some(body) if ask.with_body => Bytes::copy_from_slice(&body.bytes),
            _ => Bytes::new(),
        };
        let answer = self.send(ask, &headers, body).await?;
        self.attempt.status = Some(answer.status());
        self.attempt.http_version = Some(answer.version(&self.trace));
        if options.request.follow_redirects
            && let Some(next) = redirect::next(
                ask,
                &options.request,
                answer.status(),
                answer.header("location"),
            )?
        {
            return Ok(Some(next));
        }
        if options.capture_bytes > 0 || !options.expect.expect_headers.is_empty() {
            self.attempt.headers = answer.headers();
        }
        let length = answer.header("content-length");
        let length = length.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
        let reader = BodyReader::new(options, answer.header("content-encoding"), length)?;
        let reader = self.reader.insert(reader);
        answer.read(reader, &self.trace).await?;
        Ok(None)
    }

    /// Sends one request, over the connection of the check before if there is one, else over a new one.
    async fn send(
        &mut self,
        ask: &Ask,
        headers: &Headers<'_>,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        // Redirects lead away from it.
        let kept = self.means.kept.filter(|_| self.attempt.hops.is_empty());
        if let Some(kept) = kept
            && let Some(connection) = kept.take(Instant::now())
        {
            let sent = self.send_again(kept, connection, ask, headers, &body);
            if let Some(answer) = sent.await? {
                return Ok(answer);
            }
            self.trace = Rc::new(Trace::new());
        }
        self.trace.to_head.set(ask.method == "HEAD");
        let (link, is_h2) = connect::connect(self.options, self.means, ask, &self.trace).await?;
        self.trace.enter(Reached::Ttfb);
        if is_h2 {
            self.trace.framed();
            let sender = http2::begin(link, self.options.expect.max_body_bytes).await?;
            let answer = http2::send(&sender, ask, headers, body).await?;
            self.trace.enter(Reached::Body);
            if let Some(kept) = kept {
                let trace = Rc::clone(&self.trace);
                kept.put(Line::Two { sender, trace });
            }
            return Ok(Answer::Two(answer));
        }
        let (client, number) = (kept.map(|_| http1::client()), next_number());
        let request = http1::Request {
            number,
            link: Some(link),
            keeper: client.as_ref(),
            method: &ask.method,
            path: request::path(&ask.url),
            headers,
            body,
        };
        match http1::send(request).await {
            Ok(answer) => {
                if let (Some(kept), Some(client)) = (kept, client) {
                    kept.put(Line::One {
                        client,
                        number,
                        trace: Rc::clone(&self.trace),
                    });
                }
                Ok(Answer::One(answer))
            }
            Err(SendError::Failed(failure)) => Err(self.with_beginning(failure)),
            Err(SendError::NotKept) => Err(Failure::new(
                ErrorKind::InternalError,
                "the connection was lost between two parts of the program",
            )),
        }
    }

    /// Says how an answer begins that is not HTTP: mostly one sees what it is.
    fn with_beginning(&self, failure: Failure) -> Failure {
        match &*self.trace.not_http.borrow() {
            Some(beginning) if failure.kind == ErrorKind::ProtocolError => Failure {
                detail: format!("{}; the answer begins with {beginning}", failure.detail),
                ..failure
            },
            _ => failure,
        }
    }

    /// Sends over a connection that was kept. `None` if the server has closed it meanwhile, which is its right.
    async fn send_again(
        &mut self,
        kept: &Kept,
        connection: KeptConnection,
        ask: &Ask,
        headers: &Headers<'_>,
        body: &Bytes,
    ) -> Result<Option<Answer>, Failure> {
        let answer = match &connection.line {
            Line::One {
                client,
                number,
                trace,
            } => {
                trace.begin_again();
                trace.to_head.set(ask.method == "HEAD");
                self.trace = Rc::clone(trace);
                let request = http1::Request {
                    number: *number,
                    link: None,
                    keeper: Some(client),
                    method: &ask.method,
                    path: request::path(&ask.url),
                    headers,
                    body: body.clone(),
                };
                match http1::send(request).await {
                    Ok(answer) => Answer::One(answer),
                    Err(SendError::Failed(failure)) => return Err(self.with_beginning(failure)),
                    Err(SendError::NotKept) => return Ok(None),
                }
            }
            Line::Two { sender, trace } => {
                self.trace.on_the_connection_of(trace);
                self.trace.begin_again();
                self.trace.framed();
                let Ok(answer) = http2::send(sender, ask, headers, body.clone()).await else {
                    return Ok(None);
                };
                self.trace.enter(Reached::Body);
                Answer::Two(answer)
            }
        };
        kept.put_back(connection);
        Ok(Some(answer))
    }
}

/// Where a redirect leads: for fuzzing only.
#[cfg(fuzzing)]
pub(super) fn follow(status: u16, location: &[u8]) -> Option<sitewatch_config::Url> {
    let ask = Ask {
        url: sitewatch_config::Url::parse("https://a.example/").ok()?,
        method: "POST".to_owned(),
        with_body: true,
        at_own_origin: true,
    };
    let options = sitewatch_config::RequestOptions::default();
    redirect::next(&ask, &options, status, Some(location))
        .ok()
        .flatten()
        .map(|next| next.url)
}

fn timed_out(timeout: Duration, reached: Reached, read: Option<u64>, trace: &Trace) -> Failure {
    let (kind, what) = match (reached, read) {
        (Reached::Dns, _) => (ErrorKind::DnsTimeout, "no answer from DNS".to_owned()),
        (Reached::Connect, _) => {
            let refused = trace.refused.borrow();
            let others = if refused.is_empty() {
                String::new()
            } else {
                format!(" ({})", refused.join("; "))
            };
            (ErrorKind::ConnectTimeout, format!("no connection{others}"))
        }
        (Reached::Tls, _) => (
            ErrorKind::TlsError,
            "the TLS handshake is not finished".to_owned(),
        ),
        (Reached::Ttfb, _) => (ErrorKind::TtfbTimeout, "no answer".to_owned()),
        (Reached::Body | Reached::End, None) => (
            ErrorKind::TtfbTimeout,
            "the head of the answer is not complete".to_owned(),
        ),
        (Reached::Body | Reached::End, Some(read)) => (
            ErrorKind::BodyTimeout,
            format!("the body is not complete after {read} bytes"),
        ),
    };
    let within = humantime::format_duration(timeout);
    Failure::new(kind, format!("{what} within {within}"))
}
