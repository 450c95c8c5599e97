//! After the faults: everything works again, the producers end, what they have accepted arrives, the consumers end.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    fault::Node,
    kafka::{self, TOPIC},
    rig::Rig,
    settings::PROGRAM,
};

/// How long the nodes run without faults before the producers are told to end.
const CALM: Duration = Duration::from_secs(5);
/// How long the consumers may take to store what is in the topic, from the last progress on.
const STALLED: Duration = Duration::from_secs(60);
/// How long the spool of a producer that has ended may take to empty.
const DRAIN: Duration = Duration::from_secs(60);

/// Brings all of it to an orderly end. Gives what is not as it should be.
pub(crate) async fn recover(rig: &mut Rig) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    rig.nodes.calm().await?;
    tokio::time::sleep(CALM).await;
    rig.nodes.look_after()?;
    println!("         the producers end");
    rig.nodes.stop(Node::PRODUCERS).await;
    for node in Node::PRODUCERS {
        problems.extend(drain(rig, node).await?);
    }
    println!("         the consumers catch up");
    problems.extend(catch_up(rig).await?);
    rig.nodes.stop(Node::CONSUMERS).await;
    Ok(problems)
}

/// What a producer could not send before it ended is sent now, by the command for it.
async fn drain(rig: &Rig, node: Node) -> Result<Option<String>, Failure> {
    let run = |action: &str| {
        let mut command = tokio::process::Command::new(PROGRAM);
        command
            .args(["spool", action, "--config"])
            .arg(rig.nodes.settings.file(node))
            .current_dir(&rig.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    };
    let Ok(drained) = tokio::time::timeout(DRAIN, run("drain").output()).await else {
        return Ok(Some(format!(
            "the spool of {} is not drained in {DRAIN:?}",
            node.name()
        )));
    };
    let (drained, status) = (drained?, run("status").output().await?);
    println!(
        "         spool of {}: {}",
        node.name(),
        String::from_utf8_lossy(&status.stdout)
            .trim()
            .replace('\n', ", ")
    );
    Ok((!drained.status.success()).then(|| {
        let said = String::from_utf8_lossy(&drained.stderr);
        format!(
            "the spool of {} can't be drained: {}",
            node.name(),
            said.trim()
        )
    }))
}

/// Waits until the stored offsets are the topic's ends.
async fn catch_up(rig: &mut Rig) -> Result<Option<String>, Failure> {
    let inside = rig.kafka.inside();
    let ends = tokio::task::spawn_blocking(move || kafka::ends(&inside)).await??;
    let db = rig
        .postgres
        .connect_within("sitewatch", Duration::from_secs(30))
        .await?;
    let mut before = Vec::new();
    let mut progress = Instant::now();
    loop {
        let sql = "SELECT partition, next FROM kafka_offset WHERE topic = $1 ORDER BY partition";
        // Without any message the tables are not made.
        let rows = db.query(sql, &[&TOPIC]).await?;
        let stored: Vec<(i32, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let left: Vec<_> = (0..)
            .zip(&ends)
            .filter(|(partition, end)| **end > 0 && !stored.contains(&(*partition, **end)))
            .collect();
        if left.is_empty() {
            return Ok(None);
        }
        if stored != before {
            before = stored;
            progress = Instant::now();
        } else if progress.elapsed() > STALLED {
            return Ok(Some(format!(
                "the consumers have stopped: stored (partition, next) {before:?}, the topic's ends {ends:?}"
            )));
        }
        rig.nodes.look_after()?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
