//! Each category of the audit, on rows that are made for it.

use super::{audit, numbers, of};
use crate::support::World;

const HOUR: [&str; 4] = [
    "--since",
    "2025-01-01T12:00:00Z",
    "--until",
    "2025-01-01T13:00:00Z",
];

/// A database with the schema, and a partition for a day that is long past.
async fn prepared(name: &str) -> World {
    let world = World::new(name).await;
    let migrated = world.program(&["migrate"]).output().unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    world
        .db
        .batch_execute(
            "CREATE TABLE check_result_then PARTITION OF check_result FOR VALUES FROM ('2025-01-01') TO ('2025-01-02');
             INSERT INTO location (name) VALUES ('here')",
        )
        .await
        .unwrap();
    world
}

/// Announces a site at minutes of the hour, run 1 or 2, with an interval or a calendar.
async fn announce(
    world: &World,
    site: &str,
    since: f64,
    until: Option<f64>,
    seconds: i64,
    run: i32,
) {
    let until = until.map_or("NULL".to_owned(), |until| {
        format!("timestamptz '2025-01-01 12:00Z' + {until} * interval '1 minute'")
    });
    world
        .db
        .batch_execute(&format!(
            "INSERT INTO site (name, url) VALUES ('{site}', 'http://a/') ON CONFLICT DO NOTHING;
             INSERT INTO site_revision (site_id, location_id, since, until, interval_us, phase_us, check_limit_us, config_hash, run)
             SELECT site_id, 1, timestamptz '2025-01-01 12:00Z' + {since} * interval '1 minute', {until}, {seconds} * 1000000, 0,
                    10000000, 'x', timestamptz '2025-01-01 11:00Z' + {run} * interval '1 second' FROM site WHERE name = '{site}'"
        ))
        .await
        .unwrap();
}

/// Rows of a site from one minute to before another.
async fn rows(world: &World, site: &str, from: f64, to: f64, seconds: i64) {
    world
        .db
        .batch_execute(&format!(
            "INSERT INTO check_result (slot, site_id, location_id, lateness_ms, outcome)
             SELECT slot, site_id, 1, 1, 0 FROM site,
                    generate_series(timestamptz '2025-01-01 12:00Z' + {from} * interval '1 minute',
                                    timestamptz '2025-01-01 12:00Z' + {to} * interval '1 minute' - interval '1 microsecond',
                                    {seconds} * interval '1 second') AS slot
              WHERE name = '{site}'"
        ))
        .await
        .unwrap();
}

