//! A base backup that is taken while rows are stored, and the server lost some time after it.

use std::time::Duration;

use crate::{
    cluster::Cluster,
    support::{self, Web, World},
    topic::{checks, read, stored},
};

use super::{QUICK, assert_judged, audit};

fn sites(web: &Web, more: &str) -> String {
    let (up, bad) = (web.url("/up"), web.url("/500"));
    format!(
        "node: {{ location: here }}\ndefaults: {{ interval: 1s, timeout: 1s }}\nsites:\n\
         - {{ name: well, url: '{up}' }}\n- {{ name: ill, url: '{bad}' }}\n{more}"
    )
}

#[actix_rt::test]
async fn a_base_backup_taken_under_load_and_the_topic_make_the_database_whole_again() {
    let (mut world, web) = (World::new("restore").await, Web::start());
    world.create_topic(2).await;
    let cluster = Cluster::new("restore").await;
    world.database_url = cluster.url("sitewatch");
    world.reconnect().await;
    let mut producer = world.node("producer", &sites(&web, ""));
    let mut consumer = world.node("consumer", QUICK);
    let rows = "SELECT count(*) FROM checks";
    world.wait_for("rows before the backup", rows, 6).await;

    let backup = cluster.base_backup("restored");
    // What the backup knows nothing of: another site, a message that can't be stored, an incident.
    let later = format!("- {{ name: later, url: '{}' }}\n", web.url("/text"));
    std::fs::write(&producer.file, sites(&web, &later)).unwrap();
    producer.signal("HUP");
    world.produce([b"no JSON".to_vec()]);
    let after = "SELECT count(*) FROM checks WHERE site = 'later'";
    world.wait_for("rows after the backup", after, 3).await;
    let incident = "SELECT count(*) FROM incidents WHERE site = 'ill'";
    world.wait_for("an incident", incident, 1).await;

    cluster.kill();
    let port = cluster.port;
    drop(cluster);
    // The consumer tries on meanwhile, with a batch in its hands that the backup does not expect.
    consumer.wait_for_log("PostgreSQL can't be used").await;
    let restored = backup.start_at(port);
    world.reconnect().await;
    world.wait_for("rows once more", after, 3).await;

    assert_eq!(producer.stop(), Some(0), "{}", producer.log());
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let url = restored.url("sitewatch");
    let db = support::connect(&url).await;
    assert_eq!(stored(&db).await, checks(&read(&world.topic, 2)));
    let (first, last) = span(&world).await;
    let rows = world.number(rows).await;
    let (code, told) = loop {
        // The last checks might still have been under way a moment ago, as far as it knows.
        let (code, told) = audit(&world, &url, first, last + 1);
        if told["total"]["expected"] == rows {
            break (code, told);
        }
        assert!(told["total"]["expected"].as_i64().unwrap() < rows, "{told}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((code, &told["complete"]), (Some(0), &true.into()), "{told}");
    let letters = "SELECT count(*) FROM dead_letter";
    assert_eq!(super::number(&db, letters).await, 1);
    assert_eq!(
        super::number(&db, "SELECT count(*) FROM kafka_gap").await,
        0
    );
    assert_judged(&world, &url).await;
}

/// The first and the last slot that has a row.
async fn span(world: &World) -> (i64, i64) {
    let sql = "SELECT (extract(epoch FROM min(slot)) * 1000000)::int8, (extract(epoch FROM max(slot)) * 1000000)::int8 FROM check_result";
    let row = world.db.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}
