//! What PostgreSQL holds.

use std::collections::{BTreeMap, HashMap};

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::GenericClient;

use super::{Findings, Identity, Names};
use crate::{Failure, kafka::TOPIC};

/// What a check says besides its identity: the numbers of its outcome and its error, status, total time and lateness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) outcome: i16,
    /// 0 without one.
    pub(crate) error: i16,
    pub(crate) status: Option<i16>,
    pub(crate) total_us: Option<i32>,
    pub(crate) lateness_ms: i32,
}

/// A row of `check_result`, and what the topic has of it.
#[derive(Debug)]
pub(crate) struct CheckRow {
    pub(crate) said: Said,
    /// Whether there is a message of it.
    pub(crate) in_topic: bool,
    /// Whether one of them says what the row says.
    pub(crate) is_told: bool,
    /// Whether one of them is the result of a check, and no placeholder.
    pub(crate) has_result: bool,
}

/// The numbers of words, as the database has them.
#[derive(Debug, Default)]
pub(crate) struct Words(HashMap<String, i16>);

impl Words {
    async fn read(db: &impl GenericClient, sql: &str) -> Result<Self, Failure> {
        let rows = db.query(sql, &[]).await?;
        Ok(Self(
            rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
        ))
    }

    pub(crate) fn number(&self, word: &str) -> Option<i16> {
        self.0.get(word).copied()
    }
}

/// The tables, as far as the judges ask.
pub(crate) struct Table {
    pub(crate) names: Names,
    /// The rows of `check_result`.
    pub(crate) checks: HashMap<Identity, CheckRow>,
    pub(crate) outcomes: Words,
    pub(crate) errors: Words,
    /// How often each (partition, offset) is in `dead_letter`.
    pub(crate) dead: HashMap<(i32, i64), u64>,
    /// Runs of offsets in `kafka_gap`: partition, reason, from, to.
    pub(crate) gaps: Vec<(i32, String, i64, i64)>,
    /// Rows by outcome and error.
    pub(crate) by_outcome: BTreeMap<(String, String), i64>,
    /// Dead letters by reason.
    pub(crate) by_reason: BTreeMap<String, i64>,
}

impl Table {
    /// Whether a check with this error was not made: the error of a placeholder.
    pub(crate) fn is_placeholder(&self, said: Said) -> bool {
        let mut placeholders = ["missed", "internal_error"].into_iter();
        placeholders.any(|word| self.errors.number(word) == Some(said.error))
    }

    /// Reads the tables. Rows of a check that come twice, and details without a row, go to `findings`.
    pub(crate) async fn read(
        db: &impl GenericClient,
        findings: &mut Findings,
    ) -> Result<Self, Failure> {
        let mut table = Self {
            names: Names::default(),
            checks: HashMap::new(),
            outcomes: Words::read(db, "SELECT name, outcome_id FROM outcome").await?,
            errors: Words::read(db, "SELECT name, error_id FROM error_kind").await?,
            dead: HashMap::new(),
            gaps: Vec::new(),
            by_outcome: BTreeMap::new(),
            by_reason: BTreeMap::new(),
        };
        // From the tables, not from the view `checks`, whose joins might leave a row out.
        let sql = "SELECT coalesce(s.name, ''), coalesce(l.name, ''), (extract(epoch FROM c.slot) * 1000000)::int8,
                          outcome, coalesce(error, 0::int2), status, total_us, lateness_ms
                     FROM check_result c LEFT JOIN site s USING (site_id) LEFT JOIN location l USING (location_id)";
        let rows = db.query_raw(sql, std::iter::empty::<&str>()).await?;
        pin_mut!(rows);
        while let Some(row) = rows.try_next().await? {
            let (site, location): (&str, &str) = (row.get(0), row.get(1));
            let identity = (
                table.names.number(site),
                table.names.number(location),
                row.get(2),
            );
            let check = CheckRow {
                said: Said {
                    outcome: row.get(3),
                    error: row.get(4),
                    status: row.get(5),
                    total_us: row.get(6),
                    lateness_ms: row.get(7),
                },
                in_topic: false,
                is_told: false,
                has_result: false,
            };
            if table.checks.insert(identity, check).is_some() {
                let names = &table.names;
                findings
                    .duplicate
                    .add(|| format!("check_result has twice: {}", names.words(identity)));
            }
        }
        let sql = "SELECT partition, kafka_offset, count(*) FROM dead_letter WHERE topic = $1 GROUP BY 1, 2";
        for row in db.query(sql, &[&TOPIC]).await? {
            let count: i64 = row.get(2);
            table
                .dead
                .insert((row.get(0), row.get(1)), count.unsigned_abs());
        }
        let sql = "SELECT partition, reason, from_offset, to_offset FROM kafka_gap";
        for row in db.query(sql, &[]).await? {
            table
                .gaps
                .push((row.get(0), row.get(1), row.get(2), row.get(3)));
        }
        let sql = "SELECT o.name, coalesce(e.name, ''), count(*) FROM check_result c
                     JOIN outcome o ON o.outcome_id = c.outcome LEFT JOIN error_kind e ON e.error_id = c.error GROUP BY 1, 2";
        for row in db.query(sql, &[]).await? {
            table
                .by_outcome
                .insert((row.get(0), row.get(1)), row.get(2));
        }
        for row in db
            .query("SELECT reason, count(*) FROM dead_letter GROUP BY 1", &[])
            .await?
        {
            table.by_reason.insert(row.get(0), row.get(1));
        }
        let sql = "SELECT count(*) FROM check_detail d WHERE NOT EXISTS (SELECT FROM check_result c
                    WHERE c.site_id = d.site_id AND c.location_id = d.location_id AND c.slot = d.slot)";
        let orphans: i64 = db.query_one(sql, &[]).await?.get(0);
        findings.unexplained.add_many(orphans.unsigned_abs(), || {
            format!("{orphans} rows of check_detail have no row in check_result")
        });
        Ok(table)
    }
}
