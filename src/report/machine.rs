//! A report for machines: JSON and CSV.

use serde_json::{Value, json};
use sitewatch_actors::history::{Report, SiteReport};

use super::groups;

/// `{from, to, sites: [{site, uptime, coverage, checks, incidents, p50_ms, …}], groups}`. Shares are percent, 0 to 100; what is not
/// known is null.
pub(super) fn json(report: &Report) -> String {
    let groups: Vec<_> = groups(report)
        .iter()
        .map(|group| {
            json!({
                "group": group.name, "sites": group.sites, "uptime": group.counts.uptime(), "coverage": group.counts.coverage(),
                "checks": group.counts.observed(), "incidents": group.incidents,
            })
        })
        .collect();
    let sites: Vec<_> = report.sites.iter().map(site).collect();
    let whole = json!({
        "from": report.from, "to": report.to, "bucket_s": report.bucket.as_secs_f64(), "sites": sites, "groups": groups,
    });
    format!("{whole:#}\n")
}

fn site(site: &SiteReport) -> Value {
    let counts = &site.counts;
    let buckets: Vec<_> = site
        .buckets
        .iter()
        .map(|it| json!({ "good": it.good, "bad": it.bad, "mean_ms": it.mean_ms }))
        .collect();
    json!({
        "site": site.site, "group": site.group, "tags": site.tags, "url": site.url,
        "uptime": counts.uptime(), "coverage": counts.coverage(), "checks": counts.observed(),
        "up": counts.up, "degraded": counts.degraded, "down": counts.down, "unknown": counts.unknown, "expected": counts.expected,
        "maintenance_s": site.maintenance.as_secs_f64(), "incidents": site.incidents.count,
        "incidents_s": site.incidents.lasted.as_secs_f64(), "longest_incident_s": site.incidents.longest.as_secs_f64(),
        "incident_open": site.incidents.open,
        "p50_ms": site.percentiles_ms[0], "p95_ms": site.percentiles_ms[1], "p99_ms": site.percentiles_ms[2],
        "sla_target": site.sla_target, "budget_left": site.sla_target.and_then(|target| counts.budget_left(target)),
        "buckets": buckets,
    })
}

const COLUMNS: [&str; 19] = [
    "site",
    "group",
    "url",
    "uptime",
    "coverage",
    "checks",
    "up",
    "degraded",
    "down",
    "unknown",
    "expected",
    "maintenance_s",
    "incidents",
    "incidents_s",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "sla_target",
    "budget_left",
];

/// A line a site, with the fields of the JSON.
pub(super) fn csv(report: &Report) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Writing into memory can't fail.
    let _ = writer.write_record(COLUMNS);
    for of_site in &report.sites {
        let object = site(of_site);
        let _ = writer.write_record(COLUMNS.map(|column| field(&object[column])));
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A program for tables would take it for a formula.
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{text}")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_formula() {
        assert_eq!(field(&json!("plain")), "plain");
        assert_eq!(field(&json!("=1+1")), "'=1+1");
        assert_eq!(field(&json!(1.5)), "1.5");
        assert_eq!(field(&Value::Null), "");
    }
}
