//! A check as a picture for the terminal: what took how long, and what was right. Pure.

use std::fmt::Write as _;

use sitewatch_actors::{
    model::{CheckResult, Outcome, Phases, Slot, printable},
    site::{self, Certificate, Checked},
};
use sitewatch_config::Site;

/// Columns of the bars.
const WIDTH: usize = 48;

/// One check as one line.
pub(super) fn line(site: &Site, checked: &Checked, colours: bool) -> String {
    let result = &checked.result;
    let mut line = format!("{}  {}", result.slot, outcome(result.outcome, colours));
    let tried = || result.remote_ip.map(|address| address.to_string());
    if let Some(address) = one_address(site, result).map(str::to_owned).or_else(tried) {
        let _ = write!(line, "  {address}");
    }
    if let Some(status) = result.status {
        let _ = write!(line, "  {status}");
    }
    for (name, micros) in phases(&result.phases) {
        let _ = write!(line, "  {name} {}", milliseconds(micros));
    }
    if let Some(error) = result.error {
        let _ = write!(
            line,
            "  {}: {}",
            error.as_str(),
            result.error_detail.as_deref().unwrap_or_default()
        );
    }
    line + "\n"
}

/// One check with all that it brought.
pub(super) fn picture(site: &Site, checked: &Checked, now: Slot, colours: bool) -> String {
    let result = &checked.result;
    let mut text = result.url.to_string();
    if let Some(address) = one_address(site, result) {
        let _ = write!(text, " at {address}");
    }
    let _ = write!(text, " is {}", outcome(result.outcome, colours));
    if let (Some(_), Some(place)) = (result.error, &result.final_url) {
        let _ = write!(text, " at {place}");
    }
    if let Some(error) = result.error {
        let detail = result.error_detail.as_deref().unwrap_or_default();
        let _ = write!(text, ": {}: {detail}", error.as_str());
    }
    text.push('\n');
    for (n, failed) in result.failed_attempts.iter().enumerate() {
        let fault = &failed.fault;
        let took = failed.phases.total_us.map_or(String::new(), |total| {
            format!(" after {}", milliseconds(total))
        });
        let _ = writeln!(
            text,
            "  attempt {} failed{took}: {}: {}",
            n + 1,
            fault.error.as_str(),
            fault.error_detail
        );
    }
    let told = result.error_detail.as_deref().unwrap_or_default();
    for refused in result.refused.iter().filter(|one| !told.contains(*one)) {
        let _ = writeln!(text, "  tried before: {refused}");
    }
    answer(&mut text, result);
    bars(&mut text, result);
    certificates(&mut text, checked, now);
    expectations(&mut text, site, checked, now, colours);
    if let Some(capture) = &result.capture {
        let more = if capture.truncated { ", cut" } else { "" };
        let _ = writeln!(text, "\n  captured{more}:");
        for (name, value) in &capture.headers {
            let _ = writeln!(text, "    {name}: {}", printable(value));
        }
        for line in capture.body.lines() {
            let _ = writeln!(text, "    | {}", printable(line));
        }
    }
    text
}

/// The address, where each address is a site of its own.
fn one_address<'r>(site: &Site, result: &'r CheckResult) -> Option<&'r str> {
    result.site.strip_prefix(&*site.name)?.strip_prefix('@')
}

fn outcome(outcome: Outcome, colours: bool) -> String {
    let colour = match outcome {
        Outcome::Up => 32,
        Outcome::Degraded | Outcome::Unknown => 33,
        Outcome::Down => 31,
    };
    paint(&outcome.as_str().to_uppercase(), colour, colours)
}

