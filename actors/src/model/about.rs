//! What a site is to people, as it is announced.

use serde::{Deserialize, Serialize};

/// What a site is to people. In the message its fields are left out where there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Words by which it is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The names that it had before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<String>,
    /// The uptime that is to be reached, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla_target: Option<f64>,
    /// Over how long, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla_window_us: Option<i64>,
}
