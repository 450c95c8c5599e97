//! Decides whether a topic's settings let Kafka lose what it has acknowledged. Pure.

/// The facts that a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The number of brokers in the cluster.
    pub(super) brokers: usize,
    /// The least number of replicas of a partition.
    pub(super) replicas: usize,
    /// The settings of the topic, if they can be read.
    pub(super) configs: Result<Configs, Unread>,
}

/// The settings of a topic that decide about its durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Configs {
    pub(super) min_insync: u32,
    pub(super) unclean_election: bool,
}

/// The reason why a topic's settings are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The user lacks the right to read them.
    Refused,
    /// The broker's answer does not contain them.
    NotReported,
}

/// A setting that may lose results, and the command that changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Risk {
    pub(super) what: &'static str,
    pub(super) mend: String,
}

/// The answer of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The loss of one broker loses nothing.
    Safe,
    /// The loss of one broker may lose results.
    AtRisk(Vec<Risk>),
    /// A setting that decides is not known.
    Unknown(Unread),
}

impl Finding {
    /// Returns true if results may be lost, false if not, `None` if that is not known.
    pub(super) fn is_at_risk(&self) -> Option<bool> {
        match self {
            Self::Safe => Some(false),
            Self::AtRisk(_) => Some(true),
            Self::Unknown(_) => None,
        }
    }
}

/// Judges what a look found. One replica is a risk whatever the settings are; else they decide.
pub(super) fn judge(topic: &str, seen: &Seen) -> Finding {
    if seen.replicas < 2 {
        return Finding::AtRisk(vec![too_few_replicas(topic, seen.brokers)]);
    }
    let configs = match seen.configs {
        Ok(configs) => configs,
        Err(why) => return Finding::Unknown(why),
    };
    let risks = risks(topic, configs);
    if risks.is_empty() {
        return Finding::Safe;
    }
    Finding::AtRisk(risks)
}

fn too_few_replicas(topic: &str, brokers: usize) -> Risk {
    let mend = match brokers {
        0..2 => "a cluster of three brokers, and a topic with --replication-factor 3 (for development one is enough)".to_owned(),
        _ => format!("kafka-reassign-partitions, to three replicas of each partition of {topic}"),
    };
    let what = "each partition is on one broker only: when its disk is lost, so are results (replication factor 1)";
    Risk { what, mend }
}

fn risks(topic: &str, configs: Configs) -> Vec<Risk> {
    let alter = |config: &str| {
        format!(
            "kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {config}"
        )
    };
    let mut risks = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(replicas: usize, min_insync: u32, unclean_election: bool) -> Seen {
        Seen {
            brokers: 3,
            replicas,
            configs: Ok(Configs {
                min_insync,
                unclean_election,
            }),
        }
    }

    fn mends(seen: &Seen) -> Vec<String> {
        match judge("t", seen) {
            Finding::AtRisk(risks) => risks.into_iter().map(|risk| risk.mend).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_setting_that_costs_results_is_found_with_what_mends_it() {
        assert_eq!(judge("t", &seen(3, 2, false)), Finding::Safe);
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
        assert_eq!(mends(&alone).len(), 1);
    }

    #[test]
    fn settings_that_cannot_be_read_are_neither_safe_nor_at_risk() {
        for why in [Unread::Refused, Unread::NotReported] {
            let unread = Seen {
                configs: Err(why),
                ..seen(3, 2, false)
            };
            assert_eq!(judge("t", &unread), Finding::Unknown(why));
            assert_eq!(judge("t", &unread).is_at_risk(), None);
            // The number of replicas is enough to know the risk.
            let alone = Seen {
                replicas: 1,
                ..unread
            };
            assert_eq!(judge("t", &alone).is_at_risk(), Some(true));
        }
    }
}
