//! When failures of a site are an incident.

use std::time::Duration;

use serde::Serialize;

use crate::fields::Fields;
use crate::written::as_written;

/// The largest threshold: so many of a site's last checks are read to judge it after a restart.
const LARGEST_THRESHOLD: u64 = 30;

const LONGEST_WINDOW: Duration = Duration::from_secs(86_400);

/// When an incident begins and ends. The thresholds are Gatus' defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct IncidentOptions {
    /// So many checks in a row that are down open an incident.
    pub failure_threshold: u8,
    /// So many checks in a row that are up or degraded close it.
    pub success_threshold: u8,
    /// A site that was well for less than this is flapping: its next incident is the last one, going on.
    #[serde(serialize_with = "as_written")]
    pub flap_window: Duration,
}

impl Default for IncidentOptions {
    fn default() -> Self {
        IncidentOptions {
            failure_threshold: 3,
            success_threshold: 2,
            flap_window: Duration::from_secs(300),
        }
    }
}

pub(crate) fn read(fields: &Fields<'_>, base: &IncidentOptions) -> IncidentOptions {
    let threshold = |name, base| {
        fields
            .item(name)
            .and_then(|item| item.whole(1..=LARGEST_THRESHOLD))
            .unwrap_or(base)
    };
    IncidentOptions {
        failure_threshold: threshold("failure_threshold", base.failure_threshold),
        success_threshold: threshold("success_threshold", base.success_threshold),
        flap_window: fields
            .item("flap_window")
            .and_then(|item| item.duration(Duration::ZERO..=LONGEST_WINDOW))
            .unwrap_or(base.flap_window),
    }
}
