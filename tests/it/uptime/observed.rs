//! Uptime counts what was observed, and objectives follow from it.

use super::{compare, history, uptime};

#[actix_rt::test]
async fn uptime_is_of_what_was_observed_and_says_how_much_that_was() {
    let world = history("uptime").await;
    let (from, to) = ("2026-03-02", "2026-03-30");
    // Two minutes of each hour; nothing of two hours was due, since nobody had said so.
    assert_eq!(
        compare(&world, 1, from, to, &[]).await,
        (Some(28 * 1440 - 120), 0)
    );
    assert_eq!(
        uptime(&world, "a", from, to).await,
        [Some(96.667), Some(100.0), Some(0.0), Some(0.0)]
    );
    assert_eq!(
        compare(&world, 2, from, to, &[]).await,
        (Some(2 * 28 * 1440), 0)
    );
    assert_eq!(
        uptime(&world, "b", from, to).await,
        [Some(100.0), Some(90.0), Some(10.0), Some(0.0)]
    );
    // A calendar: each hour.
    assert_eq!(compare(&world, 3, from, to, &[]).await, (Some(28 * 24), 0));
    assert_eq!(
        uptime(&world, "c", from, to).await,
        [Some(100.0), Some(100.0), Some(0.0), Some(0.0)]
    );
    assert_eq!(uptime(&world, "nobody", from, to).await, []);
    // A producer that was killed says no end: what it did not check was due.
    let killed = "UPDATE site_revision SET until = NULL WHERE site_id = 1 AND since = '2026-03-01'";
    world.db.batch_execute(killed).await.unwrap();
    assert_eq!(
        compare(&world, 1, from, to, &[]).await,
        (Some(28 * 1440), 0)
    );
    assert_eq!(
        uptime(&world, "a", from, to).await,
        [Some(96.667), Some(99.702), Some(0.298), Some(0.0)]
    );
    // To the minute, and to the second.
    for (from, to) in [
        ("2026-03-05 00:01", "2026-03-05 00:07"),
        ("2026-03-04 23:59:30", "2026-03-07 11:11:11"),
    ] {
        compare(&world, 1, from, to, &[]).await;
        compare(&world, 2, from, to, &[]).await;
    }
}

#[actix_rt::test]
async fn objectives_tell_what_is_left_of_the_error_budget_and_how_fast_it_burns() {
    let world = history("sla").await;
    let sql = "SELECT site, checks, round(uptime::numeric, 3)::float8, round(budget_left::numeric, 3)::float8,
                      round(burn_rate::numeric, 3)::float8, burn_rate_1h::float8
                 FROM sla_status('2026-03-20 00:05')";
    let rows = world.query(sql).await;
    assert_eq!(rows.len(), 2);
    let float = |row: usize, n: usize| rows[row].get::<_, Option<f64>>(n);
    // In each hour 2 of 60 fail, 0.6 may: the budget is overdrawn by 2 1/3 of itself. Of the last hour, from five past, all two are there.
    assert_eq!(rows[0].get::<_, i64>(1), 7 * 1440);
    assert_eq!(
        [2, 3, 4].map(|n| float(0, n)),
        [Some(96.667), Some(-233.333), Some(3.333)]
    );
    assert!((float(0, 5).unwrap() - 10.0 / 3.0).abs() < 1e-9, "{rows:?}");
    assert_eq!(
        [2, 3, 4].map(|n| float(1, n)),
        [Some(100.0), Some(100.0), Some(0.0)]
    );
    // Maintenance is no failure.
    world.done(&[
        "maintenance",
        "add",
        "x",
        "--from",
        "2026-03-01T00:00:00Z",
        "--to",
        "2026-03-20T00:00:00Z",
    ]);
    let rows = world.query(sql).await;
    assert_eq!(rows[0].get::<_, i64>(1), 5);
    assert!((rows[0].get::<_, f64>(3) + 3900.0).abs() < 1e-6, "{rows:?}");
}
