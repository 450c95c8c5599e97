//! Would the judges see it? In a transaction that is rolled back a row is taken out, another put in, one is made to say something else,
//! one result becomes a placeholder, and a dead letter is doubled; the second judge must find each.

use tokio_postgres::Client;

use super::{Findings, judge_topic, table::Table};
use crate::{Failure, rig::Rig};

const SPOIL: &str = "
    DELETE FROM check_result WHERE (site_id, location_id, slot) = (SELECT site_id, location_id, slot FROM check_result LIMIT 1);
    UPDATE check_result SET total_us = total_us + 1
     WHERE (site_id, location_id, slot) = (SELECT site_id, location_id, slot FROM check_result WHERE outcome = 0 ORDER BY slot LIMIT 1);
    UPDATE check_result SET outcome = 3, error = 22
     WHERE (site_id, location_id, slot) = (SELECT site_id, location_id, slot FROM check_result WHERE outcome = 0 ORDER BY slot DESC LIMIT 1);
    INSERT INTO check_result (slot, site_id, location_id, lateness_ms, outcome)
        SELECT slot + interval '1 microsecond', site_id, location_id, 0, 0 FROM check_result LIMIT 1;
    INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, payload)
        SELECT topic, partition, kafka_offset, reason, detail, payload FROM dead_letter LIMIT 1";

/// Tries the judges; what they overlooked is given.
pub(super) async fn try_judges(
    rig: &Rig,
    db: &mut Client,
    found: &Findings,
) -> Result<Vec<String>, Failure> {
    let seen = [
        &found.lost,
        &found.duplicate,
        &found.changed,
        &found.unexplained,
    ];
    if seen.iter().any(|finding| finding.count > 0) {
        // They have seen something already.
        return Ok(Vec::new());
    }
    let transaction = db.transaction().await?;
    let dead: bool = transaction
        .query_one("SELECT EXISTS (SELECT FROM dead_letter)", &[])
        .await?
        .get(0);
    transaction.batch_execute(SPOIL).await?;
    let mut findings = Findings::default();
    let table = Table::read(&transaction, &mut findings).await?;
    let (_, _, findings) = judge_topic(rig, table, findings).await?;
    transaction.rollback().await?;
    let overlooked = [
        ("lost, by a placeholder too", findings.lost.count < 2),
        ("changed", findings.changed.count == 0),
        ("unexplained", findings.unexplained.count == 0),
        ("duplicate", findings.duplicate.count == 0 && dead),
    ];
    let overlooked = overlooked.into_iter().filter(|(_, overlooked)| *overlooked);
    Ok(overlooked
        .map(|(what, _)| format!("the judges overlooked what was made {what} to try them"))
        .collect())
}
