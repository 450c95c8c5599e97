//! Forty days of checks of three sites, stored.

use super::World;

/// A world whose database has the schema and the forty days.
pub async fn forty_days(name: &str) -> World {
    let world = World::new(name).await;
    world.done(&["migrate"]);
    let history = include_str!("forty_days.sql");
    world.db.batch_execute(history).await.unwrap();
    world
}
