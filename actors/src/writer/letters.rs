//! Dead letters: messages that could not be stored, kept as they came, and what can be done about them later.
//!
//! A replay goes the writer's own way: a batch without offsets, which says instead which letters it takes away. Taking them
//! fences it as offsets do a consumer's batch: where one is gone, somebody else has it, and nothing is stored.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sitewatch_config::PostgresSettings;
use slog::Logger;
use tokio_postgres::{Client, Error, Row as Columns, Transaction, types::ToSql};

use super::{
    session::Session,
    store::{End, Try},
};
use crate::{
    database::{AskError, DatabaseClock, ask, untold},
    model::{Batch, Content, DeadLetter, Decoder, Receipt, Slot},
};

/// So many letters are read and stored at a time.
const PAGE: i64 = 200;

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

/// Takes away the letters that `batch` replays. `false` if one of them is gone: another replay has it.
pub(super) async fn take(transaction: &Transaction<'_>, batch: &Batch) -> Result<bool, Error> {
    if batch.letters.is_empty() {
        return Ok(true);
    }
    // In order, so that two replays wait for each other and do not meet crosswise.
    let taken = transaction
        .execute(
            "DELETE FROM dead_letter WHERE dead_letter_id IN
                 (SELECT dead_letter_id FROM dead_letter WHERE dead_letter_id = ANY($1) ORDER BY 1 FOR UPDATE)",
            &[&batch.letters],
        )
        .await?;
    Ok(taken == batch.letters.len() as u64)
}

/// Which letters.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// Only these.
    pub ids: Option<Vec<i64>>,
    /// Only those with this reason.
    pub reason: Option<String>,
    /// Only those received from then on.
    pub since: Option<Slot>,
}

/// A letter as it is stored.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// Its number.
    pub id: i64,
    /// The topic.
    pub topic: String,
    /// Where in the topic: partition and offset.
    pub source: (i32, i64),
    /// The class of reason.
    pub reason: String,
    /// The reason in words.
    pub detail: String,
    /// The message's key.
    pub key: Option<Vec<u8>>,
    /// The message, as it came; empty in a list.
    pub payload: Vec<u8>,
    /// The size of the message, in bytes.
    pub size: i64,
    /// When it was set aside.
    pub received_at: Slot,
}

const WHERE: &str =
    "($1::int8[] IS NULL OR dead_letter_id = ANY($1)) AND ($2::text IS NULL OR reason = $2)
     AND ($3::timestamptz IS NULL OR received_at >= $3)";

/// The dead letters of a database.
pub struct Letters(Client);

impl Letters {
    /// Connects; changes nothing.
    ///
    /// # Errors
    /// If PostgreSQL does not answer or refuses, or has no such table.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, AskError> {
        ask(settings, &["dead_letter"]).await.map(Self)
    }

    /// How many match.
    ///
    /// # Errors
    /// What the database says.
    pub async fn count(&self, filter: &LetterFilter) -> Result<i64, AskError> {
        let sql = format!("SELECT count(*) FROM dead_letter WHERE {WHERE}");
        let since = filter.since.map(Slot::to_system_time);
        let row = self
            .0
            .query_one(&sql, &[&filter.ids, &filter.reason, &since])
            .await?;
        Ok(row.get(0))
    }

    /// The latest ones, newest first, without their payloads.
    ///
    /// # Errors
    /// What the database says.
    pub async fn list(
        &self,
        filter: &LetterFilter,
        limit: i64,
    ) -> Result<Vec<StoredLetter>, AskError> {
        let sql = format!(
            "SELECT dead_letter_id, topic, partition, kafka_offset, reason, detail, key, ''::bytea AS payload,
                    length(payload)::int8 AS size, received_at
               FROM dead_letter WHERE {WHERE} ORDER BY dead_letter_id DESC LIMIT $4"
        );
        let since = filter.since.map(Slot::to_system_time);
        let rows = self
            .0
            .query(&sql, &[&filter.ids, &filter.reason, &since, &limit])
            .await?;
        Ok(rows.iter().map(letter).collect())
    }

    /// The next ones after the number `after`, whole.
    ///
    /// # Errors
    /// What the database says.
    pub async fn page(
        &self,
        filter: &LetterFilter,
        after: i64,
    ) -> Result<Vec<StoredLetter>, AskError> {
        page(&self.0, filter, after).await.map_err(Into::into)
    }

    /// Deletes those that match, and says how many there were.
    ///
    /// # Errors
    /// What the database says.
    pub async fn discard(&self, filter: &LetterFilter) -> Result<u64, AskError> {
        let sql = format!("DELETE FROM dead_letter WHERE {WHERE}");
        let since = filter.since.map(Slot::to_system_time);
        Ok(self
            .0
            .execute(&sql, &[&filter.ids, &filter.reason, &since])
            .await?)
    }
}

