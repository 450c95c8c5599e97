//! Judge 4: the rollups are what the checks say, whatever has become of those that computed them.

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

/// Lets the program compute what is left, and looks. Gives what is wrong, and the number of rollups of hours.
pub(crate) async fn judge(
    folder: &std::path::Path,
    postgres: &str,
    db: &Client,
) -> Result<(Vec<String>, i64), Failure> {
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
    let sums = db.query_one(SUMS, &[]).await?;
    let (hours, left, whole): (i64, i64, bool) = (sums.get(0), sums.get(1), sums.get(2));
    if left != 0 || !whole || hours == 0 {
        problems.push(format!(
            "{hours} rollups of hours, {left} still noted, each check is in one of a day: {whole}"
        ));
    }
    Ok((problems, hours))
}
