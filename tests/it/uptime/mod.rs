//! Uptime that can be audited: with what was not observed beside it, and maintenance that is declared before or after. Real PostgreSQL;
//! the answers are compared with counting by hand.

mod calendar;
mod incidents;
mod maintenance;
mod observed;
mod report;
mod retention;

use crate::support::{World, forty_days};

/// Counted check by check, in a copy that nobody drops.
const BY_HAND: &str = "
    SELECT count(*) FILTER (WHERE outcome < 2), count(*) FILTER (WHERE outcome = 2), count(*) FILTER (WHERE outcome = 3)
      FROM kept c
     WHERE site_id = $1 AND slot >= $2::text::timestamptz AND slot < $3::text::timestamptz
       AND NOT EXISTS (SELECT FROM unnest($4::text[]::tstzrange[]) AS w WHERE c.slot <@ w)";

const TOLD: &str = "
    SELECT up + degraded, down, unknown, expected, extract(epoch FROM maintenance)::int8
      FROM uptimes($2::text::timestamptz, $3::text::timestamptz, ARRAY[$1::int4])";

/// Compares `uptimes` with the checks outside of `windows`, and gives what was expected and the seconds of maintenance.
async fn compare(
    world: &World,
    site: i32,
    from: &str,
    to: &str,
    windows: &[&str],
) -> (Option<i64>, i64) {
    let by_hand = world
        .db
        .query_one(BY_HAND, &[&site, &from, &to, &windows])
        .await
        .unwrap();
    let told = world
        .db
        .query_one(TOLD, &[&site, &from, &to])
        .await
        .unwrap();
    for n in 0..3 {
        assert_eq!(
            told.get::<_, i64>(n),
            by_hand.get::<_, i64>(n),
            "site {site}, {from} to {to}, column {n}"
        );
    }
    (told.get(3), told.get(4))
}

async fn uptime(world: &World, site: &str, from: &str, to: &str) -> Vec<Option<f64>> {
    let sql = "SELECT uptime, coverage, unknown, maintenance FROM uptime($1, $2::text::timestamptz, $3::text::timestamptz)";
    let rows = world.db.query(sql, &[&site, &from, &to]).await.unwrap();
    let rounded = |it: f64| (it * 1000.0).round() / 1000.0;
    rows.iter()
        .flat_map(|row| {
            (0..4)
                .map(|n| row.get::<_, Option<f64>>(n).map(rounded))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Forty days of three sites, rolled up, with a copy of the checks that nobody drops.
async fn history(name: &str) -> World {
    let world = forty_days(name).await;
    let copy = "CREATE TABLE kept AS SELECT * FROM check_result";
    world.db.batch_execute(copy).await.unwrap();
    world.done(&["housekeep"]);
    world
}
