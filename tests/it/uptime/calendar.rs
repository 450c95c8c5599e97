//! Checks that a calendar makes due.

use super::{compare, history, uptime};

/// Each third of the working hours in Berlin, where summer time begins on 29 March; half of what is due before noon is checked.
const WORKING_HOURS: &str = "
    INSERT INTO site (name, url) VALUES ('d', 'http://d/');
    INSERT INTO site_location (site_id, location_id) VALUES (4, 1);
    INSERT INTO site_revision (site_id, location_id, since, until, cron, check_limit_us, config_hash, run)
    VALUES (4, 1, '2026-03-03 10:10', NULL, '*/20 9-16 * * MON-FRI Europe/Berlin', 10000000, '', '2026-03-03');
    CREATE VIEW due AS
    SELECT slot FROM generate_series('2026-03-03 10:10+00'::timestamptz, '2026-04-10', '10 minutes') AS slot,
         LATERAL (SELECT slot AT TIME ZONE 'Europe/Berlin' AS wall) AS w
     WHERE extract(hour FROM wall) BETWEEN 9 AND 16 AND extract(isodow FROM wall) < 6 AND extract(minute FROM wall) IN (0, 20, 40);
    INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
    SELECT slot, 4, 1, 1000, 0, 0, 0 FROM due WHERE extract(hour FROM slot AT TIME ZONE 'Europe/Berlin') >= 12 OR extract(minute FROM slot) = 0;
    INSERT INTO kept SELECT * FROM check_result WHERE site_id = 4;
    INSERT INTO rollup_dirty (period, start)
    SELECT DISTINCT 'hour', date_trunc('hour', slot) FROM check_result WHERE site_id = 4";

#[actix_rt::test]
async fn what_a_calendar_makes_due_is_known_when_it_is_written_down() {
    let world = history("calendar").await;
    world.db.batch_execute(WORKING_HOURS).await.unwrap();
    let ranges = [
        ("2026-03-01", "2026-04-10"),
        ("2026-03-03 13:00", "2026-03-03 13:20:00.000001"),
        ("2026-03-27 15:59:59", "2026-03-30 07:00:01"),
        ("2026-03-28", "2026-03-29"),
        ("2026-02-01", "2026-02-02"),
    ];
    for (from, to) in &ranges[..3] {
        assert_eq!(compare(&world, 4, from, to, &[]).await, (None, 0), "{from}");
    }
    // One that has ended, and one of a producer whose clock was wrong: neither is written down without an end.
    let others = "
        INSERT INTO site (name, url) VALUES ('e', 'http://e/'), ('f', 'http://f/');
        INSERT INTO site_revision (site_id, location_id, since, until, cron, check_limit_us, config_hash, run)
        VALUES (5, 1, '2026-03-03 10:10', '2026-03-05 10:10', '4 * * * * UTC', 10000000, '', '2026-03-03'),
               (6, 1, '1970-01-01 00:10', NULL, '1 * * * * UTC', 10000000, '', '1970-01-01'),
               (6, 1, '2026-03-07 00:00', NULL, '2 * * * * UTC', 10000000, '', '2026-03-07'),
               (6, 1, '2026-03-09 00:00', NULL, '3 * * * * UTC', 10000000, '', '2026-03-09')";
    world.db.batch_execute(others).await.unwrap();
    world.done(&["housekeep"]);
    let written = "SELECT string_agg(format('%s %s', first, last), ', ' ORDER BY first, last) FROM (
                       SELECT min(day)::date AS first, max(day)::date AS last FROM calendar_day WHERE cron ~ '^[124] ' GROUP BY cron) AS each";
    let written: String = world.db.query_one(written, &[]).await.unwrap().get(0);
    assert_eq!(
        written,
        "2026-03-01 2026-03-06, 2026-03-03 2026-03-05, 2026-03-07 2026-03-08"
    );
    let due = "SELECT (SELECT count(*) FROM due WHERE slot >= $1::text::timestamptz AND slot < $2::text::timestamptz),
                      (SELECT count(*) FROM (SELECT slot FROM due WHERE slot >= $1::text::timestamptz AND slot < $2::text::timestamptz
                       EXCEPT SELECT slot FROM expected_slots($1::text::timestamptz, $2::text::timestamptz) WHERE site_id = 4) AS missing),
                      (SELECT count(*) FROM expected_slots($1::text::timestamptz, $2::text::timestamptz) WHERE site_id = 4)";
    let mut all = Vec::new();
    for (from, to) in ranges {
        let row = world.db.query_one(due, &[&from, &to]).await.unwrap();
        let number: i64 = row.get(0);
        assert_eq!((row.get(1), row.get(2)), (0i64, number), "{from}");
        // Before it was announced nothing is told of it.
        if to > "2026-03" {
            let told = compare(&world, 4, from, to, &[]).await;
            assert_eq!(told, (Some(number), 0), "{from}");
        }
        all.push(number);
    }
    assert_eq!(all, [665, 2, 1, 0, 0]);
    // Of eight hours three have one check of three.
    let coverage = uptime(&world, "d", "2026-03-09", "2026-04-06").await[1];
    assert_eq!(coverage, Some(75.0));
    let maintained = "INSERT INTO maintenance (name, from_time, to_time, site_names) VALUES ('m', '2026-03-10 08:20', '2026-03-11 09:00', '{d}');
                      INSERT INTO maintenance_span VALUES (1, '[2026-03-10 08:20, 2026-03-11 09:00)')";
    world.db.batch_execute(maintained).await.unwrap();
    let window = ["[2026-03-10 08:20, 2026-03-11 09:00)"];
    let (from, to) = ranges[0];
    let told = compare(&world, 4, from, to, &window).await;
    assert_eq!(told, (Some(all[0] - 26), 24 * 3600 + 2400));
}
