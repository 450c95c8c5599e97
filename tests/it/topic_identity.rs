//! Offsets mean nothing without their topic: one that was made again is recognised by what it holds, also when it has grown past what was
//! stored, and also under a consumer that runs. Whatever happens to a topic, no consumer stands still.

use crate::support::{World, free_port, message, metric, page, wait_for_metric};

const QUICK: &str = "postgres: { batch: { max_age: 50ms } }\n";

fn messages(site: &'static str, count: i64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |n| message(site, n).to_string().into_bytes())
}

fn rows(site: &str) -> String {
    format!("SELECT count(*) FROM checks WHERE site = '{site}'")
}

/// Breaks that were recorded: reason, up to where was stored, from where it is read.
async fn breaks(world: &World) -> Vec<(String, i64, i64)> {
    let gaps = "SELECT reason, from_offset, to_offset FROM kafka_gap ORDER BY gap_id";
    let gaps = world.db.query(gaps, &[]).await.unwrap();
    gaps.iter()
        .map(|gap| (gap.get(0), gap.get(1), gap.get(2)))
        .collect()
}

#[actix_rt::test]
async fn a_topic_that_was_made_again_is_recognised_though_it_has_grown_past_what_was_stored() {
    let world = World::new("grown").await;
    world.create_topic(1).await;
    world.produce(messages("first", 20));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", &rows("first"), 20).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    world.make_topic_again(1).await;
    world.produce(messages("second", 50));
    let mut consumer = world.node("consumer", QUICK);
    world
        .wait_for("all of the second topic", &rows("second"), 50)
        .await;
    assert_eq!(breaks(&world).await, [("recreated".to_owned(), 20, 0)]);
    consumer
        .wait_for_log("Kafka holds another message than the one that was stored")
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    // It is the one that is known now.
    let mut consumer = world.node("consumer", QUICK);
    world.produce(messages("third", 5));
    world.wait_for("more of it", &rows("third"), 5).await;
    assert_eq!(breaks(&world).await.len(), 1);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// Shorter than before, longer, and of as many messages as before.
#[actix_rt::test]
async fn a_topic_that_is_made_again_under_a_consumer_is_read_from_its_beginning() {
    let remade = [5, 20, 50].map(async |count| {
        let world = World::new(&format!("remade_{count}")).await;
        world.create_topic(1).await;
        world.produce(messages("first", 20));
        let mut consumer = world.node("consumer", QUICK);
        world.wait_for("rows", &rows("first"), 20).await;
        world.make_topic_again(1).await;
        world.produce(messages("second", count));
        world
            .wait_for("all of the second topic", &rows("second"), count)
            .await;
        // What has come of a longer one before it was looked at it is stored already.
        let found = breaks(&world).await;
        let [(reason, from, 0)] = &found[..] else {
            panic!("{count}: {found:?}");
        };
        assert!(
            reason == "recreated" && (20..=50).contains(from),
            "{count}: {found:?}"
        );
        world.produce(messages("third", 5));
        world.wait_for("more of it", &rows("third"), 5).await;
        assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    });
    futures_util::future::join_all(remade).await;
}

#[actix_rt::test]
async fn a_consumer_that_retention_has_overtaken_reads_on_where_the_topic_begins() {
    let world = World::new("overtaken_running").await;
    world.create_topic(1).await;
    world.produce(messages("first", 20));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", &rows("first"), 20).await;
    consumer.signal("STOP");
    // The broker still answers what was asked before, for half a second.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    world.produce(messages("second", 50));
    world.expire_before(60).await;
    consumer.signal("CONT");
    world.wait_for("what is left", &rows("second"), 10).await;
    assert_eq!(breaks(&world).await, [("retention".to_owned(), 20, 60)]);
    world.produce(messages("third", 5));
    world.wait_for("more of it", &rows("third"), 5).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// What an earlier program or a person has moved has no fingerprint, and is taken for what it says.
#[actix_rt::test]
async fn an_offset_that_was_moved_by_hand_is_believed() {
    let world = World::new("moved").await;
    world.create_topic(1).await;
    world.produce(messages("a", 20));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", &rows("a"), 20).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let back = "DELETE FROM check_result; UPDATE kafka_offset SET next = 15";
    world.db.batch_execute(back).await.unwrap();
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows again", &rows("a"), 5).await;
    world.wait_until_stored().await;
    assert_eq!(breaks(&world).await, []);
    assert_eq!(world.number(&rows("a")).await, 5);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// It would have as many partitions as the broker thinks.
#[actix_rt::test]
async fn a_topic_that_was_deleted_is_not_made_again_by_who_reads_it() {
    let world = World::new("deleted").await;
    world.create_topic(1).await;
    world.produce(messages("a", 5));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_for("rows", &rows("a"), 5).await;
    world.delete_topic().await;
    consumer
        .wait_for_log("the topic does not exist (yet)")
        .await;
    // Now only what somebody else makes is there.
    world.try_create_topic(3).await.unwrap();
    world.produce(messages("b", 30));
    world.wait_for("all of the new topic", &rows("b"), 30).await;
    let partitions = "SELECT count(*) FROM kafka_offset";
    assert_eq!(world.number(partitions).await, 3);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn messages_that_wait_for_a_minute_while_none_is_stored_are_a_failure_that_shows() {
    let world = World::new("standstill").await;
    world.create_topic(1).await;
    let port = free_port();
    let settings = format!("node: {{ listen: '127.0.0.1:{port}' }}\n{QUICK}");
    let mut consumer = world.node("consumer", &settings);
    world.produce(messages("a", 5));
    world.wait_for("rows", &rows("a"), 5).await;
    let locked = "BEGIN; LOCK TABLE kafka_offset";
    let holder = crate::support::connect(&world.database_url).await;
    holder.batch_execute(locked).await.unwrap();
    world.produce(messages("b", 5));
    wait_for_metric(port, "sitewatch_consumer_stalled", 1).await;
    let ready = page(port, "/readyz");
    assert!(
        ready.contains(" 503 ") && ready.contains("5 messages wait, and none was stored for "),
        "{ready}"
    );
    consumer
        .wait_for_log("messages wait, and none is stored")
        .await;
    holder.batch_execute("COMMIT").await.unwrap();
    world.wait_for("rows", &rows("b"), 5).await;
    consumer.wait_for_log("messages are stored again").await;
    assert_eq!(metric(port, "sitewatch_consumer_stalled"), 0);
    assert!(page(port, "/readyz").contains(" 200 "));
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

/// By seconds that this machine's clock is ahead.
async fn with_a_clock(world: &World, ahead: i64, settings: &str) -> crate::support::Node {
    let point = format!("wall_clock::ahead=return({ahead})");
    world.node_with("consumer", settings, &[("FAILPOINTS", &point)])
}

#[actix_rt::test]
async fn a_consumer_whose_clock_is_wrong_stops_and_buries_nothing() {
    let world = World::new("wrong_clock_reads").await;
    world.create_topic(1).await;
    for ahead in [-86_400, 100 * 86_400] {
        let port = free_port();
        let settings = format!("node: {{ listen: '127.0.0.1:{port}' }}\n{QUICK}");
        world.produce(messages("a", 20));
        let mut consumer = with_a_clock(&world, ahead, &settings).await;
        consumer
            .wait_for_log("nothing is read: this machine's clock and the database's differ by more than an hour")
            .await;
        let ready = page(port, "/readyz");
        assert!(
            ready.contains(" 503 ") && ready.contains("ahead of the database's"),
            "{ready}"
        );
        assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    }
    assert_eq!(world.number(&rows("a")).await, 0);
    // Less than an hour: slots are judged by the database's time.
    let mut consumer = with_a_clock(&world, -1800, QUICK).await;
    world.wait_for("rows", &rows("a"), 20).await;
    world.wait_until_stored().await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
