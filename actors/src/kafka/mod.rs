//! What the publisher and the consumer share: the clients' properties, and knowing whether Kafka answers.

mod durability;
mod properties;
mod token;

use std::error::Error;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};
use std::thread::Thread;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use rdkafka::{
    ClientContext, Statistics,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaConfRes,
};
use sitewatch_config::KafkaSettings;
use slog::{Logger, debug, info, warn};

pub use self::durability::{RiskGauge, Watch};
use self::properties::admin;
pub use self::properties::try_out;
pub(crate) use self::properties::{consumer, inspector, lookout, producer};
use self::token::Tokens;
use crate::model::printable;

/// Why there is no client, in words that hold no value of a setting.
pub fn client_problem(problem: &KafkaError) -> String {
    let what = match problem {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, property, _) => {
            format!("librdkafka has no property {property}")
        }
        // This text names a property and what the build lacks; others repeat the value.
        KafkaError::ClientConfig(_, why, _, _) if why.contains("not supported in this build") => {
            format!("librdkafka: {why}")
        }
        KafkaError::ClientConfig(_, _, property, _) => {
            format!("librdkafka does not take the value of {property}")
        }
        other => other.to_string(),
    };
    format!(
        "the Kafka client can't be made from these settings (see kafka.* and kafka.options): {what}"
    )
}

/// How librdkafka begins when it has asked in vain for a token.
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";

/// How long after it was told a lasting refusal is told again.
const REMINDER: Duration = Duration::from_secs(600);

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// Whether Kafka answers, told in one log line for each change and in a gauge.
pub struct Reachability {
    state: AtomicU8,
    /// What the client complained of last: the reason when it then says that all brokers are down.
    last_complaint: Mutex<String>,
    /// What was last told to be forbidden, and when.
    forbidden: Mutex<Option<(String, Instant)>>,
    /// The thread to unpark when Kafka answers again.
    waiting: Mutex<Option<Thread>>,
    gauge: IntGauge,
    log: Logger,
}

impl Reachability {
    /// Not known yet.
    pub fn new(log: Logger, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(UNKNOWN),
            last_complaint: Mutex::default(),
            forbidden: Mutex::default(),
            waiting: Mutex::default(),
            gauge,
            log,
        })
    }

    /// Shows what is known in the gauge from now on, in the place of an earlier client.
    pub fn show(&self) {
        let up = self.state.load(Ordering::Acquire) == UP;
        self.gauge.set(up.into());
    }

    /// Kafka has answered.
    pub fn seen_up(&self) {
        // A relaxed look first: this is called for each message.
        if self.state.load(Ordering::Relaxed) == UP {
            return;
        }
        self.gauge.set(1);
        match self.state.swap(UP, Ordering::AcqRel) {
            UNKNOWN => info!(self.log, "connected to Kafka"),
            DOWN => info!(self.log, "Kafka answers again"),
            _ => return,
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*waiting {
            thread.unpark();
        }
    }

    /// Wakes `thread` from its parking whenever Kafka answers (again).
    fn wake_when_up(&self, thread: Thread) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// Kafka does not answer.
    pub fn seen_down(&self, reason: &str) {
        if self.state.swap(DOWN, Ordering::AcqRel) != DOWN {
            self.gauge.set(0);
            warn!(self.log, "Kafka can't be reached, trying on"; "reason" => reason);
        }
    }

    /// Kafka answers, and forbids something: told when it begins, and as a reminder while it lasts.
    fn seen_forbidden(&self, reason: &str) {
        let mut told = self
            .forbidden
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_known =
            |(what, when): &(String, Instant)| what == reason && when.elapsed() < REMINDER;
        if !told.as_ref().is_some_and(is_known) {
            warn!(self.log, "Kafka does not allow this client to do its work, trying on (see docs/security.md for the rules it needs)";
                "reason" => reason);
            *told = Some((reason.to_owned(), Instant::now()));
        }
    }

    /// Reads an error of the client. A complaint about one broker is only remembered; all of them down, or a refusal to
    /// let this client in, is a change.
    pub fn complaint(&self, error: &KafkaError, reason: &str) {
        let mut last = self
            .last_complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let why = if last.is_empty() {
                    reason
                } else {
                    last.as_str()
                };
                self.seen_down(why);
            }
            // Told by `Tokens`, and no word on the brokers.
            Some(RDKafkaErrorCode::Authentication) if reason.contains(NO_TOKEN) => {}
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::SaslAuthenticationFailed,
            ) => {
                self.seen_down(reason);
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => self.seen_forbidden(reason),
            _ => {
                last.clear();
                last.push_str(reason);
            }
        }
    }

    /// Reads the client's regular statistics: the only sign of life while no message flows.
    pub fn read(&self, statistics: &Statistics) {
        let mut brokers = statistics
            .brokers
            .values()
            .filter(|broker| broker.nodeid >= 0 || broker.source == "configured");
        if brokers.any(|broker| broker.state == "UP") {
            self.seen_up();
        }
    }
}

/// The least that a Kafka client of this process does: logs through slog, and keeps [`Reachability`] up to date.
#[derive(Clone)]
pub struct Client {
    /// Whether Kafka answers.
    pub reachability: Arc<Reachability>,
    /// Where librdkafka's own lines go, at debug level: what matters of them is told by `reachability`.
    pub log: Logger,
    /// Where tokens come from, if they are needed.
    tokens: Option<Arc<Tokens>>,
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: &KafkaSettings, reachability: Arc<Reachability>, log: &Logger) -> Self {
        Self {
            reachability,
            log: log.clone(),
            tokens: Tokens::of(settings, log).map(Arc::new),
        }
    }
}

impl ClientContext for Client {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(self.log, "librdkafka"; "facility" => facility, "line" => printable(message));
    }

    fn stats(&self, statistics: Statistics) {
        self.reachability.read(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // It may repeat what a broker wrote.
        let reason = printable(reason);
        debug!(self.log, "Kafka client error"; "error" => %error, "reason" => &reason);
        self.reachability.complaint(&error, &reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        match &self.tokens {
            Some(tokens) => tokens.next(),
            None => Err("kafka.sasl names no token_file and no token_command".into()),
        }
    }
}
