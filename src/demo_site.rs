//! A small site on loopback for the demo, so that it has something to show on a machine without internet too.
//!
//! At `port` it always behaves the same, by path: `/` works, `/slow` answers late, `/broken` with status 503. At the port
//! after it, it works, is slow, is broken and refuses connections by turns.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::Server, web};
use slog::{Logger, error, info};

use crate::exit::Failure;

/// How late `/slow` answers.
const DELAY: Duration = Duration::from_millis(400);
/// How long it works, is slow, and is broken in a turn; then it refuses connections.
const WORKS: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_secs(5);
const BROKEN: Duration = Duration::from_secs(5);
const REFUSES: Duration = Duration::from_secs(10);

/// How the site behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Works,
    Slow,
    Broken,
}

impl State {
    fn of_path(path: &str) -> Self {
        match path {
            "/slow" => Self::Slow,
            "/broken" => Self::Broken,
            _ => Self::Works,
        }
    }

    fn in_turn(since: Duration) -> Self {
        if since < WORKS {
            Self::Works
        } else if since < WORKS + SLOW {
            Self::Slow
        } else {
            Self::Broken
        }
    }

    async fn answer(self) -> HttpResponse {
        match self {
            Self::Works => HttpResponse::Ok().body("The demo's site works.\n"),
            Self::Slow => {
                actix_rt::time::sleep(DELAY).await;
                HttpResponse::Ok().body("The demo's site works, but slowly.\n")
            }
            Self::Broken => HttpResponse::ServiceUnavailable().body("The demo's site is broken.\n"),
        }
    }
}

/// Starts the site at `port` and the one after it, on loopback only. What is returned goes on for as long as it is polled.
///
/// # Errors
/// If a port can't be had.
pub(crate) fn serve(port: u16, log: Logger) -> Result<impl Future<Output = ()> + use<>, Failure> {
    let taken = |port: u16| {
        move |error: io::Error| {
            Failure::unavailable(format!(
                "--demo-site: can't serve on 127.0.0.1:{port} ({error}): end what listens there, or name another port here and in the settings"
            ))
        }
    };
    // The command line takes no port that is the last.
    let next = port.saturating_add(1);
    let steady = listen(port, |request| State::of_path(request.path())).map_err(taken(port))?;
    let first_turn = open_in_turn(next).map_err(taken(next))?;
    info!(log, "serving the demo's own site on loopback"; "port" => port, "by_turns" => next);
    Ok(async move {
        actix_rt::spawn(steady);
        if let Err(reason) = by_turns(next, first_turn).await {
            error!(log, "the demo's site that goes down by turns does not come back"; "port" => next, "reason" => %reason);
        }
    })
}

/// Refuses connections at the end of each turn, by not listening.
async fn by_turns(port: u16, mut server: Server) -> io::Result<()> {
    loop {
        let handle = server.handle();
        actix_rt::spawn(server);
        actix_rt::time::sleep(WORKS + SLOW + BROKEN).await;
        handle.stop(true).await;
        actix_rt::time::sleep(REFUSES).await;
        server = open_in_turn(port)?;
    }
}

fn open_in_turn(port: u16) -> io::Result<Server> {
    let opened = Instant::now();
    listen(port, move |_| State::in_turn(opened.elapsed()))
}

fn listen(
    port: u16,
    state: impl Fn(&HttpRequest) -> State + Clone + Send + 'static,
) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        let state = state.clone();
        App::new().default_service(web::to(move |request: HttpRequest| {
            state(&request).answer()
        }))
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(server.workers(1).disable_signals().bind(address)?.run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_goes_through_every_state() {
        let at = |seconds| State::in_turn(Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(9), at(10), at(14), at(15), at(19)],
            [
                State::Works,
                State::Works,
                State::Slow,
                State::Slow,
                State::Broken,
                State::Broken
            ]
        );
    }
}
