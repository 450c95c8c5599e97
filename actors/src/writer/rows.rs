//! Rows on their way into the tables: COPY, straight or through the stage.

use std::pin::pin;

use tokio_postgres::{
    Transaction,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use super::{jsonb::Jsonb, origins::Origins};
use crate::model::Row;

const RESULT_TYPES: [Type; 9] = [
    Type::TIMESTAMPTZ,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT2,
    Type::INT2,
    Type::INT2,
    Type::INT2,
];

const DETAIL_TYPES: [Type; 3] = [Type::TEXT, Type::JSONB, Type::JSONB];

/// Straight into the tables; gives the number of rows.
pub(super) async fn copy_direct(
    transaction: &Transaction<'_>,
    rows: &[Row],
    origins: &Origins,
) -> Result<u64, tokio_postgres::Error> {
    let sink = transaction
        .copy_in(
            "COPY check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket)
             FROM STDIN BINARY",
        )
        .await?;
    let mut copy = pin!(BinaryCopyInWriter::new(sink, &RESULT_TYPES));
    for row in rows {
        let columns = Columns::of(row, origins);
        copy.as_mut().write(&columns.narrow()).await?;
    }
    let stored = copy.finish().await?;
    let detailed = rows.iter().filter(|row| row.detail.is_some());
    if detailed.clone().next().is_some() {
        let sink = transaction
            .copy_in("COPY check_detail (slot, site_id, location_id, detail, facts, capture) FROM STDIN BINARY")
            .await?;
        let types: Vec<_> = RESULT_TYPES[..3]
            .iter()
            .cloned()
            .chain(DETAIL_TYPES)
            .collect();
        let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
        for row in detailed {
            let columns = Columns::of(row, origins);
            copy.as_mut()
                .write(&[
                    &columns.slot,
                    &columns.site,
                    &columns.location,
                    &columns.detail,
                    &columns.facts,
                    &columns.capture,
                ])
                .await?;
        }
        copy.finish().await?;
    }
    Ok(stored)
}

/// Through the stage, which absorbs what is there already; gives the number of new rows.
pub(super) async fn store_part(
    transaction: &Transaction<'_>,
    rows: &[Row],
    origins: &Origins,
) -> Result<u64, tokio_postgres::Error> {
    transaction.batch_execute("TRUNCATE staged_check").await?;
    let sink = transaction
        .copy_in("COPY staged_check FROM STDIN BINARY")
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
    copy.finish().await?;
    let new = transaction
        .execute(
            "INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket)
             SELECT slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket FROM staged_check
             ON CONFLICT DO NOTHING",
            &[],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO check_detail (slot, site_id, location_id, detail, facts, capture)
             SELECT slot, site_id, location_id, detail, facts, capture FROM staged_check WHERE detail IS NOT NULL
             ON CONFLICT DO NOTHING",
            &[],
        )
        .await?;
    Ok(new)
}

/// A row as its columns.
struct Columns<'a> {
    slot: std::time::SystemTime,
    site: Option<i32>,
    location: Option<i32>,
    outcome: i16,
    error: i16,
    detail: Option<&'a str>,
    facts: Option<Jsonb<'a>>,
    capture: Option<Jsonb<'a>>,
    row: &'a Row,
}

impl<'a> Columns<'a> {
    fn of(row: &'a Row, origins: &Origins) -> Self {
        // `learn` has run for the batch; were a number missing all the same, NOT NULL would make the row a dead letter.
        let (site, location) = origins.ids(&row.origin).unzip();
        let detail = row.detail.as_deref();
        let json = |text: &'a Option<String>| text.as_deref().map(Jsonb);
        Self {
            slot: row.slot.to_system_time(),
            site,
            location,
            outcome: row.outcome.id(),
            // Without a null a row has no bitmap of them, which would cost 8 bytes.
            error: row.error.map_or(0, crate::model::ErrorKind::id),
            detail: detail.map(|detail| detail.text.as_str()),
            facts: detail.and_then(|detail| json(&detail.facts)),
            capture: detail.and_then(|detail| json(&detail.capture)),
            row,
        }
    }

    fn narrow(&self) -> [&(dyn ToSql + Sync); 9] {
        let row = self.row;
        [
            &self.slot,
            &self.site,
            &self.location,
            &row.total_us,
            &row.lateness_ms,
            &row.status,
            &self.outcome,
            &self.error,
            &row.ttfb_bucket,
        ]
    }
}
