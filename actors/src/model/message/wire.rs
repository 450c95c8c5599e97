//! A check as it is written in a message.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::CHECK;
use crate::model::{
    ErrorKind, Outcome, Slot,
    detail::Facts,
    whole::{whole, whole_if_any},
};

/// The fields that are stored. Others are allowed and ignored.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(deserialize_with = "whole")]
    pub(super) v: i64,
    #[serde(borrow, default = "check")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) site: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) url: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) location: Cow<'a, str>,
    pub(super) slot: Slot,
    #[serde(deserialize_with = "whole")]
    pub(super) lateness_us: i64,
    pub(super) outcome: Outcome,
    pub(super) error: Option<ErrorKind>,
    pub(super) error_detail: Option<String>,
    #[serde(default, deserialize_with = "whole_if_any")]
    pub(super) status: Option<i64>,
    #[serde(default, deserialize_with = "whole_if_any")]
    pub(super) ttfb_us: Option<i64>,
    #[serde(default, deserialize_with = "whole_if_any")]
    pub(super) total_us: Option<i64>,
    #[serde(borrow)]
    pub(super) reached: Option<&'a RawValue>,
    #[serde(deserialize_with = "whole")]
    pub(super) attempts: i64,
    #[serde(borrow)]
    pub(super) failures: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) failed_attempts: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) refused: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) final_url: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) hops: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) capture: Option<&'a RawValue>,
}

impl<'a> Wire<'a> {
    /// Returns the values that are stored beside the row.
    pub(super) fn facts(&self) -> Facts<'a> {
        Facts {
            reached: self.reached,
            attempts: self.attempts,
            failures: self.failures,
            failed_attempts: self.failed_attempts,
            refused: self.refused,
            final_url: self.final_url,
            hops: self.hops,
            capture: self.capture,
        }
    }
}

fn check() -> Cow<'static, str> {
    Cow::Borrowed(CHECK)
}
