//! Looks at the topic: can Kafka lose what it has acknowledged? The spool removes a result when Kafka acknowledges it. From then
//! on the topic's settings decide whether the loss of one broker loses the result. The look has its own thread and its own
//! client, so that it neither delays nor stops delivery.

mod finding;
mod look;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use prometheus::IntGaugeVec;
use sitewatch_config::{KafkaSettings, Sasl};
use slog::{Logger, debug, info, warn};

use self::{
    finding::{Finding, Seen, Unread, judge},
    look::{LookError, look},
};
use super::Reachability;

/// The pause after a successful look: the topic may be deleted, created again or changed.
const AGAIN: Duration = Duration::from_secs(600);

/// The pauses after a look that failed, such as one before the topic exists: the first and the longest; doubled each time.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The sample of `kafka_topic_at_risk` of one role: absent while the answer is not known, so that 0 always means "safe".
#[derive(Clone)]
pub struct RiskGauge {
    gauges: IntGaugeVec,
    role: &'static str,
}

impl RiskGauge {
    /// Makes the gauge of `role`, with no sample yet.
    pub fn new(gauges: &IntGaugeVec, role: &'static str) -> Self {
        let gauge = Self {
            gauges: gauges.clone(),
            role,
        };
        gauge.show(None);
        gauge
    }

    /// Sets the sample, or removes it where the answer is not known.
    fn show(&self, is_at_risk: Option<bool>) {
        match is_at_risk {
            Some(is_at_risk) => self
                .gauges
                .with_label_values(&[self.role])
                .set(is_at_risk.into()),
            // An error says that there was no sample.
            None => drop(self.gauges.remove_label_values(&[self.role])),
        }
    }
}

/// Looks at the topic while it lives.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks at the topic now, every ten minutes, and whenever `reachability` sees Kafka again. Shows the answer in `at_risk`.
    /// Returns `None` if there is nothing to look at: a broker in memory keeps nothing anyway.
    pub fn start(
        settings: &KafkaSettings,
        client_id: &str,
        reachability: &Reachability,
        at_risk: RiskGauge,
        log: &Logger,
    ) -> Option<Self> {
        if settings.in_memory {
            return None;
        }
        if matches!(settings.sasl, Some(Sasl::Token(_))) {
            // The Kafka library's client for questions of this kind has no way to be given a token.
            debug!(
                log,
                "the durability of the topic is not looked at: kafka.sasl.mechanism is OAUTHBEARER"
            );
            return None;
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let mut looker = Looker {
            settings: settings.clone(),
            client_id: format!("{client_id}-durability"),
            at_risk,
            logged: None,
            is_over: Arc::clone(&is_over),
            log: log.clone(),
        };
        let started = thread::Builder::new()
            .name("kafka-durability".to_owned())
            .spawn(move || looker.run());
        match started {
            Ok(thread) => {
                reachability.wake_when_up(thread.thread().clone());
                Some(Self {
                    is_over,
                    thread: Some(thread),
                })
            }
            Err(error) => {
                info!(log, "the durability of the topic is not looked at: no thread"; "reason" => %error);
                None
            }
        }
    }
}

/// Waits for the thread, which sees within 250 ms that it is over: a client must not be in use when the process ends.
impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic was reported by the thread.
            let _ = thread.join();
        }
    }
}

struct Looker {
    settings: KafkaSettings,
    client_id: String,
    at_risk: RiskGauge,
    /// The finding that was logged last.
    logged: Option<Finding>,
    is_over: Arc<AtomicBool>,
    log: Logger,
}

