//! Messages as a producer writes them.

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// A valid message; `n` makes its slot, the same whenever a test asks for it.
pub fn message(site: &str, n: i64) -> serde_json::Value {
    static STARTED: LazyLock<u64> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs()
    });
    let second = i64::try_from(*STARTED).unwrap() - 40_000 + n;
    let (day, rest) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    // Civil from days (Howard Hinnant's algorithm).
    let z = day + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let y = yoe + era * 400 + i64::from(m <= 2);
    let slot = format!(
        "{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}.000000Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    serde_json::json!({
        "v": 1, "site": site, "url": "http://a/", "location": "test", "slot": slot, "lateness_us": 10, "outcome": "up",
        "status": 200, "total_us": 1234, "attempts": 1, "config_hash": "0000000000000000"
    })
}
