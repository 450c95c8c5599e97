//! Durations as other monitors write them, and as they are written here.

use std::time::Duration;

/// Reads `30s`, `1h30m`, `1.5h` or `2d`: the durations of Go and of Prometheus.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 7.0 * 86_400.0,
            "y" => 365.0 * 86_400.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

/// Writes a duration in one unit, rounded up to a millisecond.
pub(super) fn written(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    let seconds = millis / 1000;
    match seconds {
        _ if !millis.is_multiple_of(1000) || seconds == 0 => format!("{millis}ms"),
        _ if seconds.is_multiple_of(86_400) => match seconds / 86_400 {
            1 => "1day".to_owned(),
            days => format!("{days}days"),
        },
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) && seconds > 120 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_writes_is_read_and_written_in_one_unit() {
        for (text, expected) in [
            ("30s", "30s"),
            ("60s", "60s"),
            ("5m", "5m"),
            ("1h30m", "90m"),
            ("1.5h", "90m"),
            ("24h", "1day"),
            ("500ms", "500ms"),
            ("1m30.5s", "90500ms"),
            ("2d", "2days"),
            ("0s", "0ms"),
            ("1us", "1ms"),
        ] {
            let read = parse(text).unwrap();
            assert_eq!(written(read), expected, "{text}");
            let ours = humantime::parse_duration(expected).unwrap();
            assert!(
                ours.saturating_sub(read) < Duration::from_millis(1),
                "{text}"
            );
        }
        for text in ["", "30", "s", "1x", "${INTERVAL}", "-1s", "1e99y"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
