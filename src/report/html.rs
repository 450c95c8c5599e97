//! A report as one HTML file: no scripts, no images, nothing from elsewhere. Charts are cells of tables, since programs for mail leave
//! SVG out; styles stand in one sheet and, what a chart is made of, at the cells themselves, for those that leave sheets out too.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use sitewatch_actors::{
    history::{Bucket, Figures, GroupReport, Report, SiteReport},
    model::printable,
};

use super::{budget, duration, millis, number_of_sites, percent, shown};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #d8dee4; --dim: #59636e; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --dim: #9198a1; --card: #151b23; } body { background: #0d1117; color: #f0f6fc; } }
body { font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; margin: 0 auto; max-width: 1080px; padding: 24px 16px; }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 16px; margin: 28px 0 8px; }
p { margin: 0 0 12px; } .dim { color: var(--dim); font-size: 13px; }
.site { border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; margin: 0 0 10px; }
.site h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; } .site .up { float: right; font-weight: 600; margin-left: 12px; }
.facts { margin: 8px 0 0; } .facts span { display: inline-block; margin: 0 16px 2px 0; font-size: 13px; }
.facts b { font-weight: 600; }
table.chart { border-collapse: separate; border-spacing: 1px 0; width: 100%; table-layout: fixed; margin-top: 8px; }
table.chart td { padding: 0; }
@media print { .site { break-inside: avoid; } }
";

/// Of the highest bar, in pixels.
const BAR: f64 = 28.0;

pub(super) fn page(report: &Report, zone: &TimeZone) -> String {
    let title = format!("{} to {}", shown(report.from, zone), shown(report.to, zone));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Uptime, {title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head><body>\n\
         <h1>Uptime</h1><p class=\"dim\">{title}; each cell {}. Uptime is of the checks that told something; coverage says how many \
         of those that were due did. Maintenance does not count, but in charts and percentiles.</p>\n",
        duration(report.bucket)
    );
    if report.sites.is_empty() {
        text.push_str("<p>No site was due or checked in this time.</p>\n");
    }
    if !report.groups.is_empty() {
        text.push_str("<h2>Groups</h2>\n");
    }
    for group in &report.groups {
        of_group(group, &mut text);
    }
    let mut group = None;
    for site in &report.sites {
        if !report.groups.is_empty() && group != Some(&site.group) {
            group = Some(&site.group);
            let name = site.group.as_deref().unwrap_or("No group");
            let _ = writeln!(text, "<h2>{}</h2>", escaped(name));
        }
        of_site(site, &mut text);
    }
    text.push_str("</body></html>\n");
    text
}

fn of_site(site: &SiteReport, text: &mut String) {
    let maintenance = match site.maintenance {
        none if none.is_zero() => String::new(),
        some => fact("maintenance", &duration(some)),
    };
    let more = maintenance + &of_budget(&site.figures, site.sla_target);
    card(&site.site, &site.url, &site.figures, &more, text);
}

fn of_group(group: &GroupReport, text: &mut String) {
    let more = of_budget(&group.figures, None);
    card(
        &group.group,
        &number_of_sites(group.sites),
        &group.figures,
        &more,
        text,
    );
}

fn of_budget(figures: &Figures, target: Option<f64>) -> String {
    match budget(figures, target) {
        none if none.is_empty() => none,
        left => fact("error budget left", &left),
    }
}

/// A name, what stands below it, figures, and more facts.
fn card(name: &str, below: &str, figures: &Figures, more: &str, text: &mut String) {
    let uptime = figures.counts.uptime();
    let _ = writeln!(
        text,
        "<div class=\"site\"><span class=\"up\" style=\"color:{}\">{}</span><h3>{}</h3><div class=\"dim\">{}</div>",
        colour(uptime),
        percent(uptime, 3),
        escaped(name),
        escaped(below)
    );
    if !figures.buckets.is_empty() {
        charts(&figures.buckets, text);
    }
    let incidents = &figures.incidents;
    let mut told = incidents.count.to_string();
    if incidents.count > 0 {
        let _ = write!(told, ", {}", duration(incidents.lasted));
        if incidents.count > 1 {
            let _ = write!(told, ", the longest {}", duration(incidents.longest));
        }
    }
    if incidents.open {
        told.push_str(", open");
    }
    text.push_str("<div class=\"facts\">");
    text.push_str(&fact("coverage", &percent(figures.counts.coverage(), 1)));
    text.push_str(&fact("incidents", &told));
    for (name, value) in ["p50", "p95", "p99"]
        .into_iter()
        .zip(figures.percentiles_ms)
    {
        text.push_str(&fact(name, &millis(value)));
    }
    let _ = writeln!(text, "{more}</div></div>");
}

fn fact(name: &str, value: &str) -> String {
    format!("<span>{name} <b>{value}</b></span>")
}

/// Two rows: how long a check took, as bars, and how many failed, as colours.
fn charts(buckets: &[Bucket], text: &mut String) {
    let slowest = buckets
        .iter()
        .filter_map(|bucket| bucket.mean_ms)
        .fold(0.0, f64::max);
    text.push_str("<table class=\"chart\" role=\"img\" aria-label=\"response time and uptime over time\"><tr style=\"height:28px\">");
    for bucket in buckets {
        let _ = match bucket.mean_ms {
            Some(ms) if slowest > 0.0 => write!(
                text,
                "<td valign=\"bottom\" title=\"{}\"><div style=\"background:#7aa7e0;font-size:0;height:{:.0}px\"></div></td>",
                millis(Some(ms)),
                (BAR * ms / slowest).max(1.0)
            ),
            _ => write!(text, "<td></td>"),
        };
    }
    text.push_str("</tr><tr style=\"height:12px\">");
    for bucket in buckets {
        let all = bucket.good + bucket.bad;
        let uptime = (all > 0).then(|| 100.0 * bucket.good as f64 / all as f64);
        let told = match uptime {
            None => "no checks".to_owned(),
            Some(_) => format!("{}, {} of {all} down", percent(uptime, 2), bucket.bad),
        };
        let colour = colour(uptime);
        let _ = write!(
            text,
            "<td title=\"{told}\" bgcolor=\"{colour}\" style=\"background:{colour};border-radius:2px\"></td>"
        );
    }
    text.push_str("</tr></table>\n");
}

/// Told apart also by those who see no red or green: the worse the darker.
fn colour(uptime: Option<f64>) -> &'static str {
    match uptime {
        None => "#b6bec8",
        Some(uptime) if uptime >= 99.95 => "#3fb868",
        Some(uptime) if uptime >= 99.0 => "#c9a227",
        Some(uptime) if uptime >= 95.0 => "#d9741f",
        Some(_) => "#c0263a",
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_text_and_nothing_else() {
        assert_eq!(
            escaped("<b a='1'>&\""),
            "&lt;b a=&#39;1&#39;&gt;&amp;&quot;"
        );
        assert_eq!(escaped("a\u{202e}b"), "a\\u{202e}b");
    }
}
