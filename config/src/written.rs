//! How values are shown: in the form in which settings have them.

use std::time::Duration;

use serde::Serializer;

/// Prints a duration as settings have it.
pub(crate) fn as_written<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// The same for one that may be absent.
pub(crate) fn as_written_if_any<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => as_written(duration, serializer),
        None => serializer.serialize_none(),
    }
}