impl Looker {
    fn run(&mut self) {
        let mut pause = PAUSES.0;
        while !self.is_over() {
            let is_over = || self.is_over();
            let wait = match look(&self.settings, &self.client_id, &is_over, &self.log) {
                Ok(seen) => {
                    self.report(&seen);
                    pause = PAUSES.0;
                    AGAIN
                }
                Err(why) => {
                    self.report_failure(&why);
                    let wait = pause;
                    pause = (pause * 2).min(PAUSES.1);
                    wait
                }
            };
            if !self.is_over() {
                // Ends earlier when Kafka is seen again, or when this is over.
                thread::park_timeout(wait);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Shows the finding, and logs it if it differs from the one before.
    fn report(&mut self, seen: &Seen) {
        let topic = &self.settings.topic;
        let finding = judge(topic, seen);
        self.at_risk.show(finding.is_at_risk());
        debug!(self.log, "the topic was looked at"; "topic" => topic, "seen" => ?seen);
        let before = self.logged.replace(finding.clone());
        if before.as_ref() == Some(&finding) {
            return;
        }
        match finding {
            // A topic that was never at risk is no news.
            Finding::Safe if before.is_none() => {}
            Finding::Safe => {
                info!(self.log, "Kafka keeps what it has acknowledged now, as far as the topic's settings tell";
                    "topic" => topic, "replicas" => seen.replicas);
            }
            Finding::AtRisk(risks) => {
                let what: Vec<&str> = risks.iter().map(|risk| risk.what).collect();
                let mend: Vec<&str> = risks.iter().map(|risk| risk.mend.as_str()).collect();
                warn!(self.log, "Kafka may lose results that it has acknowledged";
                    "topic" => topic, "risk" => what.join("; "), "mend" => mend.join("; "), "brokers" => seen.brokers);
            }
            Finding::Unknown(why) => {
                let reason = match why {
                    Unread::Refused => "this user lacks the right DescribeConfigs",
                    Unread::NotReported => "the broker does not report them",
                };
                info!(self.log, "the topic's settings can't be read: kafka_topic_at_risk has no value"; "reason" => reason,
                    "topic" => topic, "replicas" => seen.replicas);
            }
        }
    }

    /// Keeps the last answer while Kafka does not answer: an outage changes no settings. Forgets it with the topic.
    fn report_failure(&mut self, why: &LookError) {
        if matches!(why, LookError::NoTopic) {
            self.at_risk.show(None);
        }
        debug!(self.log, "the durability of the topic can't be seen now, looking again"; "reason" => %why,
            "topic" => &self.settings.topic);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use slog::{Discard, o};

    use super::{finding::Configs, *};

    fn looker() -> (Looker, IntGaugeVec) {
        let gauges =
            IntGaugeVec::new(Opts::new("kafka_topic_at_risk", "as documented"), &["role"]).unwrap();
        let looker = Looker {
            settings: KafkaSettings::default(),
            client_id: "test".to_owned(),
            at_risk: RiskGauge::new(&gauges, "producer"),
            logged: None,
            is_over: Arc::default(),
            log: Logger::root(Discard, o!()),
        };
        (looker, gauges)
    }

    /// The samples of all roles.
    fn samples(gauges: &IntGaugeVec) -> Vec<f64> {
        use prometheus::core::Collector as _;
        let families = gauges.collect();
        let samples = families.iter().flat_map(|family| family.get_metric());
        samples
            .map(|sample| sample.get_gauge().get_value())
            .collect()
    }

    fn seen(configs: Result<Configs, Unread>) -> Seen {
        Seen {
            brokers: 3,
            replicas: 3,
            configs,
        }
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        let configs = |min_insync| {
            Ok(Configs {
                min_insync,
                unclean_election: false,
            })
        };
        let (mut looker, gauges) = looker();
        assert!(samples(&gauges).is_empty(), "before the first look");
        looker.report(&seen(Err(Unread::Refused)));
        assert!(samples(&gauges).is_empty(), "DescribeConfigs is refused");
        looker.report(&seen(configs(2)));
        assert_eq!(samples(&gauges), [0.0]);
        looker.report(&seen(configs(1)));
        assert_eq!(samples(&gauges), [1.0]);
        looker.report_failure(&LookError::Cancelled);
        assert_eq!(samples(&gauges), [1.0], "an outage changes no settings");
        looker.report(&seen(Err(Unread::Refused)));
        assert!(samples(&gauges).is_empty(), "the right was taken away");
        looker.report(&seen(configs(2)));
        looker.report_failure(&LookError::NoTopic);
        assert!(samples(&gauges).is_empty(), "the topic was deleted");
    }
}
