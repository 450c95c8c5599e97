//! Incidents, judged again from the checks themselves wherever some have come in late.
//!
//! The incidents of a site at a location are a function of its checks in the order of their slots. A writer judges a check that is
//! newer than all before it, and notes the others in `incident_late`. Here the incidents from such a check on are worked out
//! anew, and replaced if they are others. Whatever interrupts this, what was noted stays noted until it is done.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use futures_util::TryStreamExt;
use slog::{Logger, debug, info};
use tokio_postgres::{Client, IsolationLevel, Row, Transaction, types::ToSql};

use super::{LONGEST, lock_out_writers};
use crate::{
    database::{
        SessionError,
        incidents::{self, Pair},
    },
    model::{Incident, Judge, RuleBook, Slot, Verdict, printable},
};

/// Judges again what is noted, for about [`LONGEST`]. Whether there is more.
pub(super) async fn pass(client: &mut Client, log: &Logger) -> Result<bool, SessionError> {
    let begin = Instant::now();
    client.batch_execute(TAKE).await?;
    while let Some(row) = client.query_opt(NEXT, &[]).await? {
        if begin.elapsed() > LONGEST {
            return Ok(true);
        }
        if !judge_again(client, &row, log).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Judges a site at a location again. `false` if it has to wait for a writer.
async fn judge_again(client: &mut Client, row: &Row, log: &Logger) -> Result<bool, SessionError> {
    let pair: Pair = (row.get(0), row.get(1));
    let since = Slot::from_system_time(row.get(2));
    // Looked at without holding up anybody, however many checks there are. Mostly nothing has changed; what is stored meanwhile and is
    // late has a note of its own.
    let look = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .await?;
    look.batch_execute("SET LOCAL statement_timeout = 0")
        .await?;
    let mut again = Again::begin(&look, pair, since).await?;
    again.go_on(&look).await?;
    if again.is_as_stored() {
        look.execute(DONE, &[&pair.0, &pair.1]).await?;
        look.commit().await?;
        return Ok(true);
    }
    look.rollback().await?;

    let transaction = client.transaction().await?;
    if !lock_out_writers(&transaction).await? {
        debug!(log, "judging again waits for a writer");
        transaction.rollback().await?;
        return Ok(false);
    }
    again.go_on(&transaction).await?;
    again.store(&transaction).await?;
    transaction.execute(DONE, &[&pair.0, &pair.1]).await?;
    fail::fail_point!("housekeeping::judge");
    transaction.commit().await?;
    info!(log, "incidents judged again, since checks had come late"; "site" => printable(row.get(3)),
        "location" => printable(row.get(4)),
        "since" => %again.from, "before" => again.stored.len(), "now" => again.incidents.len());
    Ok(true)
}

/// The incidents of a site at a location from an instant on: as they are stored, and as they should be.
struct Again {
    pair: Pair,
    from: Slot,
    judge: Judge,
    book: RuleBook,
    /// The first slot that was not heard yet.
    next: Slot,
    stored: Vec<Incident>,
    incidents: BTreeMap<Slot, Incident>,
}

impl Again {
    /// Begins at the check of `since`, or at the beginning of an incident which that check may be of.
    async fn begin(
        transaction: &Transaction<'_>,
        pair: Pair,
        since: Slot,
    ) -> Result<Self, SessionError> {
        let parameters: [&(dyn ToSql + Sync); 3] = [&pair.0, &pair.1, &since.to_system_time()];
        let from: SystemTime = transaction.query_one(FROM, &parameters).await?.get(0);
        let from = Slot::from_system_time(from);
        let judges = incidents::judges(transaction, &[pair], Some(from)).await?;
        let judge = judges.into_iter().next().map(|(_, seat)| seat.judge);
        Ok(Self {
            pair,
            from,
            judge: judge.unwrap_or_default(),
            book: incidents::book(transaction, pair).await?,
            next: from,
            stored: Vec::new(),
            incidents: BTreeMap::new(),
        })
    }

    /// Hears the checks that it has not heard yet, and looks at what is stored.
    async fn go_on(&mut self, transaction: &Transaction<'_>) -> Result<(), SessionError> {
        let (site, location) = self.pair;
        let parameters: [&(dyn ToSql + Sync); 3] = [&site, &location, &self.next.to_system_time()];
        let rows = transaction.query_raw(CHECKS, parameters).await?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await? {
            let slot = Slot::from_system_time(row.get(0));
            let outcome = incidents::outcome(row.get(1));
            if let Verdict::Changed(it) = self.judge.hear(slot, outcome, self.book.at(slot)) {
                self.incidents.insert(it.began, it);
            }
            self.next = Slot::from_micros(slot.as_micros() + 1);
        }
        let from = self.from.to_system_time();
        let stored = transaction
            .query(STORED, &[&site, &location, &from])
            .await?;
        self.stored = stored.iter().filter_map(incidents::incident).collect();
        Ok(())
    }

    fn is_as_stored(&self) -> bool {
        self.stored.iter().eq(self.incidents.values())
    }

    /// Replaces those that are stored.
    async fn store(&self, transaction: &Transaction<'_>) -> Result<(), SessionError> {
        let (site, location) = self.pair;
        let stay: Vec<SystemTime> = self
            .incidents
            .keys()
            .map(|began| began.to_system_time())
            .collect();
        transaction
            .execute(
                DELETE,
                &[&site, &location, &self.from.to_system_time(), &stay],
            )
            .await?;
        let incidents: Vec<_> = self.incidents.values().map(|it| (self.pair, *it)).collect();
        incidents::store(transaction, &incidents).await?;
        transaction.execute(incidents::JUDGED_AGAIN, &[]).await?;
        Ok(())
    }
}

/// Takes what writers have noted.
const TAKE: &str = "
    WITH taken AS (DELETE FROM incident_late RETURNING *)
    INSERT INTO incident_again AS noted (site_id, location_id, since)
    SELECT site_id, location_id, min(since) FROM taken, unnest(site_ids) AS site_id GROUP BY 1, 2
    ON CONFLICT (site_id, location_id) DO UPDATE SET since = least(noted.since, excluded.since)";

/// The latest first: what is still going on is what people look at.
const NEXT: &str = "
    SELECT site_id, location_id, since, site.name, location.name
      FROM incident_again JOIN site USING (site_id) JOIN location USING (location_id)
     ORDER BY since DESC, site_id, location_id LIMIT 1";

const DONE: &str = "DELETE FROM incident_again WHERE site_id = $1 AND location_id = $2";

/// Where to begin: with the last incident that began before `$3`, unless it has been over for longer than a flap_window can be. Not
/// before the oldest check that is kept.
const FROM: &str = "
    SELECT greatest(raw_since, least($3, (
               SELECT began FROM (
                   SELECT began, closed FROM incident
                    WHERE site_id = $1 AND location_id = $2 AND began < $3 AND began >= raw_since
                    ORDER BY began DESC LIMIT 1) AS last
                WHERE closed IS NULL OR closed >= $3 - interval '2 days')))
      FROM rollup_state";

const STORED: &str = "
    SELECT * FROM incident WHERE site_id = $1 AND location_id = $2 AND began >= $3 ORDER BY began";

const CHECKS: &str = "
    SELECT slot, outcome FROM check_result WHERE site_id = $1 AND location_id = $2 AND slot >= $3 ORDER BY slot";

const DELETE: &str = "
    DELETE FROM incident WHERE site_id = $1 AND location_id = $2 AND began >= $3 AND began <> ALL ($4::timestamptz[])";
