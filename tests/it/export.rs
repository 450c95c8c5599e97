//! The history on its way to elsewhere, whole and in little memory; and what other rules would have made of it. Real PostgreSQL.

use std::{
    fs::{self, File},
    io::Read,
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{
    PATIENCE, World, assert_told, ends, forty_days, resident, resident_while_it_runs, signals,
};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};

const RANGE: [&str; 4] = [
    "--from",
    "2026-03-02T00:00:00Z",
    "--to",
    "2026-03-12T06:00:00Z",
];

/// Forty days of three sites, whose failures have details.
async fn history(name: &str) -> World {
    let world = forty_days(name).await;
    let details = "
        UPDATE check_result SET error = 3, total_us = NULL, status = 503, ttfb_bucket = 50 WHERE outcome = 2;
        SELECT make_partition('check_detail', '2026-03-01', '2026-04-10');
        INSERT INTO check_detail (slot, site_id, location_id, detail)
        SELECT slot, site_id, location_id, 'no, \"not\" today ä' FROM check_result WHERE outcome = 2;
        ANALYZE";
    world.db.batch_execute(details).await.unwrap();
    world
}

/// All of them, told by the view.
const BY_VIEW: &str = "
    SELECT count(*), count(*) FILTER (WHERE error IS NOT NULL), sum(extract(epoch FROM slot))::int8, count(detail), sum(total_ms * 1000)::int8
      FROM checks WHERE slot >= '2026-03-02' AND slot < '2026-03-12 06:00'";

