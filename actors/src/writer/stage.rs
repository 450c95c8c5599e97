//! The slower way of rows into the tables, through a temporary one: for batches with slots that have a row already.
//!
//! The result of a check replaces a placeholder, whichever of the two comes first. Nothing else is ever replaced: a second result of a slot
//! is absorbed if it says the same, as after a repeated delivery, and else counted in `check_conflict`.

use std::pin::pin;

use tokio_postgres::{Error, Transaction, binary_copy::BinaryCopyInWriter};

use super::{
    origins::Origins,
    rows::{Columns, DETAIL_TYPES, RESULT_TYPES},
    seam::Absorbed,
};
use crate::model::{ErrorKind, Row};

/// Where rows wait, in the order in which they came. They go with each transaction.
pub(super) const STAGE: &str = "
    CREATE TEMPORARY TABLE staged_check (
        n int8 GENERATED ALWAYS AS IDENTITY, slot timestamptz, site_id int4, location_id int4, total_us int4, lateness_ms int4,
        status int2, outcome int2, error int2, ttfb_bucket int2, detail text, facts jsonb, capture jsonb
    ) ON COMMIT DELETE ROWS";

/// Stores rows whose slots may have one.
pub(super) async fn absorb(
    transaction: &Transaction<'_>,
    rows: &[Row],
    origins: &Origins,
) -> Result<Absorbed, Error> {
    transaction.batch_execute("TRUNCATE staged_check").await?;
    copy(transaction, rows, origins).await?;
    let placeholders = ErrorKind::PLACEHOLDERS.map(ErrorKind::id);
    let counted = transaction
        .query_one(ABSORB, &[&placeholders.as_slice()])
        .await?;
    let count = |n| counted.get::<_, i64>(n).cast_unsigned();
    Ok(Absorbed {
        new: count(0),
        replaced: count(1),
        conflicts: count(2),
    })
}

async fn copy(transaction: &Transaction<'_>, rows: &[Row], origins: &Origins) -> Result<(), Error> {
    let sink = transaction
        .copy_in(
            "COPY staged_check (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket,
                                detail, facts, capture) FROM STDIN BINARY",
        )
        .await?;
    let types: Vec<_> = RESULT_TYPES.into_iter().chain(DETAIL_TYPES).collect();
    let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in rows {
        let columns = Columns::of(row, origins);
        let [
            slot,
            site,
            location,
            total,
            lateness,
            status,
            outcome,
            error,
            ttfb,
        ] = columns.narrow();
        copy.as_mut()
            .write(&[
                slot,
                site,
                location,
                total,
                lateness,
                status,
                outcome,
                error,
                ttfb,
                &columns.detail,
                &columns.facts,
                &columns.capture,
            ])
            .await?;
    }
    copy.finish().await.map(drop)
}

/// `$1`: the errors of placeholders. Returns how many rows are new, how many placeholders were replaced, and how many results are in
/// conflict with one that stands.
///
/// All parts of the statement see the tables as they were before it: `before` is what the slots had. `written` is what has become a row
/// now: its detail takes the place of the placeholder's.
const ABSORB: &str = "
    WITH came AS MATERIALIZED (
        SELECT s.*, is_placeholder,
               row_number() OVER (PARTITION BY site_id, location_id, slot ORDER BY is_placeholder, n) = 1 AS is_first
          FROM staged_check s CROSS JOIN LATERAL (SELECT coalesce(error = ANY ($1), false) AS is_placeholder) AS p
    ), first AS MATERIALIZED (
        SELECT * FROM came WHERE is_first
    ), before AS MATERIALIZED (
        SELECT c.*, coalesce(c.error = ANY ($1), false) AS is_placeholder
          FROM first f JOIN check_result c USING (site_id, location_id, slot)
    ), written AS (
        INSERT INTO check_result AS stored (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket)
        SELECT slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket FROM first
            ON CONFLICT (site_id, location_id, slot) DO UPDATE
           SET total_us = excluded.total_us, lateness_ms = excluded.lateness_ms, status = excluded.status,
               outcome = excluded.outcome, error = excluded.error, ttfb_bucket = excluded.ttfb_bucket
         WHERE stored.error = ANY ($1) AND (excluded.error = ANY ($1)) IS NOT TRUE
        RETURNING site_id, location_id, slot
    ), detailed AS (
        INSERT INTO check_detail (slot, site_id, location_id, detail, facts, capture)
        SELECT slot, site_id, location_id, detail, facts, capture FROM first JOIN written USING (site_id, location_id, slot)
         WHERE detail IS NOT NULL
            ON CONFLICT (site_id, location_id, slot) DO UPDATE
           SET detail = excluded.detail, facts = excluded.facts, capture = excluded.capture
    ), undetailed AS (
        DELETE FROM check_detail d USING written w JOIN first f USING (site_id, location_id, slot)
         WHERE f.detail IS NULL AND d.site_id = w.site_id AND d.location_id = w.location_id AND d.slot = w.slot
    ), standing AS (
        SELECT * FROM before WHERE NOT is_placeholder
    ), conflict AS MATERIALIZED (
        SELECT site_id, location_id, slot, c.n,
               jsonb_build_object('outcome', o1.name, 'error', e1.name, 'status', s.status, 'total_us', s.total_us,
                                  'lateness_ms', s.lateness_ms) AS stored,
               jsonb_build_object('outcome', o2.name, 'error', e2.name, 'status', c.status, 'total_us', c.total_us,
                                  'lateness_ms', c.lateness_ms) AS refused
          FROM came c
          JOIN (SELECT site_id, location_id, slot, outcome, error, status, total_us, lateness_ms FROM standing
                UNION ALL
                SELECT site_id, location_id, slot, outcome, error, status, total_us, lateness_ms FROM first f
                 WHERE NOT EXISTS (SELECT FROM standing b WHERE b.site_id = f.site_id AND b.location_id = f.location_id AND b.slot = f.slot)
               ) AS s USING (site_id, location_id, slot)
          LEFT JOIN outcome o1 ON o1.outcome_id = s.outcome LEFT JOIN error_kind e1 ON e1.error_id = s.error
          LEFT JOIN outcome o2 ON o2.outcome_id = c.outcome LEFT JOIN error_kind e2 ON e2.error_id = c.error
         WHERE NOT c.is_placeholder
           AND (c.outcome, coalesce(c.error, 0), c.status, c.total_us, c.lateness_ms)
               IS DISTINCT FROM (s.outcome, coalesce(s.error, 0), s.status, s.total_us, s.lateness_ms)
    ), noted AS (
        INSERT INTO check_conflict AS known (site_id, location_id, hour, number, slot, stored, refused)
        SELECT DISTINCT ON (site_id, location_id, hour)
               site_id, location_id, hour, count(*) OVER (PARTITION BY site_id, location_id, hour), slot, stored, refused
          FROM (SELECT *, date_bin('1 hour', slot, '2000-01-01 00:00+00') AS hour FROM conflict) AS by_hour
         ORDER BY site_id, location_id, hour, n
            ON CONFLICT (site_id, location_id, hour) DO UPDATE SET number = known.number + excluded.number
    )
    SELECT (SELECT count(*) FROM written w WHERE NOT EXISTS (
                SELECT FROM before b WHERE b.site_id = w.site_id AND b.location_id = w.location_id AND b.slot = w.slot)),
           (SELECT count(*) FROM written JOIN before USING (site_id, location_id, slot)),
           (SELECT count(*) FROM conflict)";
