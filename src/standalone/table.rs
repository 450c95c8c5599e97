//! The latest result of each site as a table, read from the database: what is shown has gone the whole way.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use sitewatch_actors::{database::ask, model::printable};
use sitewatch_config::PostgresSettings;
use tokio_postgres::{Client, Row};

const LATEST: &str = "
    SELECT DISTINCT ON (site) site, outcome, error, status::int4, total_ms::float8, detail, slot::text,
           (SELECT count(*) FROM checks AS all_of WHERE all_of.site = checks.site)
      FROM checks ORDER BY site, slot DESC";

/// Shows the table once a second, for ever. On a terminal it stays in place.
pub(crate) async fn watch(settings: PostgresSettings) {
    let mut client: Option<Client> = None;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if client.as_ref().is_none_or(Client::is_closed) {
            // Before the consumer has connected there is no table yet; a lost connection is made anew in the next round.
            let Ok(new) = ask(&settings, &["check_result"]).await else {
                continue;
            };
            client = Some(new);
        }
        let Some(Ok(rows)) = (match &client {
            Some(client) => Some(client.query(LATEST, &[]).await),
            None => None,
        }) else {
            continue;
        };
        if !rows.is_empty() {
            let clear = if io::stdout().is_terminal() {
                "\x1b[2J\x1b[H"
            } else {
                ""
            };
            // Nobody looks if standard output is closed; the node goes on.
            let _ = writeln!(io::stdout(), "{clear}{}", table(&rows));
        }
    }
}

fn table(rows: &[Row]) -> String {
    let colours = io::stdout().is_terminal();
    let mut text = format!(
        "  {:<34} {:<9} {:>6} {:>10} {:>7}  {}\n",
        "SITE", "OUTCOME", "STATUS", "TOTAL", "CHECKS", "WHAT"
    );
    for row in rows {
        let outcome: &str = row.get(1);
        let (mark, colour) = match outcome {
            "up" => ("✓", "32"),
            "down" => ("✗", "31"),
            _ => ("?", "33"),
        };
        let site: String = printable(row.get(0)).chars().take(34).collect();
        let status = row
            .get::<_, Option<i32>>(3)
            .map_or_else(|| "-".to_owned(), |status| status.to_string());
        let total = row
            .get::<_, Option<f64>>(4)
            .map_or_else(|| "-".to_owned(), |total| format!("{total:.1} ms"));
        let what = row
            .get::<_, Option<&str>>(2)
            .map_or_else(String::new, |error| {
                let detail = row.get::<_, Option<&str>>(5).unwrap_or_default();
                let detail: String = printable(detail).chars().take(60).collect();
                format!("{error}: {detail}")
            });
        let line = format!(
            "{mark} {site:<34} {outcome:<9} {status:>6} {total:>10} {:>7}  {what}",
            row.get::<_, i64>(7)
        );
        let _ = if colours {
            writeln!(text, "\x1b[{colour}m{line}\x1b[0m")
        } else {
            writeln!(text, "{line}")
        };
    }
    text
}
