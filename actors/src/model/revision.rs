//! What a site owes: the message of kind `site`, version 1. From it the audit knows which rows must exist.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    About, DeadReason, MESSAGE_VERSION, Origin, Rules, Slot,
    whole::{whole, whole_if_any},
};

/// When a site is due, as it stands in the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Due {
    /// At `phase + k * interval`.
    Every {
        /// From one slot to the next, in microseconds.
        interval_us: i64,
        /// From 1970 UTC to a slot, modulo the interval, in microseconds.
        phase_us: i64,
    },
    /// At instants given by a calendar.
    Calendar {
        /// Five fields and a time zone.
        cron: String,
    },
}

/// A site announces that its slots are due. Serialized, it is the message that goes to Kafka: one flat JSON object.
///
/// (site, location, since) is its identity. It is sent again and again while it holds, and a last time with `until`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteRevision {
    /// The message's version, [`MESSAGE_VERSION`].
    pub v: u32,
    /// Always `site`.
    pub kind: &'static str,
    /// The name under which the results come.
    pub site: Arc<str>,
    /// The site's URL, without user info.
    pub url: String,
    /// Where it is checked from.
    pub location: String,
    /// The first slot that is due.
    pub since: Slot,
    /// The first slot that is no longer due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Slot>,
    /// When it is due in between.
    #[serde(flatten)]
    pub due: Due,
    /// The longest that a check may take from its slot on, if it starts in time, in microseconds.
    pub check_limit_us: i64,
    /// Which revision of the site's settings is checked.
    pub config_hash: String,
    /// When its failures are an incident.
    #[serde(flatten)]
    pub rules: Rules,
    /// What it is to people.
    #[serde(flatten)]
    pub about: About,
    /// The user's own words about the site.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When this producer process started: with the location, it names the run.
    pub run: Slot,
}

impl SiteRevision {
    /// The word in the field `kind`.
    pub const KIND: &'static str = "site";
}

/// A revision as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Who is checked from where.
    pub origin: Arc<Origin>,
    /// The first slot that is due.
    pub since: Slot,
    /// The first slot that is no longer due.
    pub until: Option<Slot>,
    /// When it is due in between.
    pub due: Due,
    /// The longest that a check may take, in microseconds.
    pub check_limit_us: i64,
    /// Which revision of the site's settings is checked.
    pub config_hash: String,
    /// When its failures are an incident. Absent in messages of earlier programs.
    pub rules: Option<Rules>,
    /// What the site is to people.
    pub about: About,
    /// A JSON object of texts.
    pub labels: Option<String>,
    /// Which run of the producer.
    pub run: Slot,
    /// The message it came from: partition and offset.
    pub source: (i32, i64),
    /// The message itself, for the case that the database refuses it.
    pub payload: Box<[u8]>,
}

/// The fields that are stored. Others are allowed and ignored.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(deserialize_with = "whole")]
    v: i64,
    #[serde(borrow)]
    pub(super) site: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) url: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) location: Cow<'a, str>,
    since: Slot,
    until: Option<Slot>,
    #[serde(default, deserialize_with = "whole_if_any")]
    interval_us: Option<i64>,
    #[serde(default, deserialize_with = "whole_if_any")]
    phase_us: Option<i64>,
    #[serde(borrow)]
    cron: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "whole")]
    check_limit_us: i64,
    #[serde(borrow)]
    config_hash: Cow<'a, str>,
    #[serde(default, deserialize_with = "whole_if_any")]
    failure_threshold: Option<i64>,
    #[serde(default, deserialize_with = "whole_if_any")]
    success_threshold: Option<i64>,
    #[serde(default, deserialize_with = "whole_if_any")]
    flap_window_us: Option<i64>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    formerly: Vec<String>,
    sla_target: Option<f64>,
    #[serde(default, deserialize_with = "whole_if_any")]
    sla_window_us: Option<i64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    run: Slot,
}

impl Wire<'_> {
    /// The revision, if what it says makes sense. The bounds of each field by itself are those of the schema, which have been asked.
    ///
    /// # Errors
    /// The reason for which it becomes a dead letter.
    pub(super) fn revision(
        self,
        origin: Arc<Origin>,
        source: (i32, i64),
        payload: &[u8],
    ) -> Result<Revision, (DeadReason, String)> {
        debug_assert_eq!(self.v, i64::from(MESSAGE_VERSION));
        let due = self.due()?;
        if self.until.is_some_and(|until| until < self.since) {
            return no_sense(format_args!("`until` lies before `since` {}", self.since));
        }
        let rules = self.rules();
        let about = About {
            group: self.group,
            tags: self.tags,
            formerly: self.formerly,
            sla_target: self.sla_target,
            sla_window_us: self.sla_window_us,
        };
        let labels = (!self.labels.is_empty())
            .then(|| serde_json::to_string(&self.labels))
            .transpose()
            .map_err(|error| (DeadReason::Malformed, error.to_string()))?;
        Ok(Revision {
            origin,
            since: self.since,
            until: self.until,
            due,
            check_limit_us: self.check_limit_us,
            config_hash: self.config_hash.into_owned(),
            rules,
            about,
            labels,
            run: self.run,
            source,
            payload: payload.into(),
        })
    }

    fn rules(&self) -> Option<Rules> {
        Some(Rules {
            failure_threshold: u8::try_from(self.failure_threshold?).ok()?,
            success_threshold: u8::try_from(self.success_threshold?).ok()?,
            flap_window_us: self.flap_window_us?,
        })
    }

    fn due(&self) -> Result<Due, (DeadReason, String)> {
        match (self.interval_us, self.phase_us, &self.cron) {
            (Some(interval_us), Some(phase_us), None) => {
                if phase_us >= interval_us {
                    return no_sense(format_args!(
                        "phase_us is {phase_us}, less than interval_us {interval_us} is expected"
                    ));
                }
                if self.since.as_micros().rem_euclid(interval_us) != phase_us {
                    return no_sense(format_args!("`since` {} is no slot", self.since));
                }
                Ok(Due::Every {
                    interval_us,
                    phase_us,
                })
            }
            (None, None, Some(cron)) => Ok(Due::Calendar {
                cron: cron.clone().into_owned(),
            }),
            _ => Err((
                DeadReason::Malformed,
                "neither interval_us with phase_us nor cron alone".to_owned(),
            )),
        }
    }
}

fn no_sense<T>(why: impl fmt::Display) -> Result<T, (DeadReason, String)> {
    Err((DeadReason::DoesNotFit, why.to_string()))
}
