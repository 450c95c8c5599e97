//! A dump, restored into the very database that a consumer is connected to.

use std::process::Command;

use tokio_postgres::error::SqlState;

use crate::{
    cluster::{bin, run},
    support::World,
    topic::{self, read, stored},
};

use super::{MINUTE, QUICK, announcement, assert_computed, audit, checks, dump, number, start};

/// The numbers of sites in the dump are not those that the consumer remembers.
#[actix_rt::test]
async fn a_consumer_that_stays_connected_forgets_what_it_knew() {
    let (world, start) = (World::new("in_place").await, start());
    world.create_topic(1).await;
    let send = |site: &str, minutes: std::ops::Range<i64>| {
        if minutes.start == 0 {
            world.produce_keyed([announcement(site, start)]);
        }
        world.produce_keyed(checks(site, start, minutes));
    };
    send("a", 0..20);
    let mut consumer = world.node("consumer", QUICK);
    world.wait_until_stored().await;
    let backup = dump(&world, &world.database_url);
    // Of these two the dump has neither.
    send("c", 0..20);
    world.wait_until_stored().await;
    send("b", 0..20);
    world.wait_until_stored().await;
    let ids = "SELECT string_agg(name, ',' ORDER BY site_id) FROM site";
    let ids_before: String = world.db.query_one(ids, &[]).await.unwrap().get(0);

    // In one transaction, which nobody sees half of. What the consumer asks meanwhile waits for it.
    let script = world.folder.path().join("restore.sql");
    let mut restore = Command::new(bin().join("pg_restore"));
    run(restore
        .args(["--no-owner", "--file"])
        .arg(&script)
        .arg(&backup));
    let anew = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    run(Command::new("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", "--single-transaction"])
        .args([&world.database_url, "-c", anew, "-f"])
        .arg(&script));
    // Another one has added a site meanwhile: the number that `c` had is another's.
    let other = "INSERT INTO site (name, url) VALUES ('other', 'http://other/')";
    world.db.batch_execute(other).await.unwrap();

    send("a", 20..100);
    send("b", 20..100);
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(ids_before, "a,c,b");
    assert_eq!(
        stored(&world.db).await,
        topic::checks(&read(&world.topic, 1))
    );
    let strays =
        "SELECT count(*) FROM check_result WHERE site_id NOT IN (SELECT site_id FROM site)";
    assert_eq!(number(&world.db, strays).await, 0);
    let (code, told) = audit(&world, &world.database_url, start, start + 20 * MINUTE);
    assert_eq!((code, &told["total"]["stored"]), (Some(0), &60.into()));
    assert_computed(&world, &world.database_url).await;
}

/// A drop that retention had begun when the dump was made is finished, or begun anew, after it is restored.
#[actix_rt::test]
async fn a_partition_that_was_being_dropped_is_no_obstacle() {
    let world = World::new("half_dropped").await;
    let migrated = super::node(world.folder.path(), &world.database_url, &["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    // Two old partitions: one is detached as a whole, of the other a reader holds up the second half.
    let made = "
        SELECT make_partition('check_result', '2020-01-06', '2020-01-13');
        SELECT make_partition('check_result', '2020-01-13', '2020-01-20');
        INSERT INTO partition_drop (name, parent, reason) VALUES ('check_result_2020010600', 'check_result', 'retention'),
                                                                 ('check_result_2020011300', 'check_result', 'retention');
        ALTER TABLE check_result DETACH PARTITION check_result_2020010600";
    world.db.batch_execute(made).await.unwrap();
    let reader = crate::support::connect(&world.database_url).await;
    let hold = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM check_result";
    reader.batch_execute(hold).await.unwrap();
    let timeout = "SET statement_timeout = '500ms'";
    world.db.batch_execute(timeout).await.unwrap();
    let detach = "ALTER TABLE check_result DETACH PARTITION check_result_2020011300 CONCURRENTLY";
    let interrupted = world.db.batch_execute(detach).await.unwrap_err();
    assert_eq!(interrupted.code(), Some(&SqlState::QUERY_CANCELED));
    reader.batch_execute("COMMIT").await.unwrap();
    world.db.batch_execute("RESET ALL").await.unwrap();
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(number(&world.db, pending).await, 1);

    let backup = dump(&world, &world.database_url);
    let url = super::beside(&world).await;
    super::restore(&backup, &url, &["--no-owner"]);
    let at_once = "postgres: { retention: { grace: 0s } }\n";
    std::fs::write(world.folder.path().join("at_once.yaml"), at_once).unwrap();
    for _ in 0..2 {
        let keep = ["housekeep", "--config", "at_once.yaml"];
        let kept = super::node(world.folder.path(), &url, &keep);
        assert!(kept.status.success(), "{kept:?}");
    }
    let db = crate::support::connect(&url).await;
    let left = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relname LIKE 'check\\_result\\_2020%'";
    assert_eq!(number(&db, left).await, 0);
    assert_eq!(number(&db, "SELECT count(*) FROM partition_drop").await, 0);
}
