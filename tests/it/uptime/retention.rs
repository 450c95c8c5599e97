//! Uptime of a time whose checks and hours are dropped.

use super::{compare, history};

#[actix_rt::test]
async fn what_was_dropped_is_taken_off_by_the_hour_and_then_by_the_day() {
    let world = history("uptime_dropped").await;
    for [name, from, to] in [
        ["short", "2026-03-05T12:20:00Z", "2026-03-05T12:50:00Z"],
        ["long", "2026-03-06T23:00:00Z", "2026-03-07T11:20:00Z"],
        ["longer", "2026-03-07T11:20:00Z", "2026-03-08T01:30:00Z"],
    ] {
        let add = ["maintenance", "add", name, "--site", "a"];
        world.done(&[&add[..], &["--from", from, "--to", to]].concat());
    }
    // Only by what is stored today it is known that all of that is old.
    let today = "
        INSERT INTO site (name, url) VALUES ('today', 'http://today/');
        INSERT INTO site_location (site_id, location_id) SELECT max(site_id), 1 FROM site;
        INSERT INTO check_result (slot, site_id, location_id, lateness_ms, outcome, error) SELECT now(), max(site_id), 1, 0, 0, 0 FROM site";
    world.db.batch_execute(today).await.unwrap();
    let keep = |retention: &str| {
        let settings =
            format!("postgres: {{ max_slot_age: 30d, retention: {{ grace: 0s, {retention} }} }}\n");
        std::fs::write(world.folder.path().join("keep.yaml"), settings).unwrap();
        world.done(&["housekeep", "--config", "keep.yaml"]);
    };
    let due = 28 * 1440 - 120;
    let (from, to) = ("2026-03-02", "2026-03-30");
    let windows = [
        "[2026-03-05 12:20,2026-03-05 12:50)",
        "[2026-03-06 23:00,2026-03-08 01:30)",
    ];
    let told = compare(&world, 1, from, to, &windows).await;
    assert_eq!(told, (Some(due - 30 - 1590), 27 * 3600));

    keep("raw: 90d");
    assert_eq!(
        world.number("SELECT count(*) - 1 FROM check_result").await,
        0
    );
    let hours = [
        "[2026-03-05 12:00,2026-03-05 13:00)",
        "[2026-03-06 23:00,2026-03-08 02:00)",
    ];
    let told = compare(&world, 1, from, to, &hours).await;
    assert_eq!(told, (Some(due - 60 - 1620), 28 * 3600));
    // Cut to a range.
    let told = compare(&world, 1, from, "2026-03-07", &hours).await;
    assert_eq!(told, (Some(5 * 1440 - 60 - 60), 2 * 3600));

    keep("raw: 90d, hourly: 120d");
    assert_eq!(
        world
            .number("SELECT count(*) FROM rollup_hour WHERE hour < '2026-06-01'")
            .await,
        0
    );
    let days = ["[2026-03-07 00:00,2026-03-08 00:00)"];
    let told = compare(&world, 1, from, to, &days).await;
    assert_eq!(told, (Some(due - 1440), 24 * 3600));
}
