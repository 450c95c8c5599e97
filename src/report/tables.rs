//! A report as tables of text: for the terminal and in Markdown.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use sitewatch_actors::{
    history::{Bucket, Figures, Report},
    model::printable,
};

use super::{budget, duration, millis, number_of_sites, percent, shown};

const HEADS: [&str; 10] = [
    "SITE",
    "UPTIME",
    "COVERAGE",
    "INCIDENTS",
    "DOWN FOR",
    "P50",
    "P95",
    "P99",
    "BUDGET LEFT",
    "",
];

/// The longest name that is shown whole.
const LONGEST_NAME: usize = 40;

fn row(name: String, figures: &Figures, target: Option<f64>) -> [String; 10] {
    let incidents = &figures.incidents;
    let open = if incidents.open { " (open)" } else { "" };
    let lasted = match incidents.count {
        0 => String::new(),
        _ => duration(incidents.lasted),
    };
    [
        name,
        percent(figures.counts.uptime(), 3),
        percent(figures.counts.coverage(), 1),
        format!("{}{open}", incidents.count),
        lasted,
        millis(figures.percentiles_ms[0]),
        millis(figures.percentiles_ms[1]),
        millis(figures.percentiles_ms[2]),
        budget(figures, target),
        sparkline(&figures.buckets),
    ]
}

/// A character for each stretch of time: the more failed the lower, a dot where nothing is known.
fn sparkline(buckets: &[Bucket]) -> String {
    let sign = |bucket: &Bucket| {
        let all = bucket.good + bucket.bad;
        match (all, bucket.bad) {
            (0, _) => '·',
            (_, 0) => '█',
            (all, bad) => match 100.0 * bad as f64 / all as f64 {
                failed if failed < 0.1 => '▇',
                failed if failed < 0.5 => '▆',
                failed if failed < 1.0 => '▅',
                failed if failed < 5.0 => '▄',
                failed if failed < 10.0 => '▃',
                failed if failed < 50.0 => '▂',
                _ => '▁',
            },
        }
    };
    buckets.iter().map(sign).collect()
}

/// What stands above the tables.
fn title(report: &Report, zone: &TimeZone) -> String {
    format!("{} to {}", shown(report.from, zone), shown(report.to, zone))
}

pub(super) fn terminal(report: &Report, zone: &TimeZone) -> String {
    let mut text = format!(
        "{}, each mark {}\n",
        title(report, zone),
        duration(report.bucket)
    );
    if report.sites.is_empty() {
        text.push_str("no site was due or checked in this time\n");
        return text;
    }
    let cut = |name: &str| {
        let name = printable(name);
        if name.chars().count() > LONGEST_NAME {
            name.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
        } else {
            name
        }
    };
    let mut rows = Vec::with_capacity(report.sites.len() + report.groups.len());
    let mut group = None;
    for site in &report.sites {
        if group != Some(&site.group) && !report.groups.is_empty() {
            group = Some(&site.group);
            let mut groups = report.groups.iter();
            rows.push(
                match groups.find(|it| Some(&it.group) == site.group.as_ref()) {
                    Some(it) => {
                        let name = format!("[{}], {}", cut(&it.group), number_of_sites(it.sites));
                        row(name, &it.figures, None)
                    }
                    None => {
                        let mut only_name = <[String; 10]>::default();
                        only_name[0].push_str("[no group]");
                        only_name
                    }
                },
            );
        }
        rows.push(row(cut(&site.site), &site.figures, site.sla_target));
    }
    let width = |n: usize| {
        let widths = rows.iter().map(|row| row[n].chars().count());
        // A column in which nothing stands is left out.
        widths
            .max()
            .filter(|width| *width > 0)
            .map(|width| width.max(HEADS[n].len()))
    };
    let widths: Vec<_> = (0..HEADS.len()).map(width).collect();
    let mut line = |cells: &[String]| {
        let mut line = String::new();
        for (n, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let Some(width) = *width else { continue };
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Numbers end below one another.
            line += &match n {
                0 => format!("{cell}{pad}"),
                9 => format!("  {cell}"),
                _ => format!("  {pad}{cell}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(&HEADS.map(str::to_owned));
    for row in &rows {
        line(row);
    }
    text
}

pub(super) fn markdown(report: &Report, zone: &TimeZone) -> String {
    let mut text = format!("## Uptime, {}\n\n", title(report, zone));
    text.push_str("| Site | Uptime | Coverage | Incidents | Down for | p50 | p95 | p99 | Budget left | Trend |\n");
    text.push_str("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |\n");
    for site in &report.sites {
        line(
            &mut text,
            &row(printable(&site.site), &site.figures, site.sla_target),
        );
    }
    if !report.groups.is_empty() {
        text.push_str("\n| Group | Sites | Uptime | Coverage | Incidents | Down for | p50 | p95 | p99 | Budget left | Trend |\n");
        text.push_str("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |\n");
    }
    for group in &report.groups {
        let mut cells = row(printable(&group.group), &group.figures, None).to_vec();
        cells.insert(1, group.sites.to_string());
        line(&mut text, &cells);
    }
    text
}

fn line(text: &mut String, cells: &[String]) {
    let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// Without what Markdown would take for more than text.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(
            c,
            '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\' | '#'
        ) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trend_shows_the_least_failure_and_what_is_not_known() {
        let bucket = |good, bad| Bucket {
            good,
            bad,
            mean_ms: None,
        };
        let buckets = [
            bucket(10, 0),
            bucket(9_999, 1),
            bucket(0, 0),
            bucket(1, 1),
            bucket(0, 9),
        ];
        assert_eq!(sparkline(&buckets), "█▇·▁▁");
    }

    #[test]
    fn a_name_can_not_break_a_table() {
        assert_eq!(escaped("a|b<c>`"), "a\\|b\\<c\\>\\`");
    }
}
