//! Typed, validated settings of sitewatch-node.
//!
//! Settings come in layers, the lowest first: built-in defaults, a settings file (YAML, TOML or JSON), the
//! environment and `.env`, and `--site` arguments. The layers are merged into one tree, in which each value
//! remembers where it was written; then one reader per section turns the tree into [`Settings`].
//! The readers never stop at a mistake: all of them are collected and come back together as [`Problems`].
//!
//! Nothing here opens a connection or looks at a clock. No secret is ever part of a message.

mod batch;
mod body;
mod diff;
mod environment;
mod fields;
mod file;
mod headers;
mod import;
mod item;
mod kafka;
mod kafka_options;
mod kafka_security;
mod mask;
mod node;
mod origin;
mod pattern;
mod postgres;
mod postgres_url;
mod problem;
mod report;
mod role;
mod secret;
mod site;
mod site_reader;
mod sources;
mod status;
mod suggest;

use std::path::PathBuf;
use std::sync::Arc;

pub use batch::BatchSettings;
pub use body::Body;
pub use diff::{SiteChanges, diff_sites};
pub use import::{ImportError, ImportFormat, Imported, import};
pub use kafka::{KafkaSettings, QueueSettings};
pub use kafka_security::{KafkaIdentity, KafkaTls, Sasl, SaslMechanism};
pub use node::{LogFormat, LogLevel, LogSettings, NodeSettings, RestartSettings};
pub use pattern::Pattern;
pub use postgres::PostgresSettings;
pub use postgres_url::{PostgresUrl, SslMode};
pub use problem::{Problem, Problems};
pub use role::Role;
pub use secret::Secret;
pub use site::Site;
pub use sources::Sources;
pub use status::{InvalidStatus, StatusSet};
pub use url::Url;

use fields::Fields;
use report::Report;

/// Everything a node is told, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The node itself: where it stands, what it serves, how it logs and restarts.
    pub node: NodeSettings,
    /// The Kafka connection.
    pub kafka: KafkaSettings,
    /// The PostgreSQL connection and what is written there.
    pub postgres: PostgresSettings,
    /// The monitored sites, in the order of the files, then those of `--site`.
    pub sites: Vec<Arc<Site>>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads all sources and checks everything, including what `role` cannot do without.
///
/// # Errors
/// All problems at once. Nothing of the settings is to be used then.
pub fn load(role: Role, sources: &Sources) -> Result<Settings, Problems> {
    read(Some(role), sources)
}

/// Reads all sources and checks everything but the requirements of a role.
///
/// # Errors
/// All problems at once.
pub fn load_any(sources: &Sources) -> Result<Settings, Problems> {
    read(None, sources)
}

fn read(role: Option<Role>, sources: &Sources) -> Result<Settings, Problems> {
    let report = Report::new(&sources.working_dir);
    let layers = sources::gather(sources, &report);
    report.blame_by_default(&layers.main_source);

    let root = Fields::root(&layers.tree, &report);
    root.know("sites");
    let settings = Settings {
        node: node::read(&root, &layers.host_name),
        kafka: kafka::read(&root),
        postgres: postgres::read(&root),
        sites: site_reader::read(&root, &layers.site_lists, &sources.sites),
        files: layers.files,
    };
    if let Some(role) = role
        && !layers.incomplete
    {
        let written = role::Written {
            brokers: root.has("kafka", "brokers"),
            postgres_url: root.has("postgres", "url"),
            sites: !sources.sites.is_empty()
                || layers.site_lists.iter().any(sources::SiteList::has_entries),
        };
        role.check(&written, &report);
    }
    root.finish();
    report.into_result(settings)
}
