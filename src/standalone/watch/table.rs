//! The latest result of each site as a table that fits a terminal. Pure.

use std::collections::BTreeMap;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{feed::StoredCheck, lines::what};
use sitewatch_actors::model::printable;

/// The widest name of a site that is shown whole.
const WIDEST_NAME: usize = 34;
/// What stands beside names and errors: mark, outcome, status, total time and time of day, with the spaces between.
const FIXED: usize = 2 + 1 + 8 + 1 + 6 + 1 + 10 + 1 + 8 + 2;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The latest results, by site and location.
#[derive(Default)]
pub(super) struct Table {
    latest: BTreeMap<(String, String), StoredCheck>,
}

impl Table {
    /// Takes results, each later than those before it of its site.
    pub(super) fn take(&mut self, news: Vec<StoredCheck>) {
        for result in news {
            let key = (result.site.clone(), result.location.clone());
            self.latest.insert(key, result);
        }
    }

    /// The lines, at most as many as there are rows, none wider than the terminal. Where not all sites fit, those that are not
    /// up come first.
    pub(super) fn lines(&self, size: Size, has_colours: bool) -> Vec<String> {
        let mut results: Vec<_> = self.latest.values().collect();
        results.sort_by_key(|result| Mark::of(&result.outcome));
        // The summary and the head.
        let room = size.rows.saturating_sub(2);
        let hidden = results.len().saturating_sub(room);
        let widest = results
            .iter()
            .map(|result| printable(&result.site).width())
            .max();
        let half = size.columns.saturating_sub(FIXED) / 2;
        let name = widest.unwrap_or(0).clamp(4, half.clamp(4, WIDEST_NAME));
        let mut lines = vec![self.summary(hidden)];
        lines.push(format!(
            "  {:<name$} {:<8} {:>6} {:>10} {:<8}  ERROR",
            "SITE", "OUTCOME", "STATUS", "TOTAL", "AT (UTC)"
        ));
        lines.extend(results.iter().take(room).map(|result| row(result, name)));
        lines.truncate(size.rows);
        let marks = [None, None]
            .into_iter()
            .chain(results.iter().map(|result| Some(Mark::of(&result.outcome))));
        lines
            .iter()
            .zip(marks)
            .map(|(line, mark)| coloured(cut(line, size.columns), mark.filter(|_| has_colours)))
            .collect()
    }

    fn summary(&self, hidden: usize) -> String {
        if self.latest.is_empty() {
            return "waiting for the first results".to_owned();
        }
        let count = |wanted: Mark| {
            let marks = self.latest.values().map(|result| Mark::of(&result.outcome));
            marks.filter(|mark| *mark == wanted).count()
        };
        let counts = [
            (Mark::Up, "up"),
            (Mark::Down, "down"),
            (Mark::Degraded, "degraded"),
            (Mark::Unknown, "unknown"),
        ];
        let counts: Vec<_> = counts
            .into_iter()
            .map(|(mark, word)| (count(mark), word))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        let more = match hidden {
            0 => String::new(),
            hidden => format!("; {hidden} do not fit here"),
        };
        format!(
            "{} {}: {}{more}",
            self.latest.len(),
            if self.latest.len() == 1 {
                "site"
            } else {
                "sites"
            },
            counts.join(", ")
        )
    }
}

/// An outcome, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Down,
    Degraded,
    Unknown,
    Up,
}

impl Mark {
    fn of(outcome: &str) -> Self {
        match outcome {
            "up" => Self::Up,
            "degraded" => Self::Degraded,
            "down" => Self::Down,
            _ => Self::Unknown,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Up => '✓',
            Self::Degraded => '!',
            Self::Down => '✗',
            Self::Unknown => '?',
        }
    }

    fn colour(self) -> u8 {
        match self {
            Self::Up => 32,
            Self::Down => 31,
            Self::Degraded | Self::Unknown => 33,
        }
    }
}

fn row(result: &StoredCheck, name: usize) -> String {
    let dash = || "-".to_owned();
    let site = cut(&printable(&result.site), name);
    let slot = result.slot.to_string();
    format!(
        "{} {site}{} {:<8} {:>6} {:>10} {:<8}  {}",
        Mark::of(&result.outcome).sign(),
        " ".repeat(name.saturating_sub(site.width())),
        result.outcome,
        result.status.map_or_else(dash, |status| status.to_string()),
        result
            .total_ms
            .map_or_else(dash, |total| format!("{total:.1} ms")),
        slot.get(11..19).unwrap_or_default(),
        what(result).unwrap_or_default()
    )
}

fn coloured(line: String, mark: Option<Mark>) -> String {
    match mark {
        Some(mark) => format!("\x1b[{}m{line}\x1b[0m", mark.colour()),
        None => line,
    }
}

/// The part of a text that is no wider than this; a dot for what is missing.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut width = 0;
    let fits = |c: &char| {
        width += c.width().unwrap_or(0);
        width < columns
    };
    let mut shown: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use sitewatch_actors::model::Slot;

    use super::*;

    fn result(site: &str, outcome: &str) -> StoredCheck {
        StoredCheck {
            site: site.to_owned(),
            location: "here".to_owned(),
            slot: Slot::from_micros(1_700_000_000_000_000),
            outcome: outcome.to_owned(),
            error: (outcome != "up").then(|| "status_mismatch".to_owned()),
            status: Some(500),
            total_ms: Some(1234.5),
            detail: Some(
                "found 500, expected 200-299, and a reason that is much longer than any line"
                    .to_owned(),
            ),
        }
    }

    #[test]
    fn a_thousand_sites_fit_and_those_that_are_not_up_come_first() {
        let mut table = Table::default();
        let up = (0..1000).map(|n| result(&format!("a site whose name is long {n:04}"), "up"));
        table.take(up.collect());
        table.take(vec![
            result("a site whose name is long 0500", "down"),
            result("z 東京タワー", "degraded"),
        ]);
        for size in [(80, 24), (120, 40), (20, 5), (1, 1)] {
            let (columns, rows) = size;
            let lines = table.lines(Size { columns, rows }, false);
            assert!(lines.len() <= rows, "{size:?}");
            assert!(
                lines.iter().all(|line| line.width() <= columns),
                "{size:?}: {lines:#?}"
            );
        }
        let lines = table.lines(
            Size {
                columns: 80,
                rows: 24,
            },
            false,
        );
        assert_eq!(lines.len(), 24);
        assert_eq!(
            lines[0],
            "1001 sites: 999 up, 1 down, 1 degraded; 979 do not fit here"
        );
        assert!(
            lines[2].contains("✗") && lines[2].contains("down") && lines[2].contains("status_mis"),
            "{lines:#?}"
        );
        assert!(lines[3].starts_with("! z 東京タワー  "), "{lines:#?}");
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let mut table = Table::default();
        table.take(vec![result("a", "up")]);
        let size = Size {
            columns: 80,
            rows: 24,
        };
        assert!(table.lines(size, true)[2].starts_with("\x1b[32m✓ a"));
        assert!(!table.lines(size, false).concat().contains('\x1b'));
    }

    #[test]
    fn before_the_first_result_it_says_so() {
        let lines = Table::default().lines(
            Size {
                columns: 80,
                rows: 24,
            },
            true,
        );
        assert_eq!(lines[0], "waiting for the first results");
    }
}
