//! The database of a world: questions, and conditions that are waited for.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, Row, error::SqlState};

use super::{PATIENCE, World};

/// A client of a database; its connection ends with it.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

impl World {
    /// Connects the test itself anew, after PostgreSQL was away.
    pub async fn reconnect(&mut self) {
        self.db = connect(&self.database_url).await;
    }

    /// The rows of `sql`. A statement that fails, fails the test.
    pub async fn query(&self, sql: &str) -> Vec<Row> {
        let rows = self.db.query(sql, &[]).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The one number that `sql` gives.
    pub async fn number(&self, sql: &str) -> i64 {
        let row = self.db.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get(0)
    }

    /// The rows of `sql`; none while there is no such table yet, which the consumer makes.
    pub async fn query_so_far(&self, sql: &str) -> Vec<Row> {
        match self.db.query(sql, &[]).await {
            Ok(rows) => rows,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// The one number that `sql` gives; 0 while there is no such table yet.
    pub async fn number_so_far(&self, sql: &str) -> i64 {
        let rows = self.query_so_far(sql).await;
        rows.first().map_or(0, |row| row.get(0))
    }

    /// Waits until `sql` gives at least `wanted`.
    pub async fn wait_for(&self, what: &str, sql: &str, wanted: i64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.number_so_far(sql).await;
            if found >= wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {found} of {wanted}\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it is so.
    pub async fn wait_until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(Instant::now() < deadline, "{what}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every site's slots are there without a hole and once: (site, rows, slots that passed from the first to the last).
    pub async fn assert_complete(&self, interval_seconds: f64) {
        let rows = self
            .query(&format!(
                "SELECT site, count(*), (round(extract(epoch FROM max(slot) - min(slot)) / {interval_seconds}) + 1)::int8
                   FROM checks GROUP BY site"
            ))
            .await;
        assert!(!rows.is_empty(), "no rows\n{}", self.logs());
        for row in rows {
            let (site, rows, slots): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(
                rows,
                slots,
                "{site}: rows and slots differ\n{}",
                self.logs()
            );
        }
    }
}
