//! A day in the life of three sites: stored by a consumer, and asked by each command.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{World, message};

/// The messages of a day in the life of three sites: failures and an incident, some twice, a placeholder whose check comes later, an
/// announcement, and what can't be stored.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let mut messages = vec![json!({
        "v": 1, "kind": "site", "site": "a", "url": "http://a/", "location": "test", "since": message("a", 0)["slot"],
        "interval_us": 1_000_000, "phase_us": 0, "check_limit_us": 1_000_000, "config_hash": "0000000000000000",
        "run": message("a", -10)["slot"], "group": "web", "tags": ["x", "y"], "sla_target": 99.5, "sla_window_us": 86_400_000_000_i64,
        "failure_threshold": 2, "success_threshold": 2, "flap_window_us": 0,
    })];
    for n in 0..200 {
        let mut check = message(["a", "b", "c"][n as usize % 3], n);
        match n {
            60..80 => {
                check["outcome"] = "down".into();
                check["error"] = "status_mismatch".into();
                check["error_detail"] = "503, \"not\" today ä\\ €".into();
                check["status"] = 503.into();
            }
            100 => {
                check["outcome"] = "unknown".into();
                check["error"] = "missed".into();
                messages.push(check.clone());
                check = message("b", n);
            }
            _ => check["ttfb_us"] = (1000 + n).into(),
        }
        messages.push(check.clone());
        if n % 10 == 0 {
            messages.push(check);
        }
    }
    let mut unknown_version = message("a", 500);
    unknown_version["v"] = 2.into();
    let mut of_long_ago = message("a", 0);
    of_long_ago["slot"] = "2020-01-01T00:00:00.000000Z".into();
    messages.extend([unknown_version, of_long_ago]);
    let mut messages: Vec<_> = messages
        .iter()
        .map(|it| it.to_string().into_bytes())
        .collect();
    messages.push(b"{not json, \xff".to_vec());
    messages
}

/// All that is stored, without what the moment or the order of arrival decides.
pub(super) const STORED: &str = "
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT row_to_json(c)::text AS line FROM (SELECT site, url, location, slot, outcome, error, status, total_ms, lateness_ms, detail, attempts FROM checks) AS c
        UNION ALL SELECT row_to_json(s)::text FROM (SELECT name, url, group_name, tags, sla_target, sla_window, told_since FROM site) AS s
        UNION ALL SELECT row_to_json(r)::text FROM (SELECT s.name, since, until, interval_us, phase_us, check_limit_us FROM site_revision JOIN site s USING (site_id)) AS r
        UNION ALL SELECT row_to_json(i)::text FROM (SELECT site, location, began, ended, error, detail, flaps, opened, closed FROM incidents) AS i
        UNION ALL SELECT row_to_json(h)::text FROM (SELECT s.name, h.* FROM rollup_hour h JOIN site s USING (site_id)) AS h
        UNION ALL SELECT row_to_json(d)::text FROM (SELECT s.name, d.* FROM rollup_day d JOIN site s USING (site_id)) AS d
        UNION ALL SELECT row_to_json(k)::text FROM (SELECT partition, next, judged FROM kafka_offset) AS k
        UNION ALL SELECT row_to_json(l)::text FROM (SELECT partition, kafka_offset, reason, detail, payload FROM dead_letter) AS l
    ) AS stored";

/// Who does it, and what came of it.
pub(super) struct Life<'a> {
    pub(super) world: &'a World,
    pub(super) url: String,
    pub(super) told: Vec<(String, String)>,
}

impl<'a> Life<'a> {
    pub(super) fn of(world: &'a World, url: String) -> Self {
        Self {
            world,
            url,
            told: Vec::new(),
        }
    }

