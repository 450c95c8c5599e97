//! The audit: what it counts as what, on rows made for it, and on those of a producer that is killed.

mod categories;
mod lives;

use serde_json::Value;

use crate::support::World;

/// The exit code, the total and the sites.
fn audit(world: &World, arguments: &[&str]) -> (Option<i32>, Value) {
    let all = [&["audit", "--json"], arguments].concat();
    let output = world.program(&all).output().unwrap();
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|problem| panic!("{problem}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), told)
}

fn of<'a>(told: &'a Value, site: &str) -> &'a Value {
    let sites = told["sites"].as_array().unwrap();
    sites.iter().find(|each| each["site"] == site).unwrap()
}

/// expected, stored, missing, producer_down, unscheduled
fn numbers(told: &Value) -> [u64; 5] {
    [
        "expected",
        "stored",
        "missing",
        "producer_down",
        "unscheduled",
    ]
    .map(|name| told[name].as_u64().unwrap())
}
