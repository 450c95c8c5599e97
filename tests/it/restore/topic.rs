//! A database that is newer than the topic, since the topic was made again; and one that is new, for a topic that is not.

use crate::{
    support::{self, World},
    topic::{self, read, stored},
};

use super::{MINUTE, QUICK, announcement, assert_computed, audit, beside, checks, number, start};

async fn store_all(world: &World) {
    let mut consumer = world.node("consumer", QUICK);
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn a_topic_that_was_made_again_and_is_shorter_is_read_from_its_start() {
    let (world, start) = (World::new("shorter").await, start());
    world.create_topic(1).await;
    world.produce_keyed([announcement("a", start)]);
    world.produce_keyed(checks("a", start, 0..60));
    store_all(&world).await;
    world.make_topic_again(1).await;
    // As producers send it whose spools had not heard of some: the last ten come again.
    world.produce_keyed(checks("a", start, 50..90));
    let mut consumer = world.node("consumer", QUICK);
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("the rows of both topics", rows, 90).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let gap = "SELECT reason, from_offset, to_offset FROM kafka_gap";
    let gap = world.db.query_one(gap, &[]).await.unwrap();
    assert_eq!(
        (gap.get(0), gap.get(1), gap.get(2)),
        ("recreated", 61_i64, 0_i64)
    );
    let (code, told) = audit(&world, &world.database_url, start, start + 90 * MINUTE);
    assert_eq!((code, &told["total"]["stored"]), (Some(0), &90.into()));
    assert_computed(&world, &world.database_url).await;
}

/// What nobody can tell from the offsets alone is told by the operator, as docs/operating.md says.
#[actix_rt::test]
async fn a_topic_that_was_made_again_and_is_longer_is_read_whole_once_its_offsets_are_forgotten() {
    let (world, start) = (World::new("longer").await, start());
    world.create_topic(1).await;
    world.produce_keyed([announcement("a", start)]);
    world.produce_keyed(checks("a", start, 0..20));
    store_all(&world).await;
    world.make_topic_again(1).await;
    world.produce_keyed(checks("a", start, 20..90));
    let forget = format!("DELETE FROM kafka_offset WHERE topic = '{}'", world.topic);
    world.db.batch_execute(&forget).await.unwrap();
    store_all(&world).await;
    let (code, told) = audit(&world, &world.database_url, start, start + 90 * MINUTE);
    assert_eq!((code, &told["total"]["stored"]), (Some(0), &90.into()));
    assert_eq!(world.number("SELECT count(*) FROM kafka_gap").await, 0);
    assert_computed(&world, &world.database_url).await;
}

#[actix_rt::test]
async fn a_new_database_has_again_what_the_topic_still_has() {
    let (world, start) = (World::new("lost").await, start());
    world.create_topic(1).await;
    world.produce_keyed([announcement("a", start), announcement("b", start)]);
    for site in ["a", "b"] {
        world.produce_keyed(checks(site, start, 0..100));
    }
    store_all(&world).await;
    let before = stored(&world.db).await;
    // The last one of `a` and all of `b`, and no announcement.
    world.expire_before(2 + 99).await;

    let url = beside(&world).await;
    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    consumer.wait_for_log("reading").await;
    let db = support::connect(&url).await;
    let rows = "SELECT count(*) FROM checks";
    world
        .wait_until("the rows", async || number(&db, rows).await >= 101)
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let again = stored(&db).await;
    assert_eq!(again, topic::checks(&read(&world.topic, 1)));
    assert!(
        again
            .iter()
            .all(|(identity, content)| before[identity] == *content)
    );
    // It never had these: there is no gap, and without an announcement nothing is expected.
    assert_eq!(number(&db, "SELECT count(*) FROM kafka_gap").await, 0);
    let (code, told) = audit(&world, &url, start, start + 100 * MINUTE);
    assert_eq!((code, &told["unannounced"]), (Some(0), &101.into()));
    assert_computed(&world, &url).await;
}
