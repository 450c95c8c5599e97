//! The results that are new in the database since it was last asked.

use std::{
    collections::HashMap,
    io,
    time::{Duration, SystemTime},
};

use sitewatch_actors::{database::ask, model::Slot};
use sitewatch_config::PostgresSettings;
use tokio::time::Instant;
use tokio_postgres::{Client, Row, error::SqlState, types::ToSql};

/// Those of a site that have a later slot than what was seen of it. How far back it looks is bounded by how long a check may
/// take and its row may be on its way.
const NEWS: &str = "
    SELECT c.site, c.location, c.slot, c.outcome, c.error, c.status::int4, c.total_ms::float8, c.detail
      FROM checks c LEFT JOIN unnest($1::text[], $2::text[], $3::timestamptz[]) AS seen (site, location, slot) USING (site, location)
     WHERE c.slot > now() - least($4::float8, $5::float8 + 60 + (SELECT coalesce(max(check_limit_us), 0) / 1e6 FROM site_revision WHERE until IS NULL)::float8)
                          * interval '1 second'
       AND (seen.slot IS NULL OR c.slot > seen.slot)
     ORDER BY c.slot, c.site LIMIT $6";
/// Rows that one question asks for at most. The next question goes on after them.
const PAGE: i64 = 10_000;

/// A check, as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StoredCheck {
    pub(super) site: String,
    pub(super) location: String,
    pub(super) slot: Slot,
    pub(super) outcome: String,
    pub(super) error: Option<String>,
    pub(super) status: Option<i32>,
    pub(super) total_ms: Option<f64>,
    pub(super) detail: Option<String>,
}

/// Asks for news.
pub(super) struct Feed {
    postgres: PostgresSettings,
    client: Option<Client>,
    seen: HashMap<(String, String), Slot>,
    /// Nothing from before this is shown.
    begun: Instant,
    before: Duration,
    /// When the last question was asked that was answered in full.
    answered: Option<Instant>,
    is_behind: bool,
}

impl Feed {
    /// Results from `before` now on.
    pub(super) fn new(postgres: PostgresSettings, before: Duration) -> Self {
        Self {
            postgres,
            client: None,
            seen: HashMap::new(),
            begun: Instant::now(),
            before,
            answered: None,
            is_behind: false,
        }
    }

    /// Returns true if the last question was not answered in full: there is more already.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// What is new. Nothing while the database does not answer, or has no tables yet: the next question comes in a moment, and
    /// the node itself reports a database that is away.
    ///
    /// # Errors
    /// What the database has against the question.
    pub(super) async fn news(&mut self) -> io::Result<Vec<StoredCheck>> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = ask(&self.postgres, &[]).await.ok();
        }
        let Some(client) = &self.client else {
            self.is_behind = false;
            return Ok(Vec::new());
        };
        let (mut sites, mut locations, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for ((site, location), slot) in &self.seen {
            sites.push(site);
            locations.push(location);
            slots.push(slot.to_system_time());
        }
        let asked = Instant::now();
        let all = (self.begun.elapsed() + self.before).as_secs_f64();
        // The first question is for all of it.
        let unanswered = self
            .answered
            .filter(|_| !self.seen.is_empty())
            .map_or(all, |answered| answered.elapsed().as_secs_f64());
        let values: [&(dyn ToSql + Sync); 6] =
            [&sites, &locations, &slots, &all, &unanswered, &PAGE];
        let rows = match client.query(NEWS, &values).await {
            Ok(rows) => rows,
            Err(error) if is_passing(&error) => {
                self.is_behind = false;
                return Ok(Vec::new());
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        self.is_behind = rows.len() as i64 == PAGE;
        // Without rows the writers may still be on their way back, after PostgreSQL was away, with what came meanwhile.
        if !self.is_behind && !rows.is_empty() {
            self.answered = Some(asked);
        }
        let news: Vec<_> = rows.iter().map(stored_check).collect();
        for one in &news {
            self.seen
                .insert((one.site.clone(), one.location.clone()), one.slot);
        }
        Ok(news)
    }
}

/// Returns true if the same question may be answered later.
fn is_passing(error: &tokio_postgres::Error) -> bool {
    let Some(answer) = error.as_db_error() else {
        return true;
    };
    // No tables yet; or the server is ending or starting (class 57).
    *answer.code() == SqlState::UNDEFINED_TABLE || answer.code().code().starts_with("57")
}

fn stored_check(row: &Row) -> StoredCheck {
    StoredCheck {
        site: row.get(0),
        location: row.get(1),
        slot: Slot::from_system_time(row.get::<_, SystemTime>(2)),
        outcome: row.get(3),
        error: row.get(4),
        status: row.get(5),
        total_ms: row.get(6),
        detail: row.get(7),
    }
}
