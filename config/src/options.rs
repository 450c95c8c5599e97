//! What may be said of a site beside its name and URL, and in `defaults` of all sites.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::Serialize;
use siphasher::sip::SipHasher13;

use crate::about::AboutOptions;
use crate::connection::ConnectionOptions;
use crate::expect::Expectations;
use crate::incident::IncidentOptions;
use crate::request::RequestOptions;
use crate::schedule::ScheduleOptions;

/// Everything that `defaults` and a site may both say. Sites that say the same share one.
///
/// Serialized, it has the names and the form of the settings file, secrets hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct SiteOptions {
    /// When it is checked, and how often before a failure counts.
    #[serde(flatten)]
    pub schedule: ScheduleOptions,
    /// What is asked.
    #[serde(flatten)]
    pub request: RequestOptions,
    /// How the site is reached.
    #[serde(flatten)]
    pub connection: ConnectionOptions,
    /// What is right.
    #[serde(flatten)]
    pub expect: Expectations,
    /// When failures are an incident.
    #[serde(flatten)]
    pub incident: IncidentOptions,
    /// What it is to people.
    #[serde(flatten)]
    pub about: AboutOptions,
    /// How much of the body of an answer that is not right travels with the result, in bytes; 0: nothing.
    pub capture_bytes: usize,
    /// The user's own words about the site, carried in each message.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What is checked, and how: all but what is only said about it. In this order it is hashed.
#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    schedule: &'a ScheduleOptions,
    #[serde(flatten)]
    request: &'a RequestOptions,
    #[serde(flatten)]
    connection: &'a ConnectionOptions,
    #[serde(flatten)]
    expect: &'a Expectations,
    capture_bytes: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
}

impl SiteOptions {
    /// A number of exactly these settings but for their secrets, since it travels, and for what is said about the site (its group,
    /// when failures are an incident): the same on every node and in every build.
    pub(crate) fn revision(&self) -> u64 {
        let checked = Checked {
            schedule: &self.schedule,
            request: &self.request,
            connection: &self.connection,
            expect: &self.expect,
            capture_bytes: self.capture_bytes,
            labels: &self.labels,
        };
        // Text keeps its form in every build, which `Hash` of the standard library does not promise.
        let text = serde_json::to_string(&checked).unwrap_or_default();
        let mut hasher = keyed();
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// A hasher whose results may be stored.
pub(crate) fn keyed() -> SipHasher13 {
    SipHasher13::new_with_keys(0x7369_7465_7761_7463, 0x682d_636f_6e66_6967)
}