#[actix_rt::test]
async fn what_is_complete_is_complete_and_what_is_not_has_its_category() {
    let world = prepared("audit").await;
    announce(&world, "complete", 0.0, None, 60, 1).await;
    rows(&world, "complete", 0.0, 60.0, 60).await;
    // Replaced in the middle by one that is checked twice as often.
    announce(&world, "replaced", 0.0, Some(30.0), 60, 1).await;
    announce(&world, "replaced", 30.0, None, 30, 1).await;
    rows(&world, "replaced", 0.0, 30.0, 60).await;
    rows(&world, "replaced", 30.0, 60.0, 30).await;
    let (code, told) = audit(&world, &HOUR);
    assert_eq!(
        (code, numbers(&told["total"])),
        (Some(0), [150, 150, 0, 0, 0]),
        "{told}"
    );

    world
        .db
        .batch_execute(
            "UPDATE check_result SET error = 22, outcome = 3 WHERE slot = '2025-01-01 12:05Z';
             UPDATE check_result SET lateness_ms = 1500 WHERE slot = '2025-01-01 12:06Z';
             UPDATE check_result SET lateness_ms = 1000 WHERE slot = '2025-01-01 12:07Z'",
        )
        .await
        .unwrap();
    announce(&world, "hole", 0.0, None, 60, 1).await;
    rows(&world, "hole", 0.0, 30.0, 60).await;
    rows(&world, "hole", 31.0, 60.0, 60).await;
    // A row between slots, and rows after the end.
    announce(&world, "stray", 0.0, Some(10.0), 60, 1).await;
    rows(&world, "stray", 0.0, 12.0, 60).await;
    rows(&world, "stray", 0.25, 0.5, 60).await;
    // Rows from before anything was announced.
    announce(&world, "old", 50.0, None, 60, 1).await;
    rows(&world, "old", 0.0, 60.0, 60).await;
    world
        .db
        .batch_execute(
            "INSERT INTO site (name, url) VALUES ('calendar', 'http://a/');
             INSERT INTO site_revision (site_id, location_id, since, cron, check_limit_us, config_hash, run)
             SELECT site_id, 1, '2025-01-01 12:00Z', '*/5 * * * * UTC', 1000000, 'x', '2025-01-01 11:00:01Z' FROM site WHERE name = 'calendar'",
        )
        .await
        .unwrap();
    rows(&world, "calendar", 0.0, 45.0, 300).await;
    rows(&world, "calendar", 50.0, 60.0, 300).await;
    rows(&world, "calendar", 51.0, 51.5, 60).await;
    let (code, told) = audit(&world, &HOUR);
    assert_eq!(code, Some(1));
    assert_eq!(numbers(of(&told, "hole")), [60, 59, 1, 0, 0]);
    assert_eq!(
        of(&told, "hole")["missing_slots"][0],
        "2025-01-01T12:30:00.000000Z"
    );
    assert_eq!(numbers(of(&told, "stray")), [10, 10, 0, 0, 3], "{told}");
    assert_eq!(numbers(of(&told, "old")), [10, 10, 0, 0, 0]);
    assert_eq!(told["unannounced"], 50);
    assert_eq!(numbers(of(&told, "calendar")), [12, 11, 1, 0, 1]);
    let complete = of(&told, "complete");
    assert_eq!(
        (&complete["missed"], &complete["late"]),
        (&1.into(), &1.into())
    );

    // The key is all that keeps rows apart: without it a second row is noticed, and hides no missing one.
    world
        .db
        .batch_execute(
            "ALTER TABLE check_result DROP CONSTRAINT check_result_pkey;
             INSERT INTO check_result SELECT c.* FROM check_result c JOIN site USING (site_id)
              WHERE name = 'hole' AND slot = '2025-01-01 12:10Z'",
        )
        .await
        .unwrap();
    let (_, told) = audit(&world, &[&HOUR[..], &["--site", "hole"]].concat());
    assert_eq!(told["total"]["duplicate"], 1);
    assert_eq!(numbers(&told["total"]), [60, 59, 1, 0, 0]);
    let shown = world
        .program(&[&["audit"], &HOUR[..]].concat())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.starts_with("NOT COMPLETE") && shown.contains("missing: 2025-01-01T12:30:00.000000Z"),
        "{shown}"
    );
}

