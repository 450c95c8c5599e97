//! Looks at the topic: can Kafka lose what it has acknowledged? The spool removes a result when Kafka acknowledges it. From then
//! on the topic's settings decide whether the loss of one broker loses the result. The look has its own thread and its own
//! client, so that it neither delays nor stops delivery.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use prometheus::IntGauge;
use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier},
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use sitewatch_config::{KafkaSettings, Sasl};
use slog::{Logger, debug, info, warn};

use super::{Reachability, client_config, client_problem};

/// The time in which the brokers must answer one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The interval at which a look checks whether it was cancelled.
const SLICE: Duration = Duration::from_millis(250);

/// The pause after a successful look: the topic may be deleted, created again or changed.
const AGAIN: Duration = Duration::from_secs(600);

/// The pauses after a look that failed, such as one before the topic exists: the first and the longest; doubled each time.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Looks at the topic while it lives.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks at the topic now, every ten minutes, and whenever `reachability` sees Kafka again. Sets `at_risk` to 1 while results
    /// may be lost. Returns `None` if there is nothing to look at: a broker in memory keeps nothing anyway.
    pub fn start(
        settings: &KafkaSettings,
        client_id: &str,
        reachability: &Reachability,
        at_risk: IntGauge,
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
            told: None,
            is_refused: false,
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

/// Waits for the thread, which sees within `SLICE` that it is over: a client must not be in use when the process ends.
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

/// The facts that a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// The number of brokers in the cluster.
    brokers: usize,
    /// The least number of replicas of a partition.
    replicas: usize,
    /// The settings of the topic; `None` if this user may not read them.
    configs: Option<Configs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Configs {
    min_insync: u32,
    unclean_election: bool,
}

/// A setting that may lose results, and the command that changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Risk {
    what: &'static str,
    mend: String,
}

/// Lists the settings that may lose results. Pure.
fn risks(topic: &str, seen: &Seen) -> Vec<Risk> {
    let alter = |config: &str| {
        format!(
            "kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {config}"
        )
    };
    if seen.replicas < 2 {
        let mend = match seen.brokers {
            0..2 => "a cluster of three brokers, and a topic with --replication-factor 3 (for development one is enough)".to_owned(),
            _ => format!("kafka-reassign-partitions, to three replicas of each partition of {topic}"),
        };
        let what = "each partition is on one broker only: when its disk is lost, so are results (replication factor 1)";
        return vec![Risk { what, mend }];
    }
    let mut risks = Vec::new();
    let Some(configs) = seen.configs else {
        return risks;
    };
    if configs.min_insync < 2 {
        risks.push(Risk {
            what: "Kafka acknowledges what a single broker has (min.insync.replicas 1)",
            mend: alter("min.insync.replicas=2"),
        });
    }
    if configs.unclean_election {
        risks.push(Risk {
            what: "a broker that lacks results may become the leader, and they are dropped (unclean.leader.election.enable)",
            mend: alter("unclean.leader.election.enable=false"),
        });
    }
    risks
}

struct Looker {
    settings: KafkaSettings,
    client_id: String,
    at_risk: IntGauge,
    /// The risks that were logged last.
    told: Option<Vec<Risk>>,
    /// Set once the log has said that this user may not read the topic's settings.
    is_refused: bool,
    is_over: Arc<AtomicBool>,
    log: Logger,
}

impl Looker {
    fn run(&mut self) {
        let mut pause = PAUSES.0;
        while !self.is_over() {
            let wait = match self.look() {
                Ok(seen) => {
                    self.tell(&seen);
                    pause = PAUSES.0;
                    AGAIN
                }
                Err(why) => {
                    debug!(self.log, "the durability of the topic can't be seen now, looking again"; "reason" => why,
                        "topic" => &self.settings.topic);
                    pause = (pause * 2).min(PAUSES.1);
                    pause
                }
            };
            if !self.is_over() {
                // Ends earlier when Kafka is seen again, or when this is over.
                thread::park_timeout(wait);
            }
        }
    }