async fn page(
    client: &Client,
    filter: &LetterFilter,
    after: i64,
) -> Result<Vec<StoredLetter>, Error> {
    let sql = format!(
        "SELECT dead_letter_id, topic, partition, kafka_offset, reason, detail, key, payload,
                length(payload)::int8 AS size, received_at
           FROM dead_letter WHERE {WHERE} AND dead_letter_id > $4 ORDER BY dead_letter_id LIMIT $5"
    );
    let since = filter.since.map(Slot::to_system_time);
    let parameters: [&(dyn ToSql + Sync); 5] = [&filter.ids, &filter.reason, &since, &after, &PAGE];
    let rows = client.query(&sql, &parameters).await?;
    Ok(rows.iter().map(letter).collect())
}

fn letter(row: &Columns) -> StoredLetter {
    StoredLetter {
        id: row.get("dead_letter_id"),
        topic: row.get("topic"),
        source: (row.get("partition"), row.get("kafka_offset")),
        reason: row.get("reason"),
        detail: row.get("detail"),
        key: row.get("key"),
        payload: row.get("payload"),
        size: row.get("size"),
        received_at: Slot::from_system_time(row.get::<_, SystemTime>("received_at")),
    }
}

/// How a replay is made.
#[derive(Clone, Debug)]
pub struct ReplayOrder {
    /// Which letters.
    pub filter: LetterFilter,
    /// Slots may be so old.
    pub max_slot_age: Duration,
    /// Only read them.
    pub dry_run: bool,
}

/// What a replay brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Checks that are rows now; in a dry run, what could be read.
    pub rows: u64,
    /// Checks that had been stored before: their letters are gone.
    pub duplicates: u64,
    /// Revisions of sites.
    pub revisions: u64,
    /// What the database refused: it has new letters.
    pub refused: u64,
    /// What still can't be stored, with the reason: it stays.
    pub stay: Vec<(i64, String)>,
    /// How many of these there are: the list holds the first ones.
    pub stay_count: u64,
}

/// The most letters that are told one by one.
const MOST_TOLD: usize = 20;

/// Reads letters with today's decoder and stores what it understands, as the writer does.
///
/// # Errors
/// If PostgreSQL does not answer or refuses. What was stored up to then is stored, and its letters are gone.
pub async fn replay(
    settings: &PostgresSettings,
    schema: &str,
    order: &ReplayOrder,
    log: &Logger,
) -> Result<Replayed, AskError> {
    drop(Letters::open(settings).await?);
    let up = untold();
    let mut session = Session::open(settings, schema, DatabaseClock::default(), &up, log).await?;
    let mut decoder = Decoder::new(order.max_slot_age, settings.max_slot_ahead);
    let mut replayed = Replayed::default();
    let mut after = i64::MIN;
    loop {
        let letters = page(&session.client, &order.filter, after).await?;
        let Some(last) = letters.last().map(|letter| letter.id) else {
            return Ok(replayed);
        };
        let mut told = replayed.clone();
        let batches = batches(&mut decoder, letters, &mut told);
        let mut complete = true;
        for batch in batches.into_values() {
            if order.dry_run {
                told.rows += batch.rows.len() as u64;
                told.revisions += batch.revisions.len() as u64;
                continue;
            }
            let mut commit_unknown = false;
            let attempt = Try {
                session: &mut session,
                log,
                commit_unknown: &mut commit_unknown,
            };
            match attempt.store(&batch).await? {
                End::Stored(stored) => {
                    told.rows += stored.rows;
                    told.duplicates += stored.duplicates;
                    told.refused += stored.refused;
                    told.revisions += batch.revisions.len() as u64;
                }
                // Another replay has one of them: what it left is read again.
                End::Fenced | End::AlreadyStored => complete = false,
            }
        }
        if complete {
            (replayed, after) = (told, last);
        } else {
            // What stays is met again with the page.
            (told.stay, told.stay_count) = (replayed.stay, replayed.stay_count);
            replayed = told;
        }
    }
}

/// A batch for each topic, and what can't be read.
fn batches(
    decoder: &mut Decoder,
    letters: Vec<StoredLetter>,
    told: &mut Replayed,
) -> BTreeMap<String, Batch> {
    let now = Slot::from_system_time(SystemTime::now());
    let mut batches = BTreeMap::new();
    for letter in letters {
        match decoder.decode(letter.source, letter.key.as_deref(), &letter.payload, now) {
            Ok(content) => {
                let batch = batches
                    .entry(letter.topic.clone())
                    .or_insert_with(|| Batch {
                        topic: Arc::from(letter.topic.as_str()),
                        cluster: None,
                        ranges: Vec::new(),
                        rows: Vec::new(),
                        revisions: Vec::new(),
                        dead: Vec::new(),
                        letters: Vec::new(),
                        receipt: Receipt::new().0,
                    });
                batch.letters.push(letter.id);
                match content {
                    Content::Row(row) => batch.rows.push(row),
                    Content::Revision(revision) => batch.revisions.push(revision),
                }
            }
            Err(refused) => {
                told.stay_count += 1;
                if told.stay.len() < MOST_TOLD {
                    let why = format!("{}: {}", refused.reason.as_str(), refused.detail);
                    told.stay.push((letter.id, why));
                }
            }
        }
    }
    batches
}
