//! Windows of maintenance, as people declare them.

use std::time::{Duration, SystemTime};

use sitewatch_config::PostgresSettings;
use tokio_postgres::{Client, types::ToSql};

use crate::{
    database::{AskError, ask, refuse_unknown, write_windows},
    model::{Slot, Whose},
};

/// When a window is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Once.
    Once {
        /// Its beginning.
        from: Slot,
        /// Its end.
        to: Slot,
    },
    /// Again and again.
    Recurring {
        /// When it begins: see [`sitewatch_config::Recurrence`].
        cron: String,
        /// How long it is, by the clock that never changes.
        lasts: Duration,
        /// None begins before.
        from: Slot,
        /// None begins from then on.
        until: Option<Slot>,
    },
}

/// A window that is declared.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its number.
    pub id: i32,
    /// What it is for.
    pub name: String,
    /// For which sites.
    pub whose: Whose,
    /// When.
    pub when: When,
    /// The one that is going on, or the next one, if any.
    pub next: Option<(Slot, Slot)>,
    /// Who declared it.
    pub by: String,
}

/// The windows of a database.
pub struct Maintenance(Client);

impl Maintenance {
    /// Connects.
    ///
    /// # Errors
    /// If PostgreSQL does not answer or refuses, or has not got the tables.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, AskError> {
        let tables = ["maintenance", "maintenance_span"];
        Ok(Self(ask(settings, &tables).await?))
    }

    /// Declares a window. Gives its number. Names of sites that nobody has ever heard of are refused.
    ///
    /// # Errors
    /// What the database says, or an unknown name.
    pub async fn add(&mut self, name: &str, whose: &Whose, when: &When) -> Result<i32, AskError> {
        refuse_unknown(&self.0, whose).await?;
        let some = |names: &[String]| (!names.is_empty()).then(|| names.to_vec());
        let (sites, groups, tags) = (some(&whose.sites), some(&whose.groups), some(&whose.tags));
        let transaction = self.0.transaction().await?;
        let row = match when {
            When::Once { from, to } => {
                let (from, to) = (from.to_system_time(), to.to_system_time());
                transaction
                    .query_one(ADD_ONCE, &[&name, &sites, &groups, &tags, &from, &to])
                    .await?
            }
            When::Recurring {
                cron,
                lasts,
                from,
                until,
            } => {
                let (from, until) = (from.to_system_time(), until.map(Slot::to_system_time));
                let parameters: [&(dyn ToSql + Sync); 8] = [
                    &name,
                    &sites,
                    &groups,
                    &tags,
                    &from,
                    &until,
                    cron,
                    &lasts.as_secs_f64(),
                ];
                transaction.query_one(ADD_RECURRING, &parameters).await?
            }
        };
        let id = row.get(0);
        transaction.commit().await?;
        write_windows(&mut self.0, Slot::from_system_time(SystemTime::now())).await?;
        Ok(id)
    }

    /// All of them, the next one first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn list(&self) -> Result<Vec<Declared>, AskError> {
        let rows = self.0.query(LIST, &[]).await?;
        Ok(rows.iter().map(declared).collect())
    }

    /// Takes one back. `false` if there is none of that number.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove(&self, id: i32) -> Result<bool, AskError> {
        let remove = "DELETE FROM maintenance WHERE maintenance_id = $1";
        Ok(self.0.execute(remove, &[&id]).await? > 0)
    }
}

fn declared(row: &tokio_postgres::Row) -> Declared {
    let names = |column| {
        row.get::<_, Option<Vec<String>>>(column)
            .unwrap_or_default()
    };
    let slot = |column| {
        let time: Option<SystemTime> = row.get(column);
        time.map(Slot::from_system_time)
    };
    let from = Slot::from_system_time(row.get("from_time"));
    let when = match row.get::<_, Option<String>>("cron") {
        Some(cron) => When::Recurring {
            cron,
            lasts: Duration::from_secs_f64(
                row.get::<_, Option<f64>>("seconds").unwrap_or_default(),
            ),
            from,
            until: slot("to_time"),
        },
        None => When::Once {
            from,
            to: slot("to_time").unwrap_or(from),
        },
    };
    Declared {
        id: row.get("maintenance_id"),
        name: row.get("name"),
        whose: Whose {
            sites: names("site_names"),
            groups: names("group_names"),
            tags: names("tags"),
        },
        when,
        next: slot("next_from").zip(slot("next_to")),
        by: row.get("declared_by"),
    }
}

const ADD_ONCE: &str = "
    WITH added AS (
        INSERT INTO maintenance (name, site_names, group_names, tags, from_time, to_time)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING *)
    INSERT INTO maintenance_span (maintenance_id, span) SELECT maintenance_id, tstzrange(from_time, to_time) FROM added
    RETURNING maintenance_id";

const ADD_RECURRING: &str = "
    INSERT INTO maintenance (name, site_names, group_names, tags, from_time, to_time, cron, lasts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, make_interval(secs => $8)) RETURNING maintenance_id";

const LIST: &str = "
    SELECT m.*, extract(epoch FROM m.lasts)::float8 AS seconds, lower(next.span) AS next_from, upper(next.span) AS next_to
      FROM maintenance m
      LEFT JOIN LATERAL (
            SELECT span FROM maintenance_span w WHERE w.maintenance_id = m.maintenance_id AND upper(span) > now()
             ORDER BY lower(span) LIMIT 1) AS next ON true
     ORDER BY lower(next.span) NULLS LAST, m.maintenance_id";
