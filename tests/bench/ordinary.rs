//! What a producer sends for an ordinary check.

use std::time::{Duration, SystemTime};

use sitewatch_actors::model::{CheckResult, Outcome, Phases, Slot};

/// Key and message number `n` of `of`, by turns of each of the `sites`; their slots go back from `now`, one a minute.
pub(crate) fn ordinary(n: u64, of: u64, sites: u64, now: SystemTime) -> (String, Vec<u8>) {
    let site = format!("https://shop-{}.example.com/", n % sites);
    let age = Duration::from_secs((of - n) / sites * 60);
    let phase = Duration::from_micros((n % sites) * 60_000_000 / sites);
    let slot = Slot::from_system_time(now - age + phase);
    let mut result = CheckResult::of(&site, &site, "fra1", slot, Outcome::Up);
    result.lateness_us = (n % 1777).cast_signed();
    result.status = Some(200);
    result.http_version = Some("1.1");
    result.remote_ip = Some([192, 0, 2, 7].into());
    result.phases = Phases {
        dns_us: Some(812),
        connect_us: Some(11_034),
        tls_us: Some(24_871),
        ttfb_us: Some(61_220),
        body_us: Some(1_733),
        total_us: Some(90_000 + (n % 50_000) as u32),
    };
    result.body_bytes = Some(48_211);
    result.redirects = Some(0);
    result.attempts = 1;
    result.config_hash = "0123456789abcdef".to_owned();
    let payload = serde_json::to_vec(&result).unwrap_or_default();
    (site, payload)
}
