//! Declared maintenance: once, and again and again.

use super::{compare, history, uptime};
use crate::support::assert_told;

#[actix_rt::test]
async fn maintenance_does_not_count_whenever_it_is_declared_and_keeps_to_the_clock_on_the_wall() {
    let world = history("maintenance").await;
    let (from, to) = ("2026-03-02", "2026-03-30");
    // After the fact, for one site; overlapping ones are one.
    world.done(&[
        "maintenance",
        "add",
        "move",
        "--site",
        "a",
        "--from",
        "2026-03-03T12:00:00Z",
        "--to",
        "2026-03-03T18:00:00Z",
    ]);
    world.done(&[
        "maintenance",
        "add",
        "more",
        "--group",
        "web",
        "--from",
        "2026-03-03T17:00:00Z",
        "--for",
        "2h",
    ]);
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
    world.done(&cron);
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

    let listed = world.done(&["maintenance", "list"]);
    assert!(
        listed.contains("30 2 * * SUN Europe/Berlin for 45m") && listed.contains("group web"),
        "{listed}"
    );
    assert!(
        world
            .done(&["maintenance", "remove", "3"])
            .contains("removed")
    );
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
        let mut program = world.program(&[&["maintenance"], wrong].concat());
        assert_told(&program.output().unwrap(), 64, told);
    }
}

/// Windows that recur are written down a year ahead, by whoever keeps house.
#[actix_rt::test]
async fn what_recurs_goes_on_for_years() {
    let world = history("recurring").await;
    world.done(&[
        "maintenance",
        "add",
        "nightly",
        "--cron",
        "0 3 * * * UTC",
        "--for",
        "10m",
    ]);
    let ahead = "SELECT extract(day FROM max(upper(span)) - now())::int8 FROM maintenance_span";
    assert!((395..=400).contains(&world.number(ahead).await));
    let late = "DELETE FROM maintenance_span WHERE lower(span) > now() + interval '150 days';
                UPDATE maintenance SET expanded_until = now() + interval '150 days'";
    world.db.batch_execute(late).await.unwrap();
    world.done(&["housekeep"]);
    assert!((395..=400).contains(&world.number(ahead).await));
    let gaps = "SELECT count(*) FROM (SELECT lower(span) - lag(lower(span)) OVER (ORDER BY span) AS gap FROM maintenance_span) AS s WHERE gap <> '1 day'";
    assert_eq!(world.number(gaps).await, 0);
}
