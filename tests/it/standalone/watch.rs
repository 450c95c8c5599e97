//! `--watch`: a line a result in pipes and files, a table on a terminal, which is given back as it was.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{Standalone, folder, program, write_settings};
use crate::support::Web;

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

#[actix_rt::test]
async fn a_terminal_has_the_table_in_place_and_is_given_back() {
    let (folder, web) = (folder(), Web::start());
    write_settings(folder.path(), &web);
    let node = program(folder.path());
    // util-linux's script gives it a terminal.
    let mut terminal = Command::new("script");
    let line = format!(
        "stty rows 10 cols 60; exec {} --role standalone --watch 2>log",
        node.get_program().display()
    );
    terminal
        .args(["-qefc", &line, "/dev/null"])
        .current_dir(folder.path())
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
    let shown = || String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !shown().contains("\x1b[32m✓ up") {
        assert!(Instant::now() < deadline, "{}", shown());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child.stdin.take().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", shown());
    reader.join().unwrap();
    let shown = shown();
    assert!(shown.starts_with("\x1b[?1049h\x1b[?25l"), "{shown}");
    assert!(
        shown.trim_end().ends_with("\x1b[?25h\x1b[?1049l"),
        "{shown}"
    );
}
