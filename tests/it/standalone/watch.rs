//! `--watch`: a line a result in pipes and files, a table on a terminal, which is given back as it was.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Standalone, folder, program, write_settings};
use crate::support::{self, Web};

#[actix_rt::test]
async fn in_a_pipe_each_result_is_a_line_and_a_closed_pipe_ends_only_the_lines() {
    let (folder, web) = (folder(), Web::start());
    let mut node = Standalone::start_with(folder.path(), &web, false, &[], &["--watch"]);
    let mut out = BufReader::new(node.child.stdout.take().unwrap());
    let mut slots = HashSet::new();
    for _ in 0..4 {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let fields: Vec<_> = line.trim_end().split('\t').collect();
        assert_eq!(fields.len(), 6, "{line:?}");
        assert_eq!(fields[1..4], ["up", "up", "200"], "{line:?}");
        assert!(fields[4].ends_with(" ms") && fields[5] == "-", "{line:?}");
        assert!(slots.insert(fields[0].to_owned()), "twice: {line:?}");
    }
    drop(out);
    node.wait_for_log("results are not shown any more, the node goes on")
        .await;
    let rows = node.rows(5).await;
    node.rows(rows + 2).await;
    node.stop();
}

/// A node on a terminal of 10 rows, by util-linux's script.
struct Terminal {
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself. Its node ends with the terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    fn start(folder: &Path) -> Self {
        let node = program(folder);
        let mut terminal = Command::new("script");
        let line = format!(
            "stty rows 10 cols 60; exec {} --role standalone --watch 2>log",
            node.get_program().display()
        );
        terminal
            .args(["-qefc", &line, "/dev/null"])
            .current_dir(folder)
            .env_remove("NO_COLOR")
            .env_remove("POSTGRES_URL")
            .env_remove("KAFKA_SERVER")
            .env("TERM", "xterm")
            .env("SITEWATCH__DEFAULTS__ALLOW_PRIVATE", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = terminal.spawn().unwrap();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut out, kept) = (child.stdout.take().unwrap(), Arc::clone(&seen));
        let reader = std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut some) {
                kept.lock().unwrap().extend_from_slice(&some[..read]);
            }
        });
        Self {
            child,
            seen,
            reader: Some(reader),
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    async fn shows(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.shown().contains(text) {
            assert!(Instant::now() < deadline, "{}", self.shown());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it by Ctrl-C; gives all that it has shown.
    fn end(mut self) -> String {
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(b"\x03").unwrap();
        self.ended(0)
    }

    /// Ends it by Ctrl-C again and again; gives all that it has shown.
    fn end_at_once(mut self) -> String {
        let mut stdin = self.child.stdin.take().unwrap();
        while self.child.try_wait().unwrap().is_none() {
            // It may end meanwhile.
            let _ = stdin.write_all(b"\x03");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ended(130)
    }

    fn ended(&mut self, code: i32) -> String {
        let found = self.child.wait().unwrap().code();
        assert_eq!(found, Some(code), "{}", self.shown());
        self.reader.take().unwrap().join().unwrap();
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }
}

#[actix_rt::test]
async fn a_terminal_has_the_table_in_place_and_is_given_back() {
    let (folder, web) = (folder(), Web::start());
    write_settings(folder.path(), &web);
    let terminal = Terminal::start(folder.path());
    terminal.shows("\x1b[32m✓ up").await;
    let shown = terminal.end();
    assert!(shown.starts_with("\x1b[?1049h\x1b[?25l"), "{shown}");
    assert!(
        shown.trim_end().ends_with("\x1b[?25h\x1b[?1049l"),
        "{shown}"
    );
}

#[actix_rt::test]
async fn a_terminal_is_given_back_by_a_second_signal_too() {
    let (folder, web) = (folder(), Web::start());
    write_settings(folder.path(), &web);
    let terminal = Terminal::start(folder.path());
    terminal.shows("✓ up").await;
    let shown = terminal.end_at_once();
    // What follows is the terminal's echo of more signals.
    let (taken, given) = (shown.rfind("\x1b[?1049h"), shown.rfind("\x1b[?1049l"));
    assert!(given > taken, "{shown}");
}

#[actix_rt::test]
async fn what_is_new_is_shown_however_much_it_is() {
    let (folder, web) = (folder(), Web::start());
    let mut node = Standalone::start(folder.path(), &web, false, &[]);
    node.rows(1).await;
    let client = support::connect(&node.url().await).await;
    // One question is for 10,000 rows: those of an hour ago until half an hour ago fill it, and what comes after them is not of the last
    // minute, which later questions would be for.
    let many = "
        INSERT INTO site (name, url) VALUES ('many', 'http://many/'), ('single', 'http://single/');
        INSERT INTO site_location (site_id, location_id)
        SELECT site_id, location_id FROM site, location WHERE site.name <> 'up';
        DO $$ BEGIN
            PERFORM make_partition('check_result', day, day + interval '1 day')
               FROM (SELECT date_trunc('day', now() - interval '1 hour', 'UTC')) AS the (day)
              WHERE day < date_trunc('day', now(), 'UTC');
        EXCEPTION WHEN invalid_object_definition THEN
            NULL; -- There is a wider one.
        END $$;
        INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
        SELECT now() - interval '50 minutes' + n * interval '0.1 s', site_id, location_id, n, 0, 0, 0
          FROM site JOIN site_location USING (site_id), generate_series(1, 12000) AS n WHERE name = 'many'
         UNION ALL
        SELECT now() - interval '10 minutes', site_id, location_id, 1, 0, 0, 0
          FROM site JOIN site_location USING (site_id) WHERE name = 'single'";
    client.batch_execute(many).await.unwrap();
    node.stop();
    let terminal = Terminal::start(folder.path());
    terminal.shows("✓ single").await;
    terminal.end();
}
