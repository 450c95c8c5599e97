//! The roles of a node and what each of them cannot do without.

use std::fmt;

use crate::report::Report;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Checks sites and publishes the results to Kafka.
    Producer,
    /// Stores the results in PostgreSQL.
    Consumer,
    /// Both in one process, on embedded parts where no outside service is given.
    Standalone,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Producer => "producer",
            Role::Consumer => "consumer",
            Role::Standalone => "standalone",
        })
    }
}

/// Which of the settings that some role needs are written somewhere, rightly or wrongly:
/// a wrong value has its own problem and is not missing too.
pub(crate) struct Written {
    pub(crate) brokers: bool,
    pub(crate) postgres_url: bool,
    pub(crate) sites: bool,
}

impl Role {
    /// Reports each setting that this role needs and that is written nowhere.
    pub(crate) fn check(self, written: &Written, report: &Report) {
        let (brokers, postgres, sites) = match self {
            Role::Producer => (true, false, true),
            Role::Consumer => (true, true, false),
            Role::Standalone => (false, false, true),
        };
        let missing = |key: &str, what: &str| {
            report.add(
                None,
                key,
                "nothing",
                format!("{what} (the {self} needs it)"),
            );
        };
        if brokers && !written.brokers {
            let what = "host:port of the Kafka brokers: set kafka.brokers, or KAFKA_SERVER in the environment";
            missing("kafka.brokers", what);
        }
        if postgres && !written.postgres_url {
            let what = "a postgres:// URL: set postgres.url, or POSTGRES_URL in the environment";
            missing("postgres.url", what);
        }
        if sites && !written.sites {
            let what = "at least one: add some under `sites:` or use --site URL";
            report.add(None, "sites", "no sites", what);
        }
    }
}