#[actix_rt::test]
async fn a_producer_that_was_down_is_told_apart_from_rows_that_are_lost() {
    let world = prepared("down").await;
    // Run 1 ends about 12:20 and run 2 begins at 12:40: `x` ends a little too early, `half` at the half minutes is the last.
    for (site, offset, end) in [
        ("x", 0.0, 20.0),
        ("half", 0.5, 20.6),
        ("removed", 0.0, 20.5),
    ] {
        announce(&world, site, offset, None, 60, 1).await;
        rows(&world, site, offset, end, 60).await;
    }
    // No run came later yet: nothing accounts for what is not there.
    let (code, told) = audit(&world, &HOUR);
    assert_eq!(
        (code, numbers(of(&told, "x"))),
        (Some(1), [60, 20, 40, 0, 0]),
        "{told}"
    );

    for (site, from) in [("x", 40.0), ("half", 40.5)] {
        announce(&world, site, from, None, 60, 2).await;
        rows(&world, site, from, 60.0, 60).await;
    }
    let (code, told) = audit(&world, &HOUR);
    // 12:20:00 of x had ended ten seconds later, and at 12:20:30 there was still a row of another site: it is missing.
    assert_eq!(numbers(of(&told, "x")), [60, 40, 1, 19, 0], "{told}");
    assert_eq!(
        of(&told, "x")["missing_slots"][0],
        "2025-01-01T12:20:00.000000Z"
    );
    assert_eq!(numbers(of(&told, "half")), [60, 41, 0, 19, 0], "{told}");
    // It is not in the later run: from its beginning on it is not due.
    assert_eq!(numbers(of(&told, "removed")), [40, 21, 0, 19, 0], "{told}");
    assert_eq!(code, Some(1));
    // A row that was lost before a later one of the same run is no tail.
    world
        .db
        .batch_execute("DELETE FROM check_result WHERE slot = '2025-01-01 12:19:30Z'")
        .await
        .unwrap();
    let (_, told) = audit(&world, &HOUR);
    assert_eq!(numbers(of(&told, "half")), [60, 40, 1, 19, 0], "{told}");
}

/// A run whose disk fails from its start may be killed with its announcements still in memory.
#[actix_rt::test]
async fn a_site_whose_announcement_is_lost_is_not_taken_for_a_sign_of_life_of_the_run_before() {
    let world = prepared("carried").await;
    for site in ["told", "untold", "removed", "later"] {
        announce(&world, site, 0.0, None, 60, 1).await;
        rows(&world, site, 0.0, 10.0, 60).await;
    }
    // The second run began right after this one's slot.
    announce(&world, "later", 13.0, None, 60, 2).await;
    rows(&world, "later", 13.0, 20.0, 60).await;
    announce(&world, "told", 12.0, None, 60, 2).await;
    rows(&world, "told", 12.0, 20.0, 60).await;
    // Its first row is lost too.
    rows(&world, "untold", 13.0, 20.0, 60).await;
    for site in ["told", "untold", "later"] {
        announce(&world, site, 22.0, None, 60, 3).await;
        rows(&world, site, 22.0, 60.0, 60).await;
    }
    let (code, told) = audit(&world, &HOUR);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(numbers(of(&told, "told")), [60, 56, 0, 4, 0], "{told}");
    assert_eq!(numbers(of(&told, "untold")), [60, 55, 1, 4, 0], "{told}");
    assert_eq!(numbers(of(&told, "later")), [59, 55, 0, 4, 0], "{told}");
    assert_eq!(numbers(of(&told, "removed")), [12, 10, 0, 2, 0], "{told}");
    assert_eq!(
        of(&told, "untold")["missing_slots"][0],
        "2025-01-01T12:12:00.000000Z"
    );

    // What is listed is bounded.
    let (_, told) = audit(&world, &[&HOUR[..], &["--slots", "0"]].concat());
    assert_eq!(of(&told, "untold")["missing_slots"], serde_json::json!([]));
}

#[actix_rt::test]
async fn mistakes_are_told() {
    let world = World::new("audit_mistakes").await;
    let complains = |arguments: &[&str], code: i32, words: &str| {
        let output = world.program(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(words), "{told}");
    };
    complains(&["audit", "--since", "-1h"], 78, "sitewatch-node migrate");
    assert!(
        world
            .program(&["migrate"])
            .output()
            .unwrap()
            .status
            .success()
    );
    complains(&["audit", "--since", "yesterday"], 64, "such as -24h");
    complains(
        &["audit", "--since", "-1h", "--until", "-2h"],
        64,
        "not before",
    );
    complains(
        &["audit", "--since", "-1h", "--site", "nobody"],
        64,
        "\"nobody\"",
    );
    let nothing = world
        .program(&["audit", "--since", "-1h"])
        .output()
        .unwrap();
    assert!(nothing.status.success());
    assert!(String::from_utf8_lossy(&nothing.stdout).starts_with("nothing was due"));
}
