//! Judge 4: rollups and incidents are what the checks say, whatever has become of those that computed them.

use std::{process::Stdio, time::Duration};

use tokio_postgres::Client;

use crate::{Failure, settings::PROGRAM};

/// How long the last pass may take.
const LONGEST: Duration = Duration::from_secs(120);

/// How many of them are wrong.
const WRONG: &str = include_str!("../../support/wrong_rollups.sql");

/// From the start on all rows count as late: each batch notes hours, and each pass of each consumer computes them again.
const ALL_LATE: &str = "
    UPDATE rollup_state SET rolled_until = date_trunc('day', now()) + interval '2 days'";

/// The incidents that the checks make, worked out in another way.
const WORKED_OUT: &str = include_str!("../../support/wrong_incidents.sql");

/// How many of those that are stored are others, and how many there are.
const WRONG_INCIDENTS: &str = "
    WITH should AS (SELECT * FROM pg_temp.incidents_of_checks()),
         stored AS (SELECT site_id, location_id, began, opened, ended, closed, flaps, error FROM incident)
    SELECT (SELECT count(*) FROM ((TABLE should EXCEPT TABLE stored) UNION ALL (TABLE stored EXCEPT TABLE should)) AS d),
           (SELECT count(*) FROM stored)";

const SUMS: &str = "
    SELECT (SELECT count(*) FROM rollup_hour), (SELECT count(*) FROM rollup_dirty),
           (SELECT coalesce(sum(up + degraded + down + unknown), 0)::int8 FROM rollup_day) = (SELECT count(*) FROM check_result)";

/// Makes all rows late, as soon as there is a schema.
pub(crate) async fn prepare(db: &Client, patience: Duration) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match db.execute(ALL_LATE, &[]).await {
            Ok(1) => return Ok(()),
            other if tokio::time::Instant::now() > deadline => {
                return Err(format!("there are no rollups: {other:?}").into());
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// How much there is.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    /// Rollups of hours.
    pub(crate) hours: i64,
    pub(crate) incidents: i64,
}

/// Lets the program compute and judge what is left, and looks. Gives what is wrong.
pub(crate) async fn judge(
    folder: &std::path::Path,
    postgres: &str,
    db: &Client,
) -> Result<(Vec<String>, Counts), Failure> {
    let noted = db.query_one(SUMS, &[]).await?.get::<_, i64>(1);
    let mut command = tokio::process::Command::new(PROGRAM);
    command
        .arg("housekeep")
        .current_dir(folder)
        .env("POSTGRES_URL", postgres)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LONGEST, command.output()).await??;
    let mut problems = Vec::new();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        problems.push(format!(
            "housekeep fails ({}): {}",
            output.status,
            said.trim()
        ));
    }
    let wrong: i64 = db.query_one(WRONG, &[]).await?.get(0);
    if wrong != 0 {
        problems.push(format!(
            "{wrong} rollups are not what the checks say ({noted} were noted to be computed)"
        ));
    }
    db.batch_execute(WORKED_OUT).await?;
    let row = db.query_one(WRONG_INCIDENTS, &[]).await?;
    let (wrong, incidents): (i64, i64) = (row.get(0), row.get(1));
    if wrong != 0 {
        problems.push(format!(
            "of {incidents} incidents {wrong} are not what the checks make"
        ));
    }
    let sums = db.query_one(SUMS, &[]).await?;
    let (hours, left, whole): (i64, i64, bool) = (sums.get(0), sums.get(1), sums.get(2));
    if left != 0 || !whole || hours == 0 {
        problems.push(format!(
            "{hours} rollups of hours, {left} still noted, each check is in one of a day: {whole}"
        ));
    }
    Ok((problems, Counts { hours, incidents }))
}