    /// Runs a command that succeeds, or ends with `code`.
    pub(super) fn run_to(&mut self, code: i32, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
            .args(arguments)
            .env("POSTGRES_URL", &self.url)
            .current_dir(self.world.folder.path())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn run(&mut self, arguments: &[&str]) -> String {
        self.run_to(0, arguments)
    }

    pub(super) fn tell(&mut self, arguments: &[&str]) {
        let told = self.run(arguments);
        self.told.push((arguments.join(" "), told));
    }

    pub(super) async fn stores(&mut self, messages: &[Vec<u8>]) {
        let world = self.world;
        world.create_topic(1).await;
        world.produce_keyed(messages.iter().map(|it| ("k".to_owned(), it.clone())));
        let settings = "postgres: { writers: 1, batch: { max_rows: 50, max_age: 50ms } }\n";
        let mut consumer = world.node_with("consumer", settings, &[("POSTGRES_URL", &self.url)]);
        let all = messages.len() as i64;
        world
            .wait_for(
                "all messages",
                "SELECT coalesce(max(next), 0) FROM kafka_offset",
                all,
            )
            .await;
        // Its sessions do nothing for longer than some would allow, and are still there.
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sitewatch-node'
            AND state = 'idle' AND clock_timestamp() - state_change > interval '1.5 s'";
        world.wait_for("sessions that wait", idle, 1).await;
        assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
        let log = consumer.log();
        assert!(
            !log.contains("can't be used")
                && !log.contains("does not work")
                && !log.contains("connection to PostgreSQL is lost"),
            "{log}"
        );
    }

    pub(super) async fn is_asked(&mut self, from: &str, to: &str) {
        let range = ["--from", from, "--to", to];
        for format in ["table", "csv", "json", "html", "markdown"] {
            self.tell(&[&["report", "--format", format], &range[..]].concat());
        }
        self.tell(&[&["export", "--format", "csv"], &range[..]].concat());
        self.run(
            &[
                &["export", "--format", "parquet", "--out", "checks.parquet"],
                &range[..],
            ]
            .concat(),
        );
        let file = fs::read(self.world.folder.path().join("checks.parquet")).unwrap();
        self.told.push(("parquet".to_owned(), format!("{file:?}")));
        let audit = self.run_to(1, &["audit", "--json", "--since", from, "--until", to]);
        let audit: Value = serde_json::from_str(&audit).unwrap();
        self.told.push(("audit".to_owned(), audit.to_string()));
        fs::write(
            self.world.folder.path().join("rules.yaml"),
            "failure_threshold: 3\nflap_window: 1h\n",
        )
        .unwrap();
        self.tell(&[&["rejudge", "--rules", "rules.yaml", "--json"], &range[..]].concat());
    }

    pub(super) async fn maintains(&mut self) {
        self.run(&[
            "maintenance",
            "add",
            "each night",
            "--site",
            "a",
            "--cron",
            "30 2 * * * Asia/Kathmandu",
            "--for",
            "90m",
            "--from",
            "2026-01-01T00:00:00Z",
        ]);
        self.run(&[
            "maintenance",
            "add",
            "once",
            "--group",
            "web",
            "--from",
            "2031-01-01T00:00:00Z",
            "--for",
            "36h",
        ]);
        let listed = self.run(&["maintenance", "list", "--json"]);
        let windows = listed.lines().map(|line| {
            let mut window: Value = serde_json::from_str(line).unwrap();
            window["declared_by"].take();
            window.to_string()
        });
        self.told
            .push(("maintenance".to_owned(), windows.collect()));
        self.run(&["maintenance", "remove", "2"]);
        assert!(!self.run(&["maintenance", "list"]).contains("once"));
    }

    pub(super) async fn handles_letters(&mut self) {
        let listed = self.run(&["dead-letter", "list", "--json"]);
        let letters = listed.lines().map(|line| {
            let mut letter: Value = serde_json::from_str(line).unwrap();
            letter["received_at"].take();
            letter["topic"].take();
            letter.to_string()
        });
        self.told.push(("letters".to_owned(), letters.collect()));
        let shown = self.run(&["dead-letter", "show", "2"]);
        let shown = shown
            .lines()
            .filter(|line| !line.contains("received") && !line.contains("topic"));
        self.told.push(("letter".to_owned(), shown.collect()));
        self.tell(&[
            "dead-letter",
            "replay",
            "--all",
            "--max-slot-age",
            "100000d",
        ]);
        self.tell(&["dead-letter", "discard", "--all", "--yes"]);
        self.run(&["housekeep"]);
    }
}
