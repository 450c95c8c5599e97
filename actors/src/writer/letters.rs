//! Dead letters: messages that could not be stored, kept as they came.

use tokio_postgres::{Error, Transaction};

use crate::model::DeadLetter;

/// Writes one letter.
pub(super) async fn set_aside(
    transaction: &Transaction<'_>,
    topic: &str,
    letter: &DeadLetter,
) -> Result<(), Error> {
    let (partition, offset) = letter.source;
    transaction
        .execute(
            "INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, key, payload)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                &topic,
                &partition,
                &offset,
                &letter.reason.as_str(),
                &storable(&letter.detail),
                &letter.key,
                &letter.payload,
            ],
        )
        .await
        .map(drop)
}

/// PostgreSQL's text can't hold NUL, and a library's message may quote one.
fn storable(detail: &str) -> String {
    detail.replace('\0', "\u{fffd}")
}
