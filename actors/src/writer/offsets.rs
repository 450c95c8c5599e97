//! The stored offsets: moved with a batch, or read to know where to go on.

use tokio_postgres::{Error, Row, Transaction};

use super::seam::{FoundBreak, StoredOffset};
use crate::model::{Batch, Watermarks};

/// A program that knows no incidents stored checks of these partitions, while one version was being replaced by the next, or for longer,
/// and late ones among them: all is judged again.
const JUDGE_AGAIN: &str = "
    INSERT INTO incident_late (since, location_id, site_ids)
    SELECT '1970-01-01 00:00+00', location_id, array_agg(site_id) FROM site_location
     WHERE partition IS NULL OR partition = ANY ($1)
     GROUP BY location_id";

/// Moves the offsets on from where the batch begins; `false` if they are not there, which fences off a consumer that does
/// not know yet that it has lost a partition.
pub(super) async fn move_offsets(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<bool, Error> {
    let (partitions, expected, next) = columns(batch);
    let last: Vec<_> = batch.ranges.iter().map(|range| range.last).collect();
    let moved = transaction
        .query(
            "UPDATE kafka_offset AS stored SET next = batch.next, judged = batch.next, updated_at = now(), last_hash = batch.last,
                    hash_next = batch.next,                    cluster_id = coalesce($6, cluster_id)
               FROM (SELECT b.*, before.judged
                       FROM unnest($2::int4[], $3::int8[], $4::int8[], $5::int8[]) AS b(partition, expected, next, last)
                       JOIN kafka_offset AS before ON before.topic = $1 AND before.partition = b.partition) AS batch
              WHERE stored.topic = $1 AND stored.partition = batch.partition AND stored.next = batch.expected
             RETURNING stored.partition, batch.judged IS DISTINCT FROM batch.expected",
            &[&&*batch.topic, &partitions, &expected, &next, &last, &batch.cluster.as_deref()],
        )
        .await?;
    let unjudged = moved.iter().filter(|row| row.get(1));
    let unjudged: Vec<i32> = unjudged.map(|row| row.get(0)).collect();
    if !unjudged.is_empty() {
        transaction.execute(JUDGE_AGAIN, &[&unjudged]).await?;
    }
    for range in &batch.ranges {
        for (from, to) in &range.absent {
            transaction
                .execute(
                    "INSERT INTO kafka_gap (topic, partition, reason, from_offset, to_offset) VALUES ($1, $2, 'absent', $3, $4)",
                    &[&&*batch.topic, &range.partition, from, to],
                )
                .await?;
        }
    }
    Ok(moved.len() == batch.ranges.len())
}

/// Whether all offsets are where the batch ends, or further.
pub(super) async fn moved_already(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<bool, Error> {
    let (partitions, _, next) = columns(batch);
    let there: i64 = transaction
        .query_one(
            "SELECT count(*) FROM kafka_offset AS stored
               JOIN unnest($2::int4[], $3::int8[]) AS batch(partition, next) USING (partition)
              WHERE stored.topic = $1 AND stored.next >= batch.next",
            &[&&*batch.topic, &partitions, &next],
        )
        .await?
        .get(0);
    Ok(there == batch.ranges.len() as i64)
}

fn columns(batch: &Batch) -> (Vec<i32>, Vec<i64>, Vec<i64>) {
    let ranges = &batch.ranges;
    (
        ranges.iter().map(|range| range.partition).collect(),
        ranges.iter().map(|range| range.from).collect(),
        ranges.iter().map(|range| range.next).collect(),
    )
}

/// The stored offset, locked. At the first meeting with a partition it is the oldest message that there is: inserted only
/// where there is none, since another consumer may have begun meanwhile and be further.
pub(super) async fn stored_or_begin(
    transaction: &Transaction<'_>,
    topic: &str,
    held: Watermarks,
) -> Result<StoredOffset, Error> {
    let stored = "SELECT next, CASE WHEN hash_next = next THEN last_hash END, cluster_id FROM kafka_offset WHERE topic = $1 AND partition = $2 FOR UPDATE";
    let offset = |row: &Row| StoredOffset {
        next: row.get(0),
        last: row.get(1),
        cluster: row.get(2),
    };
    if let Some(row) = transaction
        .query_opt(stored, &[&topic, &held.partition])
        .await?
    {
        return Ok(offset(&row));
    }
    transaction
        .execute(
            "INSERT INTO kafka_offset (topic, partition, next, judged) VALUES ($1, $2, $3, $3) ON CONFLICT DO NOTHING",
            &[&topic, &held.partition, &held.low],
        )
        .await?;
    let row = transaction
        .query_one(stored, &[&topic, &held.partition])
        .await?;
    Ok(offset(&row))
}

/// Records a break and moves behind it.
pub(super) async fn record_break(
    transaction: &Transaction<'_>,
    found: FoundBreak<'_>,
) -> Result<(), Error> {
    let FoundBreak {
        topic,
        partition,
        reason,
        from,
        to,
        cluster,
    } = found;
    transaction
        .execute(
            "INSERT INTO kafka_gap (topic, partition, reason, from_offset, to_offset) VALUES ($1, $2, $3, $4, $5)",
            &[&topic, &partition, &reason, &from, &to],
        )
        .await?;
    transaction
        .execute(
            "UPDATE kafka_offset SET next = $3, judged = CASE WHEN judged = next THEN $3 ELSE judged END, updated_at = now(),
                    last_hash = NULL, cluster_id = $4
              WHERE topic = $1 AND partition = $2",
            &[&topic, &partition, &to, &cluster],
        )
        .await
        .map(drop)
}
