//! The command `report`: uptime, coverage, incidents and response times of sites and groups, for people and for machines.

mod html;
mod machine;
mod tables;

use std::time::SystemTime;

use clap::{Args, ValueEnum};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use sitewatch_actors::{
    history::{self, Figures, ReportQuestion},
    model::Slot,
};
use sitewatch_config::Sources;

use crate::{
    audit::failure, exit::Failure, output::print, standalone::with_database, when::instant,
    whose::WhoseArguments,
};

/// What `report` is asked.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// From then on: 2026-01-31, 2026-01-31T12:00 (in --tz), 2026-01-31T12:00:00Z, or so long ago as -30d
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "-30d",
        allow_hyphen_values = true
    )]
    from: String,
    /// Until before then [default: now]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    to: Option<String>,
    /// Time zone of --from and --to, and of what is shown: Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: String,
    /// Which sites
    #[command(flatten)]
    whose: WhoseArguments,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For the terminal
    Table,
    /// A line a site, and then a line a group
    Csv,
    /// One object
    Json,
    /// One file that needs no other: for a browser, or to be mailed
    Html,
    /// Tables, for a wiki or an issue
    Markdown,
}

/// Asks and prints.
pub(crate) fn report(sources: &Sources, arguments: &ReportArguments) -> Result<(), Failure> {
    let zone = TimeZone::get(&arguments.tz).map_err(|_| {
        let tz = &arguments.tz;
        Failure::usage(format!(
            "--tz {tz:?}: expected a time zone such as Europe/Berlin or UTC"
        ))
    })?;
    let now = Slot::from_system_time(SystemTime::now());
    let when = |flag: &str, text: &str| {
        moment(text, &zone, now)
            .map_err(|why| Failure::usage(format!("{flag} {text:?}: expected {why}")))
    };
    let from = when("--from", &arguments.from)?;
    let to = arguments
        .to
        .as_deref()
        .map_or(Ok(now), |text| when("--to", text))?;
    if to <= from {
        return Err(Failure::usage(format!(
            "--from {from} is not before --to {to}"
        )));
    }
    let question = ReportQuestion {
        from,
        to,
        whose: arguments.whose.whose(),
    };
    let report = with_database(sources, "report", async |settings| {
        let report = history::report(&settings.postgres, &question).await;
        report.map_err(|error| failure(&error))
    })?;
    let text = match arguments.format {
        Format::Table => tables::terminal(&report, &zone),
        Format::Markdown => tables::markdown(&report, &zone),
        Format::Csv => machine::csv(&report),
        Format::Json => machine::json(&report),
        Format::Html => html::page(&report, &zone),
    };
    print(&text)
}

/// Reads an instant; a date or a time without a zone is one of `zone`, a time ago is before `now`.
fn moment(text: &str, zone: &TimeZone, now: Slot) -> Result<Slot, String> {
    let ago = text
        .strip_prefix('-')
        .and_then(|ago| humantime::parse_duration(ago).ok());
    if let Some(ago) = ago {
        let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        return Ok(Slot::from_micros(now.as_micros().saturating_sub(ago)));
    }
    if let Ok(slot) = instant(text) {
        return Ok(slot);
    }
    let civil = text.parse::<DateTime>().or_else(|_| {
        let midnight = text.parse::<jiff::civil::Date>();
        midnight.map(|date| date.to_datetime(jiff::civil::Time::midnight()))
    });
    let zoned = civil.ok().and_then(|civil| zone.to_zoned(civil).ok());
    zoned
        .map(|zoned| Slot::from_micros(zoned.timestamp().as_microsecond()))
        .ok_or_else(|| {
            "a date such as 2026-01-31, a time as 2026-01-31T12:00 or 2026-01-31T12:00:00Z, or a time ago as -30d".to_owned()
        })
}

/// An instant as people of `zone` write it.
fn shown(slot: Slot, zone: &TimeZone) -> String {
    match Timestamp::from_microsecond(slot.as_micros()) {
        Ok(timestamp) => timestamp
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%d %H:%M %Z")
            .to_string(),
        Err(_) => slot.to_string(),
    }
}

/// Percent, rounded towards failure: only what is whole is shown as 100.
fn percent(value: Option<f64>, decimals: i32) -> String {
    let Some(value) = value else {
        return "–".to_owned();
    };
    let unit = 10f64.powi(decimals);
    let floor = (value * unit + 1e-9).floor() / unit;
    format!(
        "{floor:.*} %",
        usize::try_from(decimals).unwrap_or_default()
    )
}

/// Milliseconds, or seconds where they are more.
fn millis(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 10_000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}

/// What is left of the error budget: empty where there is none. The target is that of a site.
fn budget(figures: &Figures, target: Option<f64>) -> String {
    let Some(budget) = &figures.budget else {
        return String::new();
    };
    let left = percent(budget.left(), 0);
    match target {
        Some(target) => format!("{left} of {target}"),
        None => left,
    }
}

fn number_of_sites(number: usize) -> String {
    match number {
        1 => "1 site".to_owned(),
        _ => format!("{number} sites"),
    }
}

/// A duration in its two largest units.
fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use sitewatch_actors::history::Budget;

    use super::*;

    #[test]
    fn a_failure_is_never_rounded_away() {
        assert_eq!(percent(Some(99.999_999), 3), "99.999 %");
        assert_eq!(percent(Some(100.0), 3), "100.000 %");
        assert_eq!(percent(Some(99.9), 3), "99.900 %");
        assert_eq!(percent(None, 3), "–");
        let left = |failed| {
            let budget = Budget {
                allowed: 1000.0,
                failed,
            };
            percent(budget.left(), 0)
        };
        assert_eq!(
            [0, 1, 999, 1000, 1001].map(left),
            ["100 %", "99 %", "0 %", "0 %", "-1 %"]
        );
    }

    #[test]
    fn a_day_begins_where_its_zone_says() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let micros = |text| {
            moment(text, &berlin, Slot::from_micros(0))
                .unwrap()
                .to_string()
        };
        assert_eq!(micros("2026-07-01"), "2026-06-30T22:00:00.000000Z");
        assert_eq!(micros("2026-01-31T12:00"), "2026-01-31T11:00:00.000000Z");
        assert_eq!(
            micros("2026-01-31T12:00:00Z"),
            "2026-01-31T12:00:00.000000Z"
        );
        assert!(
            moment("soon", &berlin, Slot::from_micros(0))
                .unwrap_err()
                .contains("2026-01-31")
        );
    }

    #[test]
    fn durations_are_short() {
        let shown = |seconds| duration(std::time::Duration::from_secs(seconds));
        assert_eq!(
            [59, 60, 3601, 3661, 86_400, 90_000].map(shown),
            ["59 s", "1 min", "1 h", "1 h 1 min", "1 d", "1 d 1 h"]
        );
    }
}
