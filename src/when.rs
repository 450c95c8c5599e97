//! Instants on the command line: RFC 3339, or so long ago.

use std::time::SystemTime;

use sitewatch_actors::model::Slot;

/// Reads `2026-01-31T12:00:00Z`, or `-24h`.
///
/// # Errors
/// What is expected.
pub(crate) fn instant(text: &str) -> Result<Slot, String> {
    let expected = "an instant such as 2026-01-31T12:00:00Z, or a time ago such as -24h";
    if let Some(ago) = text.strip_prefix('-') {
        let ago = humantime::parse_duration(ago).map_err(|why| format!("{expected} ({why})"))?;
        let then = SystemTime::now().checked_sub(ago).ok_or(expected)?;
        return Ok(Slot::from_system_time(then));
    }
    serde_json::from_value(text.into()).map_err(|_| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_say_when() {
        assert_eq!(
            instant("2023-11-14T22:13:20Z").map(Slot::as_micros),
            Ok(1_700_000_000_000_000)
        );
        let told = instant("-2h").unwrap();
        let ago = Slot::from_system_time(SystemTime::now()).micros_since(told);
        assert!((7_200_000_000..7_260_000_000).contains(&ago), "{ago}");
        for wrong in ["", "-", "-1x", "yesterday", "2h"] {
            assert!(instant(wrong).unwrap_err().contains("such as"), "{wrong}");
        }
    }
}
