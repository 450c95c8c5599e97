//! Months to date: what a month's days add up to, as of the end of each. Computed again from a day on that has changed.

use tokio_postgres::Client;

use super::sites_of;
use crate::{database::SessionError, model::Slot};

/// Computes a month from `day` on, for the sites of all its notes, which it takes: none is of an earlier day.
pub(super) async fn compute(client: &mut Client, day: Slot) -> Result<(), SessionError> {
    let transaction = client.transaction().await?;
    let day = day.to_system_time();
    let sites = sites_of(&transaction.query(TAKE, &[&day]).await?);
    transaction.execute(COMPUTE, &[&day, &sites]).await?;
    fail::fail_point!("housekeeping::rollup");
    Ok(transaction.commit().await?)
}

/// The first day that is noted. As long as it is, days are what is read.
pub(super) const NOTED: &str = "SELECT min(start) FROM rollup_dirty WHERE period = 'month'";

const TAKE: &str = "
    DELETE FROM rollup_dirty
     WHERE period = 'month' AND start >= $1 AND start < date_trunc('month', $1, 'UTC') + interval '1 month'
    RETURNING site_ids";

/// The days of the month of `$1`, from it on, of the sites `$2`; of all, if that is null, and of all on a day that had no row yet.
/// Sites that were not checked on a day have a row too, if they were before.
const COMPUTE: &str = "
    WITH days AS MATERIALIZED (
        SELECT day, NOT EXISTS (SELECT FROM rollup_month_to_date m WHERE m.day = d.day) AS is_new
          FROM (SELECT DISTINCT day FROM rollup_day
                 WHERE day >= date_trunc('month', $1, 'UTC') AND day < date_trunc('month', $1, 'UTC') + interval '1 month') AS d)
    INSERT INTO rollup_month_to_date (day, site_id, location_id, up, degraded, down, unknown, total_sum_us, total_hist, ttfb_hist)
    SELECT day, site_id, location_id, up, degraded, down, unknown, total_sum_us, total_hist, ttfb_hist
      FROM site_location p
     CROSS JOIN LATERAL (
            SELECT day, is_new, sum(up) OVER so_far AS up, sum(degraded) OVER so_far AS degraded, sum(down) OVER so_far AS down,
                   sum(unknown) OVER so_far AS unknown, sum(total_sum_us) OVER so_far AS total_sum_us,
                   sum(total_hist) OVER so_far AS total_hist, sum(ttfb_hist) OVER so_far AS ttfb_hist
              FROM days
              LEFT JOIN (SELECT * FROM rollup_day r
                          WHERE r.site_id = p.site_id AND r.location_id = p.location_id
                            AND day >= date_trunc('month', $1, 'UTC') AND day < date_trunc('month', $1, 'UTC') + interval '1 month'
                         OFFSET 0) AS r USING (day)
            WINDOW so_far AS (ORDER BY day)) AS to_date
     WHERE day >= $1 AND up IS NOT NULL AND (is_new OR $2::int4[] IS NULL OR site_id = ANY ($2))
       AND ($2 IS NULL OR site_id = ANY ($2) OR EXISTS (SELECT FROM days WHERE is_new AND day >= $1))
     ORDER BY day -- so that what is read together lies together
    ON CONFLICT (day, site_id, location_id) DO UPDATE
       SET up = EXCLUDED.up, degraded = EXCLUDED.degraded, down = EXCLUDED.down, unknown = EXCLUDED.unknown,
           total_sum_us = EXCLUDED.total_sum_us, total_hist = EXCLUDED.total_hist, ttfb_hist = EXCLUDED.ttfb_hist";
