//! Incidents, their ends, and the maintenance within them.

use super::history;

#[actix_rt::test]
async fn an_incident_ends_with_its_site_and_maintenance_is_taken_off_it() {
    let world = history("uptime_incidents").await;
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
        world.done(&["maintenance", "add", "x", "--from", from, "--to", to]);
    }
    let report = || {
        let json = world.done(&[
            "report",
            "--from",
            "2026-03-02",
            "--to",
            "2026-04-20",
            "--site",
            "a",
            "--format",
            "json",
        ]);
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
