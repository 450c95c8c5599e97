//! Uptime that can be audited: with what was not observed beside it, and maintenance that is declared before or after. Real PostgreSQL;
//! the answers are compared with counting by hand.

use std::process::{Command, Output};

use crate::support::World;

/// Forty days of three sites.
const HISTORY: &str = include_str!("../support/forty_days.sql");

/// Counted check by check, in a copy that nobody drops.
const BY_HAND: &str = "
    SELECT count(*) FILTER (WHERE outcome < 2), count(*) FILTER (WHERE outcome = 2), count(*) FILTER (WHERE outcome = 3)
      FROM kept c
     WHERE site_id = $1 AND slot >= $2::text::timestamptz AND slot < $3::text::timestamptz
       AND NOT EXISTS (SELECT FROM unnest($4::text[]::tstzrange[]) AS w WHERE c.slot <@ w)";

const TOLD: &str = "
    SELECT up + degraded, down, unknown, expected, extract(epoch FROM maintenance)::int8
      FROM uptimes($2::text::timestamptz, $3::text::timestamptz, ARRAY[$1::int4])";

fn program(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .args(arguments)
        .env("POSTGRES_URL", &world.database_url)
        .current_dir(world.folder.path())
        .output()
        .unwrap()
}

fn done(world: &World, arguments: &[&str]) -> String {
    let output = program(world, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn world(name: &str) -> World {
    let world = World::new(name).await;
    done(&world, &["migrate"]);
    world.db.batch_execute(HISTORY).await.unwrap();
    let copy = "CREATE TABLE kept AS SELECT * FROM check_result";
    world.db.batch_execute(copy).await.unwrap();
    done(&world, &["housekeep"]);
    world
}

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

#[actix_rt::test]
async fn uptime_is_of_what_was_observed_and_says_how_much_that_was() {
    let world = world("uptime").await;
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
    let world = world("calendar").await;
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
    done(&world, &["housekeep"]);
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

#[actix_rt::test]
async fn maintenance_does_not_count_whenever_it_is_declared_and_keeps_to_the_clock_on_the_wall() {
    let world = world("maintenance").await;
    let (from, to) = ("2026-03-02", "2026-03-30");
    // After the fact, for one site; overlapping ones are one.
    done(
        &world,
        &[
            "maintenance",
            "add",
            "move",
            "--site",
            "a",
            "--from",
            "2026-03-03T12:00:00Z",
            "--to",
            "2026-03-03T18:00:00Z",
        ],
    );
    done(
        &world,
        &[
            "maintenance",
            "add",
            "more",
            "--group",
            "web",
            "--from",
            "2026-03-03T17:00:00Z",
            "--for",
            "2h",
        ],
    );
    let of_a = ["[2026-03-03 12:00,2026-03-03 19:00)"];
    assert_eq!(
        compare(&world, 1, from, to, &of_a).await,
        (Some(28 * 1440 - 120 - 7 * 60), 7 * 3600)
    );
    let of_b = ["[2026-03-03 17:00,2026-03-03 19:00)"];
    assert_eq!(
        compare(&world, 2, from, to, &of_b).await,
        (Some(2 * (28 * 1440 - 120)), 2 * 3600)
    );
    compare(&world, 1, "2026-03-03 13:00", "2026-03-03 20:00", &of_a).await;
    assert_eq!(
        uptime(&world, "a", "2026-03-03 13:00", "2026-03-03 14:00").await,
        [None, None, None, Some(100.0)]
    );

    // Each Sunday at half past two in Berlin: an hour earlier in UTC from the 29th on, on which there is no half past two.
    let cron = [
        "maintenance",
        "add",
        "backup",
        "--tag",
        "prod",
        "--cron",
        "30 2 * * SUN Europe/Berlin",
        "--for",
        "45m",
        "--from",
        "2026-03-07T00:00:00Z",
        "--until",
        "2026-04-06T00:00:00Z",
    ];
    done(&world, &cron);
    let spans = "SELECT span::text FROM maintenance_span WHERE maintenance_id = 3 ORDER BY span";
    let spans: Vec<String> = world
        .query(spans)
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    let span = |day: &str, hour: &str| {
        format!(
            "[\"2026-{day} {hour}:30:00+00\",\"2026-{day} {}:15:00+00\")",
            &format!("0{}", hour.parse::<u8>().unwrap() + 1)
        )
    };
    assert_eq!(
        spans,
        [
            span("03-08", "01"),
            span("03-15", "01"),
            span("03-22", "01"),
            span("03-29", "01"),
            span("04-05", "00")
        ]
    );
    let windows: Vec<String> = spans.into_iter().chain([of_a[0].to_owned()]).collect();
    let windows: Vec<&str> = windows.iter().map(String::as_str).collect();
    compare(&world, 1, from, "2026-04-09", &windows).await;

    let listed = done(&world, &["maintenance", "list"]);
    assert!(
        listed.contains("30 2 * * SUN Europe/Berlin for 45m") && listed.contains("group web"),
        "{listed}"
    );
    assert!(done(&world, &["maintenance", "remove", "3"]).contains("removed"));
    compare(&world, 1, from, "2026-04-09", &of_a).await;

    for (wrong, told) in [
        (
            &["add", "x", "--site", "nobody", "--for", "1h"][..],
            "no site \"nobody\" has ever been announced",
        ),
        (
            &["add", "x", "--from", "2026-03-03T12:00:00Z"],
            "--to WHEN or --for DURATION",
        ),
        (
            &[
                "add",
                "x",
                "--from",
                "2026-03-03T12:00:00Z",
                "--to",
                "2026-03-02T12:00:00Z",
            ],
            "is not after --from",
        ),
        (
            &["add", "x", "--cron", "0 2 * * SUN", "--for", "1h"],
            "five fields and a time zone",
        ),
        (&["remove", "77"], "no maintenance has the number 77"),
    ] {
        let output = program(&world, &[&["maintenance"], wrong].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(64) && said.contains(told),
            "{wrong:?}: {said}"
        );
    }
}

#[actix_rt::test]
async fn what_was_dropped_is_taken_off_by_the_hour_and_then_by_the_day() {
    let world = world("uptime_dropped").await;
    for [name, from, to] in [
        ["short", "2026-03-05T12:20:00Z", "2026-03-05T12:50:00Z"],
        ["long", "2026-03-06T23:00:00Z", "2026-03-07T11:20:00Z"],
        ["longer", "2026-03-07T11:20:00Z", "2026-03-08T01:30:00Z"],
    ] {
        let add = ["maintenance", "add", name, "--site", "a"];
        done(&world, &[&add[..], &["--from", from, "--to", to]].concat());
    }
    let keep = |retention: &str| {
        let settings = format!("postgres: {{ max_slot_age: 30d, retention: {retention} }}\n");
        std::fs::write(world.folder.path().join("keep.yaml"), settings).unwrap();
        done(&world, &["housekeep", "--config", "keep.yaml"]);
    };
    let due = 28 * 1440 - 120;
    let (from, to) = ("2026-03-02", "2026-03-30");
    let windows = [
        "[2026-03-05 12:20,2026-03-05 12:50)",
        "[2026-03-06 23:00,2026-03-08 01:30)",
    ];
    let told = compare(&world, 1, from, to, &windows).await;
    assert_eq!(told, (Some(due - 30 - 1590), 27 * 3600));

    keep("{ raw: 90d }");
    assert_eq!(world.number("SELECT count(*) FROM check_result").await, 0);
    let hours = [
        "[2026-03-05 12:00,2026-03-05 13:00)",
        "[2026-03-06 23:00,2026-03-08 02:00)",
    ];
    let told = compare(&world, 1, from, to, &hours).await;
    assert_eq!(told, (Some(due - 60 - 1620), 28 * 3600));
    // Cut to a range.
    let told = compare(&world, 1, from, "2026-03-07", &hours).await;
    assert_eq!(told, (Some(5 * 1440 - 60 - 60), 2 * 3600));

    keep("{ raw: 90d, hourly: 120d }");
    assert_eq!(world.number("SELECT count(*) FROM rollup_hour").await, 0);
    let days = ["[2026-03-07 00:00,2026-03-08 00:00)"];
    let told = compare(&world, 1, from, to, &days).await;
    assert_eq!(told, (Some(due - 1440), 24 * 3600));
}

#[actix_rt::test]
async fn an_incident_ends_with_its_site_and_maintenance_is_taken_off_it() {
    let world = world("uptime_incidents").await;
    let incidents = "
        INSERT INTO incident (site_id, location_id, began, opened, ended, closed, flaps)
        VALUES (1, 1, '2026-03-03 10:00', '2026-03-03 10:02', '2026-03-03 12:00', '2026-03-03 12:01', 0),
               (1, 1, '2026-03-04 10:10', '2026-03-04 10:12', '2026-03-04 10:40', '2026-03-04 10:41', 0),
               (1, 1, '2026-04-09 22:00', '2026-04-09 22:02', NULL, NULL, 0)";
    world.db.batch_execute(incidents).await.unwrap();
    // A part of the first one, and the second one.
    for [from, to] in [
        ["2026-03-03T11:00:00Z", "2026-03-03T11:30:00Z"],
        ["2026-03-04T10:00:00Z", "2026-03-04T11:00:00Z"],
    ] {
        done(
            &world,
            &["maintenance", "add", "x", "--from", from, "--to", to],
        );
    }
    let report = || {
        let json = done(
            &world,
            &[
                "report",
                "--from",
                "2026-03-02",
                "--to",
                "2026-04-20",
                "--site",
                "a",
                "--format",
                "json",
            ],
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let site = &json["sites"][0];
        (
            site["incidents"].as_i64().unwrap(),
            site["incidents_s"].as_f64().unwrap(),
            site["incident_open"].as_bool().unwrap(),
        )
    };
    // The site is due until the 10th, and down to its end.
    assert_eq!(report(), (2, 5400.0 + 7200.0, false));
    let view = "SELECT count(*) FROM incidents WHERE began = '2026-04-09 22:00' AND NOT open AND ended = '2026-04-10' AND lasted = '2 hours' AND closed IS NULL";
    assert_eq!(world.number(view).await, 1);
    // They are what they were when checks and hours are dropped, of which windows take off more, or less.
    let dropped = "UPDATE rollup_state SET raw_since = '2026-04-01', hours_since = '2026-03-04'";
    world.db.batch_execute(dropped).await.unwrap();
    assert_eq!(report(), (2, 5400.0 + 7200.0, false));
    // It is back, and still down.
    let back =
        "UPDATE site_revision SET until = NULL WHERE site_id = 1 AND since = '2026-03-10 12:00'";
    world.db.batch_execute(back).await.unwrap();
    let lasted = 5400.0 + (10.0 * 24.0 + 2.0) * 3600.0;
    assert_eq!(report(), (2, lasted, true));
    let open = "SELECT count(*) FROM incidents WHERE open AND ended IS NULL";
    assert_eq!(world.number(open).await, 1);
}

/// Windows that recur are written down a year ahead, by whoever keeps house.
#[actix_rt::test]
async fn what_recurs_goes_on_for_years() {
    let world = world("recurring").await;
    done(
        &world,
        &[
            "maintenance",
            "add",
            "nightly",
            "--cron",
            "0 3 * * * UTC",
            "--for",
            "10m",
        ],
    );
    let ahead = "SELECT extract(day FROM max(upper(span)) - now())::int8 FROM maintenance_span";
    assert!((395..=400).contains(&world.number(ahead).await));
    let late = "DELETE FROM maintenance_span WHERE lower(span) > now() + interval '150 days';
                UPDATE maintenance SET expanded_until = now() + interval '150 days'";
    world.db.batch_execute(late).await.unwrap();
    done(&world, &["housekeep"]);
    assert!((395..=400).contains(&world.number(ahead).await));
    let gaps = "SELECT count(*) FROM (SELECT lower(span) - lag(lower(span)) OVER (ORDER BY span) AS gap FROM maintenance_span) AS s WHERE gap <> '1 day'";
    assert_eq!(world.number(gaps).await, 0);
}

#[actix_rt::test]
async fn objectives_tell_what_is_left_of_the_error_budget_and_how_fast_it_burns() {
    let world = world("sla").await;
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
    done(
        &world,
        &[
            "maintenance",
            "add",
            "x",
            "--from",
            "2026-03-01T00:00:00Z",
            "--to",
            "2026-03-20T00:00:00Z",
        ],
    );
    let rows = world.query(sql).await;
    assert_eq!(rows[0].get::<_, i64>(1), 5);
    assert!((rows[0].get::<_, f64>(3) + 3900.0).abs() < 1e-6, "{rows:?}");
}

/// The report tells what SQL tells, in each of its forms.
#[actix_rt::test]
async fn a_report_says_what_the_history_says() {
    let world = world("report").await;
    let (from, to) = ("2026-03-02T00:00:00Z", "2026-03-30T00:00:00Z");
    let range = ["--from", from, "--to", to];
    let outages = "
        UPDATE site SET name = '<b>a & \"b\"</b>', url = 'http://x/?a=<script>' WHERE site_id = 3;
        INSERT INTO incident (site_id, location_id, began, opened, ended, closed, flaps)
        VALUES (2, 1, '2026-03-01 23:00', '2026-03-01 23:00', '2026-03-02 01:00', '2026-03-02 01:00', 0),
               (2, 2, '2026-03-02 00:30', '2026-03-02 00:30', '2026-03-02 02:00', '2026-03-02 02:00', 0),
               (2, 1, '2026-03-20 10:00', '2026-03-20 10:00', '2026-03-20 10:05', '2026-03-20 10:05', 0),
               (2, 1, '2026-04-02 10:00', '2026-04-02 10:00', NULL, NULL, 0)";
    world.db.batch_execute(outages).await.unwrap();
    done(
        &world,
        &[
            "maintenance",
            "add",
            "x",
            "--group",
            "web",
            "--from",
            "2026-03-03T12:00:00Z",
            "--for",
            "90m",
        ],
    );
    let report = |more: &[&str]| done(&world, &[&["report"], &range[..], more].concat());
    let json: serde_json::Value = serde_json::from_str(&report(&["--format", "json"])).unwrap();
    assert_eq!(
        (json["from"].as_str(), json["to"].as_str()),
        (
            Some("2026-03-02T00:00:00.000000Z"),
            Some("2026-03-30T00:00:00.000000Z")
        )
    );
    let sites = json["sites"].as_array().unwrap();
    let names: Vec<_> = sites
        .iter()
        .map(|site| site["site"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b", "<b>a & \"b\"</b>"]);
    for site in &sites[..2] {
        let told = uptime(&world, site["site"].as_str().unwrap(), from, to).await;
        let rounded =
            |value: &serde_json::Value| value.as_f64().map(|it| (it * 1000.0).round() / 1000.0);
        assert_eq!(
            [rounded(&site["uptime"]), rounded(&site["coverage"])],
            [told[0], told[1]],
            "{site}"
        );
        assert_eq!(site["maintenance_s"], 5400.0);
        let buckets = site["buckets"].as_array().unwrap();
        let good: i64 = buckets.iter().map(|it| it["good"].as_i64().unwrap()).sum();
        let up = "SELECT count(*) FROM check_result WHERE outcome = 0 AND slot >= '2026-03-02' AND slot < '2026-03-30' AND site_id = ";
        let up = world
            .number(&format!(
                "{up} (SELECT site_id FROM site WHERE name = '{}')",
                site["site"].as_str().unwrap()
            ))
            .await;
        assert_eq!((buckets.len(), good), (28, up));
    }
    // Two locations saw the first one, which is counted from the beginning of the range on.
    let b = &sites[1];
    assert_eq!(
        (
            b["incidents"].as_i64(),
            b["incidents_s"].as_f64(),
            b["incident_open"].as_bool()
        ),
        (Some(2), Some(7500.0), Some(false))
    );
    assert_eq!(b["budget_left"], 100.0);
    let p95 = b["p95_ms"].as_f64().unwrap();
    assert!((p95 / 1.002 - 1.0).abs() < 0.02, "{p95}");
    // The group: all that is said of a site, of both together.
    let web = &json["groups"][0];
    let both = |field: &'static str| sites[..2].iter().map(move |it| it[field].as_f64().unwrap());
    assert_eq!((&web["group"], &web["sites"]), (&"web".into(), &2.into()));
    for field in ["checks", "up", "down", "unknown", "expected", "incidents"] {
        assert_eq!(web[field].as_f64(), Some(both(field).sum()), "{field}");
    }
    let allowed: f64 = both("checks")
        .zip([0.01, 0.001])
        .map(|(n, part)| n * part)
        .sum();
    let left = 100.0 * (1.0 - both("down").sum::<f64>() / allowed);
    assert!(
        (web["budget_left"].as_f64().unwrap() - left).abs() < 1e-6,
        "{web}"
    );
    for (percentile, exact) in [("p50_ms", 1.002), ("p99_ms", 1.002)] {
        let told = web[percentile].as_f64().unwrap();
        assert!((told / exact - 1.0).abs() < 0.021, "{web}");
    }
    let buckets = web["buckets"].as_array().unwrap();
    let sum = |field: &str| {
        buckets
            .iter()
            .map(|it| it[field].as_f64().unwrap())
            .sum::<f64>()
    };
    assert_eq!((buckets.len(), sum("bad")), (28, 2.0 * (28.0 * 24.0 - 2.0)));
    let means = sum("mean_ms") / 28.0;
    assert!((1.0016..1.0018).contains(&means), "{means}");

    let csv = report(&["--format", "csv"]);
    assert_eq!(csv.lines().count(), 5, "{csv}");
    assert!(csv.lines().last().unwrap().starts_with(",web,2,,"), "{csv}");
    assert!(csv.contains("\"<b>a & \"\"b\"\"</b>\",,,"), "{csv}");
    let html = report(&["--format", "html", "--tz", "Europe/Berlin"]);
    assert!(
        html.contains("2026-03-02 01:00 CET to 2026-03-30 02:00 CEST"),
        "{html}"
    );
    assert!(
        html.contains("&lt;b&gt;a &amp; &quot;b&quot;&lt;/b&gt;")
            && !html.contains("<script")
            && !html.contains("<b>a"),
        "{html}"
    );
    assert!(
        !html.contains("src=") && !html.contains("href="),
        "all of it is in the file"
    );
    assert!(html.contains("<div class=\"dim\">2 sites</div>"), "{html}");
    let markdown = report(&["--format", "markdown"]);
    assert!(
        markdown.contains("\\<b\\>a & \"b\"") && markdown.contains("| web | 2 |"),
        "{markdown}"
    );
    let table = report(&[]);
    assert!(
        table.contains("96.6")
            && table.contains("[web], 2 sites  ")
            && table.contains("[no group]\n"),
        "{table}"
    );

    let named = |more: &[&str]| {
        let json: serde_json::Value =
            serde_json::from_str(&report(&[more, &["--format", "json"]].concat())).unwrap();
        json["sites"].as_array().unwrap().len()
    };
    assert_eq!(
        [
            named(&["--site", "a"]),
            named(&["--group", "web"]),
            named(&["--tag", "prod"])
        ],
        [1, 2, 2]
    );
    // To the minute, and of a range in which nothing is.
    assert_eq!(
        done(
            &world,
            &[
                "report",
                "--from",
                "2026-03-05T10:00",
                "--to",
                "2026-03-05T10:30",
                "--tz",
                "Asia/Tokyo",
                "--site",
                "a"
            ]
        )
        .matches('▄')
        .count(),
        0
    );
    let none = done(
        &world,
        &["report", "--from", "2020-01-01", "--to", "2020-01-02"],
    );
    assert!(none.contains("no site was due or checked"), "{none}");
    for (wrong, told) in [
        (
            &["--from", "soon"][..],
            "--from \"soon\": expected a date such as",
        ),
        (&["--tz", "Mars"], "expected a time zone"),
        (&["--site", "nobody"], "no site \"nobody\" has ever been"),
        (
            &["--from", "2026-03-05", "--to", "2026-03-04"],
            "is not before",
        ),
    ] {
        let output = program(&world, &[&["report"], wrong].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(64) && said.contains(told),
            "{wrong:?}: {said}"
        );
    }
}