fn paint(text: &str, colour: u8, colours: bool) -> String {
    if colours {
        format!("\x1b[1;{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn answer(text: &mut String, result: &CheckResult) {
    let mut words = Vec::new();
    words.extend(result.status.map(|status| format!("status {status}")));
    words.extend(result.http_version.map(|version| format!("HTTP/{version}")));
    words.extend(result.tls_version.map(|version| format!("TLS {version}")));
    words.extend(
        result
            .body_bytes
            .map(|bytes| format!("{bytes} bytes of body")),
    );
    let way = if result.status.is_some() {
        "from"
    } else {
        "connecting to"
    };
    words.extend(result.remote_ip.map(|address| format!("{way} {address}")));
    if !words.is_empty() {
        let _ = writeln!(text, "  {}", words.join(", "));
    }
}

/// Each phase of each hop as a bar at its place in the whole time.
fn bars(text: &mut String, result: &CheckResult) {
    let total = result.phases.total_us.unwrap_or_default();
    let mut start = 0;
    let mut row = |text: &mut String, name: &str, micros: u32| {
        let at = |time: u32| (u64::from(time) * WIDTH as u64 / u64::from(total.max(1))) as usize;
        let (from, to) = (
            at(start).min(WIDTH - 1),
            at(start.saturating_add(micros)).min(WIDTH),
        );
        let bar = if micros == 0 {
            String::new()
        } else {
            "█".repeat((to - from.min(to)).max(1))
        };
        let _ = writeln!(
            text,
            "    {name:<8}{:>11}  {}{bar}",
            milliseconds(micros),
            " ".repeat(from)
        );
        start = start.saturating_add(micros);
    };
    if total == 0 {
        return;
    }
    text.push('\n');
    for hop in &result.hops {
        let status = hop
            .status
            .map_or(String::new(), |status| status.to_string());
        let _ = writeln!(text, "  {status} {}", hop.url);
        for (name, micros) in phases(&hop.phases) {
            row(text, name, micros);
        }
    }
    if !result.hops.is_empty() {
        let last = result.final_url.as_deref().unwrap_or("(not reached)");
        let status = result
            .status
            .map_or("???".to_owned(), |status| status.to_string());
        let _ = writeln!(text, "  {status} {last}");
    }
    for (name, micros) in phases(&result.phases) {
        row(text, name, micros);
    }
    let _ = writeln!(text, "    {:<8}{:>11}", "total", milliseconds(total));
}

fn phases(phases: &Phases) -> impl Iterator<Item = (&'static str, u32)> + use<> {
    [
        ("dns", phases.dns_us),
        ("connect", phases.connect_us),
        ("tls", phases.tls_us),
        ("ttfb", phases.ttfb_us),
        ("body", phases.body_us),
    ]
    .into_iter()
    .filter_map(|(name, micros)| Some((name, micros?)))
}

fn milliseconds(micros: u32) -> String {
    format!("{:.1} ms", f64::from(micros) / 1000.0)
}

fn certificates(text: &mut String, checked: &Checked, now: Slot) {
    let Some(tls) = &checked.attempt.tls else {
        return;
    };
    let _ = writeln!(text, "\n  certificates");
    for Certificate {
        subject,
        issuer,
        not_after,
        ..
    } in &tls.chain
    {
        let until = Slot::nearest_to(*not_after);
        let days = until.micros_since(now) / 86_400_000_000;
        let _ = writeln!(
            text,
            "    {subject}\n      until {} ({days} days), issued by {issuer}",
            until.date()
        );
    }
}

fn expectations(text: &mut String, site: &Site, checked: &Checked, now: Slot, colours: bool) {
    let mut rows = String::new();
    site::expectations(site, &checked.attempt, now, &mut |what, failure| {
        let _ = match failure {
            None => writeln!(rows, "    {} {what}", paint("✓", 32, colours)),
            Some(failure) => {
                let detail = printable(&failure.detail);
                writeln!(
                    rows,
                    "    {} {what}\n      {detail}",
                    paint("✗", 31, colours)
                )
            }
        };
    });
    if !rows.is_empty() {
        let _ = write!(text, "\n  expectations\n{rows}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_where_their_time_was() {
        let mut result =
            CheckResult::of("a", "http://a/", "here", Slot::from_micros(0), Outcome::Up);
        result.phases = Phases {
            dns_us: Some(0),
            connect_us: Some(25_000),
            tls_us: None,
            ttfb_us: Some(50_000),
            body_us: Some(25_000),
            total_us: Some(100_000),
        };
        let mut text = String::new();
        bars(&mut text, &result);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines[0], "    dns          0.0 ms  ");
        assert_eq!(
            lines[1],
            format!("    connect     25.0 ms  {}", "█".repeat(12))
        );
        assert_eq!(
            lines[2],
            format!(
                "    ttfb        50.0 ms  {}{}",
                " ".repeat(12),
                "█".repeat(24)
            )
        );
        assert_eq!(
            lines[3],
            format!(
                "    body        25.0 ms  {}{}",
                " ".repeat(36),
                "█".repeat(12)
            )
        );
        assert_eq!(lines[4], "    total      100.0 ms");
    }
}
