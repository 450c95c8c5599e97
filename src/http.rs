//! `/metrics`, `/healthz` and `/readyz`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{App, HttpResponse, HttpServer, dev::Server, http::header::ContentType, web};
use sitewatch_actors::{
    health::{Obstacles, Watchdog},
    metrics::Metrics,
    model::Slot,
};
use sitewatch_config::Role;

use crate::exit::Failure;

/// The name of an actor, and the number of places in its intake that are taken.
pub(crate) type Gauge = (&'static str, Box<dyn Fn() -> usize + Send>);

/// What the pages tell of.
#[derive(Clone)]
pub(crate) struct Status {
    pub(crate) role: Role,
    pub(crate) metrics: Metrics,
    /// The loops that must come round.
    pub(crate) watchdog: Watchdog,
    /// What the actors know to keep them from their work.
    pub(crate) obstacles: Obstacles,
    /// How full the intakes of the present actors are.
    pub(crate) intakes: Arc<Mutex<Vec<Gauge>>>,
}

impl Status {
    pub(crate) fn new(role: Role, metrics: Metrics) -> Self {
        Self {
            role,
            metrics,
            watchdog: Watchdog::default(),
            obstacles: Obstacles::default(),
            intakes: Arc::default(),
        }
    }

    /// Replaces the intakes that are shown.
    pub(crate) fn show_intakes(&self, gauges: Vec<Gauge>) {
        *self.intakes.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }

    /// What keeps this node from doing its work, if anything.
    fn obstacles(&self) -> Vec<String> {
        let (produces, consumes) = (self.role != Role::Consumer, self.role != Role::Producer);
        let kafka = |role| self.metrics.kafka_up.with_label_values(&[role]).get() == 1;
        let mut obstacles = self.obstacles.all();
        if produces && !kafka("producer") {
            obstacles.push("the publisher has no answer from Kafka".to_owned());
        }
        if consumes && !kafka("consumer") {
            obstacles.push("the consumer has no answer from Kafka".to_owned());
        }
        if consumes && self.metrics.postgres_up.get() != 1 {
            obstacles.push("no connection to PostgreSQL".to_owned());
        }
        obstacles
    }
}

/// Starts serving on `address`.
///
/// # Errors
/// If the address can't be had.
pub(crate) fn serve(address: SocketAddr, status: Status) -> Result<Server, Failure> {
    let taken =
        |error| Failure::unavailable(format!("node.listen: can't serve on {address}: {error}"));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(status.clone()))
            .route("/metrics", web::get().to(metrics))
            .route("/healthz", web::get().to(healthy))
            .route("/readyz", web::get().to(ready))
    });
    Ok(server
        .workers(1)
        .disable_signals()
        .bind(address)
        .map_err(taken)?
        .run())
}

async fn metrics(status: web::Data<Status>) -> HttpResponse {
    for (actor, in_use) in status
        .intakes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        let permits = i64::try_from(in_use()).unwrap_or(i64::MAX);
        status
            .metrics
            .intake_permits
            .with_label_values(&[*actor])
            .set(permits);
    }
    match status.metrics.render() {
        Ok(text) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(text),
        Err(error) => HttpResponse::InternalServerError()
            .content_type(ContentType::plaintext())
            .body(error.to_string()),
    }
}

async fn healthy(status: web::Data<Status>) -> HttpResponse {
    let still = status.watchdog.standing_still();
    if still.is_empty() {
        return HttpResponse::Ok().body("ok\n");
    }
    let now = SystemTime::now();
    let shown = still.iter().map(|still| {
        let since = now.checked_sub(still.since).unwrap_or(UNIX_EPOCH);
        let (since, seconds) = (Slot::from_system_time(since), still.since.as_secs());
        format!("{} since {since} ({seconds} s)", still.name)
    });
    let shown: Vec<_> = shown.collect();
    HttpResponse::ServiceUnavailable().body(format!("standing still: {}\n", shown.join("; ")))
}

async fn ready(status: web::Data<Status>) -> HttpResponse {
    let obstacles = status.obstacles();
    if obstacles.is_empty() {
        return HttpResponse::Ok().body("ready\n");
    }
    HttpResponse::ServiceUnavailable().body(format!("not ready: {}\n", obstacles.join("; ")))
}