    /// Asks the brokers. The client lives for this look only.
    fn look(&mut self) -> Result<Seen, String> {
        let mut config = client_config(&self.settings, &self.client_id);
        config.set("statistics.interval.ms", "0");
        let admin: AdminClient<Quiet> = config
            .create_with_context(Quiet(self.log.clone()))
            .map_err(|problem| client_problem(&problem))?;
        let topic = self.settings.topic.clone();
        // Settings first: this question does not make a topic that is not there.
        let configs = self.configs(&admin, &topic)?;
        let metadata = self.metadata(&admin, &topic)?;
        let found = metadata.topics().iter().find(|it| it.name() == topic);
        let found = found.filter(|it| it.error().is_none());
        let replicas = found.and_then(|it| {
            let partitions = it.partitions().iter();
            partitions.map(|partition| partition.replicas().len()).min()
        });
        Ok(Seen {
            brokers: metadata.brokers().len(),
            replicas: replicas.ok_or("there is no such topic")?,
            configs,
        })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn metadata(&self, admin: &AdminClient<Quiet>, topic: &str) -> Result<Metadata, String> {
        let begun = Instant::now();
        loop {
            match admin.inner().fetch_metadata(Some(topic), SLICE) {
                Ok(metadata) => return Ok(metadata),
                Err(problem) if self.is_over() || begun.elapsed() > TIMEOUT => {
                    return Err(problem.to_string());
                }
                Err(_) => {}
            }
        }
    }

    fn configs(
        &mut self,
        admin: &AdminClient<Quiet>,
        topic: &str,
    ) -> Result<Option<Configs>, String> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| error.to_string())?;
        let answer = runtime.block_on(async {
            let mut answer = pin!(admin.describe_configs(&asked, &options));
            loop {
                match tokio::time::timeout(SLICE, answer.as_mut()).await {
                    Ok(answer) => return answer.map_err(|problem| problem.to_string()),
                    Err(_) if self.is_over() => return Err("it is over".to_owned()),
                    Err(_) => {}
                }
            }
        });
        let resource = answer?.pop();
        match resource {
            Some(Ok(resource)) => {
                self.is_refused = false;
                Ok(read(&resource))
            }
            Some(Err(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => {
                if !std::mem::replace(&mut self.is_refused, true) {
                    info!(self.log, "this user may not see the settings of the topic (DescribeConfigs): of its durability only the \
                        number of replicas is known"; "topic" => topic);
                }
                Ok(None)
            }
            Some(Err(code)) => Err(code.to_string()),
            None => Err("no answer".to_owned()),
        }
    }

    /// One line when something is at risk, and one when it is mended; nothing while all is as before.
    fn tell(&mut self, seen: &Seen) {
        let risks = risks(&self.settings.topic, seen);
        self.at_risk.set(i64::from(!risks.is_empty()));
        debug!(self.log, "the topic was looked at"; "topic" => &self.settings.topic, "seen" => ?seen);
        let before = self.told.replace(risks.clone());
        if before.as_ref() == Some(&risks) {
            return;
        }
        if risks.is_empty() {
            if before.is_some() {
                info!(self.log, "Kafka keeps what it has acknowledged now, as far as the topic's settings tell";
                    "topic" => &self.settings.topic, "replicas" => seen.replicas);
            }
            return;
        }
        let what: Vec<&str> = risks.iter().map(|risk| risk.what).collect();
        let mend: Vec<&str> = risks.iter().map(|risk| risk.mend.as_str()).collect();
        warn!(self.log, "Kafka may lose results that it has acknowledged";
            "topic" => &self.settings.topic, "risk" => what.join("; "), "mend" => mend.join("; "), "brokers" => seen.brokers);
    }
}

/// `None` of a broker that does not tell these.
fn read(resource: &ConfigResource) -> Option<Configs> {
    let value = |name: &str| resource.get(name)?.value.as_deref();
    Some(Configs {
        min_insync: value("min.insync.replicas")?.parse().ok()?,
        unclean_election: value("unclean.leader.election.enable")? == "true",
    })
}

/// Logs at debug level only: the client that delivers meets the same brokers and reports whether they answer.
struct Quiet(Logger);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(self.0, "librdkafka"; "facility" => facility, "line" => message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(self.0, "Kafka client error"; "error" => %error, "reason" => reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(replicas: usize, min_insync: u32, unclean_election: bool) -> Seen {
        Seen {
            brokers: 3,
            replicas,
            configs: Some(Configs {
                min_insync,
                unclean_election,
            }),
        }
    }

    #[test]
    fn each_setting_that_costs_results_is_told_with_what_mends_it() {
        let mends = |seen: &Seen| -> Vec<String> {
            risks("t", seen).into_iter().map(|risk| risk.mend).collect()
        };
        assert!(mends(&seen(3, 2, false)).is_empty());
        let alter = "kafka-configs --alter --entity-type topics --entity-name t --add-config ";
        let (insync, unclean) = (
            format!("{alter}min.insync.replicas=2"),
            format!("{alter}unclean.leader.election.enable=false"),
        );
        assert_eq!(mends(&seen(3, 1, false)), [insync.as_str()]);
        assert_eq!(mends(&seen(2, 2, true)), [unclean.as_str()]);
        assert_eq!(mends(&seen(3, 1, true)), [insync, unclean]);
        // With one replica the others say nothing: one line, also of a cluster for development.
        assert!(mends(&seen(1, 1, true))[0].starts_with("kafka-reassign-partitions"));
        let alone = Seen {
            brokers: 1,
            ..seen(1, 1, true)
        };
        assert!(mends(&alone)[0].contains("for development one is enough"));
        assert_eq!(risks("t", &alone).len(), 1);
        let unknown = Seen {
            configs: None,
            ..seen(3, 1, true)
        };
        assert!(mends(&unknown).is_empty());
    }
}