#[actix_rt::test]
async fn what_is_exported_is_what_is_stored_in_either_form() {
    let world = history("export").await;
    let by_view = world.db.query_one(BY_VIEW, &[]).await.unwrap();
    let by_view: Vec<i64> = (0..5).map(|n| by_view.get(n)).collect();

    let csv = world.done(&[&["export", "--format", "csv"], &RANGE[..]].concat());
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let head: Vec<_> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(head, sitewatch_actors::history::COLUMNS);
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let seconds = |text: &str| {
        let text = text.replace(' ', "T").replace("+00", "Z");
        text.parse::<jiff::Timestamp>().unwrap().as_second()
    };
    let count = |column: usize| lines.iter().filter(|line| !line[column].is_empty()).count() as i64;
    let sum: i64 = lines.iter().map(|line| seconds(&line[3])).sum();
    let total: i64 = lines
        .iter()
        .filter_map(|line| line[7].parse::<i64>().ok())
        .sum();
    assert_eq!(
        by_view,
        [lines.len() as i64, count(5), sum, count(10), total]
    );
    let order: Vec<_> = lines
        .iter()
        .map(|line| (line[0].to_owned(), line[2].to_owned(), line[3].to_owned()))
        .collect();
    assert!(order.is_sorted(), "each site's slots in their order");

    world.done(
        &[
            &["export", "--format", "parquet", "--out", "checks.parquet"],
            &RANGE[..],
        ]
        .concat(),
    );
    let file = File::open(world.folder.path().join("checks.parquet")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "what sites answered is in it");
    let reader = SerializedFileReader::new(file).unwrap();
    assert_eq!(
        reader.metadata().file_metadata().num_rows(),
        lines.len() as i64
    );
    for (row, line) in reader.get_row_iter(None).unwrap().zip(&lines) {
        let row = row.unwrap();
        for ((name, field), text) in row.get_column_iter().zip(line) {
            let shown = match field {
                Field::Null => String::new(),
                Field::Str(text) => text.clone(),
                Field::Int(number) => number.to_string(),
                Field::TimestampMicros(micros) => {
                    assert_eq!(*micros / 1_000_000, seconds(text));
                    continue;
                }
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(shown, text, "{name}");
        }
    }
    let one = world.done(&[&["export", "--format", "csv", "--site", "c"], &RANGE[..]].concat());
    assert_eq!(one.lines().count(), 1 + 10 * 24 + 6);
}

#[actix_rt::test]
async fn an_export_takes_little_memory_and_what_is_not_whole_is_not_there() {
    let world = history("export_fails").await;
    let export = [
        &[
            "export",
            "--format",
            "csv",
            "--from",
            "2026-03-01T00:00:00Z",
        ],
        &["--to", "2026-04-10T00:00:00Z"][..],
    ]
    .concat();
    // Nobody takes it: it waits, and does not gather it.
    let mut stuck = world
        .program(&export)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        stuck.try_wait().unwrap().is_none(),
        "so much fits into no pipe"
    );
    assert!(resident(stuck.id()) < 60 << 20, "{}", resident(stuck.id()));
    // A million checks, in ten row groups.
    let many = "
        INSERT INTO site_location VALUES (3, 2);
        INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
        SELECT '2026-03-02'::timestamptz + n * interval '1 second', 3, 2, n, 0, 0, 0 FROM generate_series(1, 900000) AS n";
    world.db.batch_execute(many).await.unwrap();
    let parquet = [
        "export",
        "--format",
        "parquet",
        "--from",
        "2026-03-01T00:00:00Z",
    ];
    let to = ["--to", "2026-04-10T00:00:00Z", "--out", "all.parquet"];
    let mut whole = world
        .program(&[&parquet[..], &to].concat())
        .spawn()
        .unwrap();
    let mut most = 0;
    while whole.try_wait().unwrap().is_none() {
        most = most.max(resident_while_it_runs(whole.id()).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let file = world.folder.path().join("all.parquet");
    let reader = SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
    let groups = reader.metadata().num_row_groups();
    println!("{groups} row groups with {} MB at most", most >> 20);
    assert!(
        groups > 9 && most > 0 && most < 150 << 20,
        "{groups}: {most}"
    );
    fs::remove_file(file).unwrap();

    // The connection is cut in the middle.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(world.number(cut).await >= 1);
    let mut taken = Vec::new();
    stuck
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut taken)
        .unwrap();
    let mut told = String::new();
    stuck
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert_eq!(stuck.wait().unwrap().code(), Some(69), "{told}");
    assert!(told.contains("PostgreSQL"), "{told}");

    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = world.program(&export).stdout(full).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(74) && told.contains("No space left"),
        "{told}"
    );
    for (file, told) in [("no/such/folder.csv", "No such file"), (".", "")] {
        let mut program = world.program(&[&export[..], &["--out", file]].concat());
        assert_told(&program.output().unwrap(), 74, told);
    }
    let left: Vec<_> = fs::read_dir(world.folder.path())
        .unwrap()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Waits until a process sleeps in its writes: nothing has been read from its pipe, which is full.
async fn wait_until_full(pipe: &std::process::ChildStdout) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let waiting = || rustix::io::ioctl_fionread(pipe).unwrap();
    while waiting() < 60_000 {
        assert!(std::time::Instant::now() < deadline, "{} bytes", waiting());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[actix_rt::test]
async fn a_signal_ends_an_export_that_nobody_reads_or_that_is_not_whole() {
    let world = history("export_signal").await;
    let range = [
        "--from",
        "2026-03-01T00:00:00Z",
        "--to",
        "2026-04-10T00:00:00Z",
    ];
    let export = |format: &str, more: &[&str]| {
        let arguments = [&["export", "--format", format], &range[..], more].concat();
        world.program(&arguments)
    };
    // Whoever runs these tests by nohup has SIGHUP ignored in them, and so in the programs that they start.
    let with_hangup = |how: &str| {
        let export = export("csv", &[]);
        let mut command = Command::new("env");
        command
            .arg(format!("--{how}-signal=HUP"))
            .arg(export.get_program())
            .args(export.get_args())
            .env("POSTGRES_URL", &world.database_url)
            .current_dir(world.folder.path());
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    for (hangup, name, code) in [
        ("default", "TERM", 143),
        ("default", "INT", 130),
        ("default", "HUP", 129),
        ("ignore", "TERM", 143),
    ] {
        let mut child = with_hangup(hangup);
        let pipe = child.stdout.take().unwrap();
        wait_until_full(&pipe).await;
        if hangup == "ignore" {
            signals::send(child.id(), "HUP").unwrap();
        }
        signals::send(child.id(), name).unwrap();
        assert_eq!(ends(&mut child, String::new).await, Some(code));
        drop(pipe);
    }

    // The rows wait for a lock, so the file can't be whole.
    let lock = world.db.batch_execute("BEGIN; LOCK TABLE check_result");
    lock.await.unwrap();
    let files = || fs::read_dir(world.folder.path()).unwrap().count();
    for format in ["csv", "parquet"] {
        let mut child = export(format, &["--out", "checks"]).spawn().unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while files() == 0 {
            assert!(std::time::Instant::now() < deadline, "nothing is made");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        signals::send(child.id(), "TERM").unwrap();
        assert_eq!(ends(&mut child, String::new).await, Some(143));
        assert_eq!(files(), 0, "{format}: a part is left");
    }
}

#[actix_rt::test]
async fn other_rules_tell_what_they_would_have_made_of_the_history_and_change_nothing() {
    let world = history("rejudge").await;
    let stored = "
        INSERT INTO incident (site_id, location_id, began, opened, ended, closed, flaps)
        VALUES (1, 1, '2026-03-02 05:00', '2026-03-02 05:01', '2026-03-02 05:02', '2026-03-02 05:03', 0),
               (2, 1, '2026-03-02 05:00', '2026-03-02 05:01', '2026-03-02 05:02', '2026-03-02 05:03', 0)";
    world.db.batch_execute(stored).await.unwrap();
    let rejudge = |rules: &str, more: &[&str]| {
        fs::write(world.folder.path().join("rules.yaml"), rules).unwrap();
        let day = [
            "rejudge",
            "--rules",
            "rules.yaml",
            "--from",
            "2026-03-02T00:00:00Z",
            "--to",
            "2026-03-03T00:00:00Z",
        ];
        world.program(&[&day[..], more].concat()).output().unwrap()
    };
    let counts = |output: std::process::Output| -> Vec<(String, usize, usize)> {
        assert!(output.status.success(), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let sites = json["sites"].as_array().unwrap().iter();
        let of = |site: &serde_json::Value, which: &str| site[which].as_array().unwrap().len();
        sites
            .map(|site| {
                (
                    site["site"].as_str().unwrap().to_owned(),
                    of(site, "stored"),
                    of(site, "other"),
                )
            })
            .collect()
    };
    // Site a fails twice in each hour, one after the other.
    let two = rejudge("failure_threshold: 2", &["--json"]);
    assert_eq!(
        counts(two),
        [("a".to_owned(), 1, 24), ("b".to_owned(), 1, 0)]
    );
    // As it was: three are needed.
    let as_it_was = rejudge("success_threshold: 2", &["--json"]);
    assert_eq!(
        counts(as_it_was),
        [("a".to_owned(), 1, 0), ("b".to_owned(), 1, 0)]
    );
    // One that never ends, since it flaps; it began the day before.
    let flapping = rejudge(
        "groups: { web: { failure_threshold: 2, flap_window: 1h } }",
        &["--json", "--site", "a"],
    );
    assert_eq!(counts(flapping), [("a".to_owned(), 1, 1)]);
    let told = rejudge(
        "sites: { a: { failure_threshold: 2 } }",
        &["--group", "web"],
    );
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.starts_with("2 incidents are stored, the other rules make 24"),
        "{told}"
    );
    assert!(
        told.contains("+ 2026-03-02T04:00:00.000000Z to 2026-03-02T04:02:00.000000Z, 2m"),
        "{told}"
    );
    assert_eq!(world.number("SELECT count(*) FROM incident").await, 2);

    // What is dropped can't be judged, which is said instead of "none".
    let dropped = "UPDATE rollup_state SET raw_since = '2026-03-02 12:00'";
    world.db.batch_execute(dropped).await.unwrap();
    let half = rejudge("failure_threshold: 2", &["--json"]);
    let said = String::from_utf8_lossy(&half.stderr).into_owned();
    assert!(
        said.contains("of before 2026-03-02T12:00:00.000000Z were dropped"),
        "{said}"
    );
    assert_eq!(counts(half), [("a".to_owned(), 0, 12)]);
    // Nor what goes on from before: both the stored and the other begin where nothing is known.
    let across = "
        UPDATE incident SET began = '2026-03-02 11:58', opened = '2026-03-02 11:59', ended = '2026-03-02 12:02', closed = '2026-03-02 12:02'
         WHERE site_id = 1";
    world.db.batch_execute(across).await.unwrap();
    let half = rejudge("failure_threshold: 2", &["--json", "--site", "a"]);
    assert_eq!(counts(half), [("a".to_owned(), 0, 11)]);
    let dropped = "UPDATE rollup_state SET raw_since = '2026-03-03 00:00'";
    world.db.batch_execute(dropped).await.unwrap();
    let none = rejudge("failure_threshold: 2", &[]);
    assert_told(&none, 64, "there are none in this time");
    let kept = "UPDATE rollup_state SET raw_since = '1970-01-01 00:00'";
    world.db.batch_execute(kept).await.unwrap();

    for (rules, code, told) in [
        ("failure_treshold: 2", 78, "did you mean"),
        (
            "sites: { nobody: { failure_threshold: 2 } }",
            64,
            "no site \"nobody\" has ever been",
        ),
    ] {
        assert_told(&rejudge(rules, &[]), code, told);
    }
}
