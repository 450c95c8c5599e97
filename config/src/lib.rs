//! Typed, validated settings of sitewatch-node.
//!
//! Settings come in layers, the lowest first: built-in defaults, a settings file (YAML, TOML or JSON), the
//! environment and `.env`, and `--site` arguments. The layers are merged into one tree, in which each value
//! remembers where it was written; then one reader per section turns the tree into [`Settings`].
//! The readers never stop at a mistake: all of them are collected and come back together as [`Problems`].
//!
//! Nothing here opens a connection or looks at a clock. No secret is ever part of a message.

mod about;
mod batch;
mod body;
mod connection;
mod diff;
mod environment;
mod expect;
mod expect_headers;
mod expect_json;
mod explain;
mod fields;
mod file;
mod flag_reader;
mod flags;
mod headers;
mod import;
mod incident;
mod item;
mod kafka;
mod kafka_options;
mod kafka_owned;
mod kafka_sasl;
mod kafka_security;
mod limits;
mod login;
mod mask;
mod node;
mod options;
mod options_reader;
mod origin;
mod pattern;
mod pem;
mod postgres;
mod postgres_parameters;
mod postgres_servers;
mod postgres_url;
mod problem;
mod proxy;
mod recurrence;
mod reference;
mod rejudge;
mod report;
mod request;
mod retention;
mod role;
mod schedule;
mod secret;
mod site;
mod site_list;
mod site_reader;
mod site_url;
mod sources;
mod spool;
mod status;
mod suggest;
mod tls;
mod written;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use about::{AboutOptions, Sla};
pub use batch::BatchSettings;
pub use body::{Body, BodyForm};
pub use connection::{ConnectionOptions, GuardOptions, IpVersion};
pub use diff::{SiteChanges, diff_sites};
pub use expect::{Expectations, TlsVersion};
pub use expect_headers::{HeaderCondition, HeaderRule};
pub use expect_json::{JsonCondition, JsonRule};
pub use explain::{Explained, Explanation};
pub use flags::{FLAGS, Flag, FlagForm};
pub use import::{ImportError, ImportFormat, Imported, import};
pub use incident::IncidentOptions;
pub use ipnet::IpNet;
pub use kafka::{KafkaSettings, QueueSettings};
pub use kafka_options::KafkaOptions;
pub use kafka_sasl::{Sasl, SaslMechanism, TokenCommand, TokenSource};
pub use kafka_security::{KafkaIdentity, KafkaTls};
pub use limits::Limits;
pub use login::{Login, Oauth2};
pub use mask::{is_sensitive, is_sensitive_header, mask_url, without_query};
pub use node::{LogFormat, LogLevel, LogSettings, NodeSettings, RestartSettings};
pub use options::SiteOptions;
pub use pattern::Pattern;
pub use postgres::{Migrate, PartitionWidth, PostgresSettings};
pub use postgres_parameters::SslMode;
pub use postgres_url::{ClientCert, PostgresServer, PostgresUrl};
pub use problem::{Problem, Problems};
pub use proxy::{NoProxy, Proxy};
pub use recurrence::Recurrence;
pub use rejudge::OtherRules;
pub use request::{FileContent, HttpVersion, RequestOptions};
pub use retention::Retention;
pub use role::Role;
pub use schedule::{Cron, Resolve, ScheduleOptions};
pub use secret::Secret;
pub use site::Site;
pub use sources::Sources;
pub use spool::{SpoolSettings, WhenFull};
pub use status::{InvalidStatus, StatusSet};
pub use tls::{Identity, TlsOptions};
pub use url::Url;

use fields::Fields;
use report::Report;

/// Everything a node is told, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The node itself: where it stands, what it serves, how it logs and restarts.
    pub node: NodeSettings,
    /// Where a producer keeps results until Kafka has them.
    pub spool: SpoolSettings,
    /// The Kafka connection.
    pub kafka: KafkaSettings,
    /// The PostgreSQL connection and what is written there.
    pub postgres: PostgresSettings,
    /// The monitored sites, in the order of the files, then those of `--site`.
    pub sites: Vec<Arc<Site>>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What is written but not used by the role, and so not read either.
    pub unused: Vec<String>,
}

impl Settings {
    /// What is valid and should be looked at, as seen at `now`: certificates that have expired or soon will, and checks
    /// that are turned off.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        self.kafka.warnings(now)
    }
}

/// Reads all sources and checks everything, including what `role` cannot do without.
///
/// # Errors
/// All problems at once. Nothing of the settings is to be used then.
pub fn load(role: Role, sources: &Sources) -> Result<Settings, Problems> {
    read(Some(role), sources, None).map(|(settings, _)| settings)
}

/// Reads all sources and checks everything but the requirements of a role.
///
/// # Errors
/// All problems at once.
pub fn load_any(sources: &Sources) -> Result<Settings, Problems> {
    read(None, sources, None).map(|(settings, _)| settings)
}

/// The settings in force for the site `name`, and where each of them was written. `None` if there is no such site in a
/// file.
///
/// # Errors
/// All problems at once.
pub fn explain_site(sources: &Sources, name: &str) -> Result<Option<Explanation>, Problems> {
    read(None, sources, Some(name)).map(|(_, explanation)| explanation)
}

fn read(
    role: Option<Role>,
    sources: &Sources,
    wanted: Option<&str>,
) -> Result<(Settings, Option<Explanation>), Problems> {
    let report = Report::new(&sources.working_dir);
    let mut layers = sources::gather(sources, &report);
    report.blame_by_default(&layers.main_source);

    // A producer has no use for a database, so that it does not even look at a password for one.
    let mut unused = Vec::new();
    if role == Some(Role::Producer) && take_out(&mut layers.tree, "postgres", "url") {
        unused.push(
            "postgres.url is not needed by a producer, which neither reads it nor connects to PostgreSQL"
                .to_owned(),
        );
    }
    let root = Fields::root(&layers.tree, &report);
    root.know("sites");
    let (lists, files) = site_list::more(&root);
    layers.site_lists.extend(lists);
    layers.files.extend(files);
    let flags = flag_reader::site(&sources.flags, &report);
    let extras = site_reader::Extras {
        urls: &sources.sites,
        flags: flags.as_ref(),
    };
    let (node, kafka, postgres) = (
        node::read(&root, &layers.host_name),
        kafka::read(&root),
        postgres::read(&root),
    );
    let spool = spool::read(&root, &node.data_dir);
    let (sites, explanation) = site_reader::read(&root, &layers.site_lists, &extras, wanted);
    let settings = Settings {
        node,
        spool,
        kafka,
        postgres,
        sites,
        files: layers.files,
        unused,
    };
    if let Some(role) = role
        && !layers.incomplete
    {
        let written = role::Written {
            brokers: root.has("kafka", "brokers"),
            postgres_url: root.has("postgres", "url"),
            sites: !sources.sites.is_empty()
                || layers
                    .site_lists
                    .iter()
                    .any(site_list::SiteList::has_entries),
        };
        role.check(&written, &report);
    }
    root.finish();
    report.into_result((settings, explanation))
}

/// Empties `section.name`; whether something was there.
fn take_out(tree: &mut config::Value, section: &str, name: &str) -> bool {
    let config::ValueKind::Table(sections) = &mut tree.kind else {
        return false;
    };
    let Some(config::ValueKind::Table(section)) =
        sections.get_mut(section).map(|section| &mut section.kind)
    else {
        return false;
    };
    section.get_mut(name).is_some_and(|value| {
        std::mem::replace(&mut value.kind, config::ValueKind::Nil) != config::ValueKind::Nil
    })
}
