//! What a producer has called accepted, against what is stored.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::support::{Node, PATIENCE, World};

/// The results that a producer has called accepted: site and slot.
pub(crate) fn accepted(node: &Node) -> BTreeSet<(String, String)> {
    accepted_in_order(node).into_iter().collect()
}

/// The same in their order.
pub(crate) fn accepted_in_order(node: &Node) -> Vec<(String, String)> {
    let lines = node.log();
    let lines = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["msg"] == "accepted");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    lines
        .map(|line| (text(&line["site"]), text(&line["slot"])))
        .collect()
}

/// Waits until a producer has called so many results accepted, in all.
pub(crate) async fn wait_for_accepted(node: &Node, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = accepted(node).len();
        if found >= wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found} of {wanted} accepted\n{}",
            node.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All rows: site and slot.
pub(crate) async fn rows(world: &World) -> BTreeSet<(String, String)> {
    let sql = "SELECT site, to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM checks";
    let rows = world.query_so_far(sql).await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Waits until all of `wanted` are rows.
pub(crate) async fn wait_for_all(world: &World, wanted: &BTreeSet<(String, String)>) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if rows(world).await.is_superset(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stored = rows(world).await;
    let missing: Vec<_> = wanted.difference(&stored).take(5).collect();
    panic!("accepted, but no rows: {missing:?}\n{}", world.logs());
}
