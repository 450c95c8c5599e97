//! A report for machines: JSON and CSV.

use serde_json::{Value, json};
use sitewatch_actors::{
    history::{Budget, Figures, GroupReport, Report, SiteReport},
    model::{printable, printable_json},
};

/// `{from, to, sites: [{site, uptime, coverage, checks, incidents, p50_ms, …}], groups}`. Shares are percent, 0 to 100; what is not
/// known is null.
pub(super) fn json(report: &Report) -> String {
    let sites: Vec<_> = report.sites.iter().map(site).collect();
    let groups: Vec<_> = report.groups.iter().map(group).collect();
    let whole = json!({
        "from": report.from, "to": report.to, "bucket_s": report.bucket.as_secs_f64(), "sites": sites, "groups": groups,
    });
    printable_json(&format!("{whole:#}\n"))
}

fn site(site: &SiteReport) -> Value {
    let known = json!({
        "site": site.site, "group": site.group, "tags": site.tags, "url": site.url, "maintenance_s": site.maintenance.as_secs_f64(),
        "sla_target": site.sla_target,
    });
    merged(known, figures(&site.figures))
}

fn group(group: &GroupReport) -> Value {
    let known = json!({ "group": group.group, "sites": group.sites });
    merged(known, figures(&group.figures))
}

fn figures(figures: &Figures) -> Value {
    let (counts, incidents) = (&figures.counts, &figures.incidents);
    let buckets: Vec<_> = figures
        .buckets
        .iter()
        .map(|it| json!({ "good": it.good, "bad": it.bad, "mean_ms": it.mean_ms }))
        .collect();
    json!({
        "uptime": counts.uptime(), "coverage": counts.coverage(), "checks": counts.observed(),
        "up": counts.up, "degraded": counts.degraded, "down": counts.down, "unknown": counts.unknown, "expected": counts.expected,
        "incidents": incidents.count, "incidents_s": incidents.lasted.as_secs_f64(),
        "longest_incident_s": incidents.longest.as_secs_f64(), "incident_open": incidents.open,
        "p50_ms": figures.percentiles_ms[0], "p95_ms": figures.percentiles_ms[1], "p99_ms": figures.percentiles_ms[2],
        "budget_left": figures.budget.as_ref().and_then(Budget::left), "buckets": buckets,
    })
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

const COLUMNS: [&str; 20] = [
    "site",
    "group",
    "sites",
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

/// A line a site, and then a line a group, whose `site` is empty, with the fields of the JSON.
pub(super) fn csv(report: &Report) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Writing into memory can't fail.
    let _ = writer.write_record(COLUMNS);
    let lines = report.sites.iter().map(site);
    for object in lines.chain(report.groups.iter().map(group)) {
        let _ = writer.write_record(COLUMNS.map(|column| field(&object[column])));
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A program for tables would take it for a formula.
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{}", printable(text))
        }
        Value::String(text) => printable(text),
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
        assert_eq!(field(&json!("a\u{202e}b")), "a\\u{202e}b");
        assert_eq!(field(&json!(1.5)), "1.5");
        assert_eq!(field(&Value::Null), "");
    }
}
