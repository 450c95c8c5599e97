//! Rows as the tables have them, and the straight way into these: COPY.

use std::pin::pin;

use tokio_postgres::{
    Transaction,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use super::{jsonb::Jsonb, origins::Origins};
use crate::model::Row;

pub(super) const RESULT_TYPES: [Type; 9] = [
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

pub(super) const DETAIL_TYPES: [Type; 3] = [Type::TEXT, Type::JSONB, Type::JSONB];

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

/// A row as its columns.
pub(super) struct Columns<'a> {
    slot: std::time::SystemTime,
    site: Option<i32>,
    location: Option<i32>,
    outcome: i16,
    error: i16,
    pub(super) detail: Option<&'a str>,
    pub(super) facts: Option<Jsonb<'a>>,
    pub(super) capture: Option<Jsonb<'a>>,
    row: &'a Row,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a Row, origins: &Origins) -> Self {
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

    pub(super) fn narrow(&self) -> [&(dyn ToSql + Sync); 9] {
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
