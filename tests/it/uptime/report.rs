//! The command `report`, in each of its forms.

use super::{history, uptime};
use crate::support::assert_told;

/// The report tells what SQL tells, in each of its forms.
#[actix_rt::test]
async fn a_report_says_what_the_history_says() {
    let world = history("report").await;
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
    world.done(&[
        "maintenance",
        "add",
        "x",
        "--group",
        "web",
        "--from",
        "2026-03-03T12:00:00Z",
        "--for",
        "90m",
    ]);
    let report = |more: &[&str]| world.done(&[&["report"], &range[..], more].concat());
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
        world
            .done(&[
                "report",
                "--from",
                "2026-03-05T10:00",
                "--to",
                "2026-03-05T10:30",
                "--tz",
                "Asia/Tokyo",
                "--site",
                "a"
            ])
            .matches('▄')
            .count(),
        0
    );
    let none = world.done(&["report", "--from", "2020-01-01", "--to", "2020-01-02"]);
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
        let mut program = world.program(&[&["report"], wrong].concat());
        assert_told(&program.output().unwrap(), 64, told);
    }
}
