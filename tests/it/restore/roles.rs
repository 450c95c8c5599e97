//! A dump in another cluster: whose owner and roles are others, and which knows nothing of those of the first.

use std::{path::Path, process::Command};

use crate::{
    cluster::{Cluster, run},
    support::{self, Node, World},
    topic::{self, read, stored},
};

use super::{MINUTE, QUICK, announcement, audit, checks, dump, node, number, restore, start};

/// Restores into the cluster, for an owner of its own; the owner's URL.
async fn restore_for_keeper(backup: &Path, cluster: &Cluster) -> String {
    let admin = support::connect(&cluster.url("postgres")).await;
    for statement in [
        "CREATE ROLE keeper LOGIN CREATEROLE",
        "CREATE ROLE stranger LOGIN",
        "CREATE DATABASE moved OWNER keeper",
    ] {
        admin.batch_execute(statement).await.unwrap();
    }
    let owner = cluster.url("moved").replace("sitewatch@", "keeper@");
    restore(backup, &owner, &["--no-owner", "--no-privileges"]);
    owner
}

fn make_roles(owner: &str) {
    let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/roles.sql");
    run(Command::new("psql").args(["-q", owner, "-f", roles]));
}

/// Starts a consumer as the role for consumers, on the owner's database.
fn consume_from(world: &mut World, owner: &str) -> Node {
    world.database_url = owner.replace("keeper@", "sitewatch_consumer@");
    world.node("consumer", QUICK)
}

/// Waits until the consumer has stored all that is in the topic, ends it, and leaves the world with the owner's database.
async fn stores_all(world: &mut World, consumer: &mut Node, owner: String) {
    world.database_url = owner;
    world.reconnect().await;
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert_eq!(
        stored(&world.db).await,
        topic::checks(&read(&world.topic, 1))
    );
}

#[actix_rt::test]
async fn owner_and_roles_of_another_cluster_have_their_rights_after_a_restore() {
    let (mut world, start) = (World::new("roles").await, start());
    world.create_topic(1).await;
    world.produce_keyed([announcement("a", start)]);
    world.produce_keyed(checks("a", start, 0..40));
    let mut consumer = world.node("consumer", QUICK);
    world.wait_until_stored().await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let backup = dump(&world, &world.database_url);

    let cluster = Cluster::new("roles").await;
    let owner = restore_for_keeper(&backup, &cluster).await;

    // Without its rights everyone may call a function: `migrate`, as the owner, takes that back.
    let rights = "SELECT count(*) FILTER (WHERE has_function_privilege('stranger', oid, 'EXECUTE')) FROM pg_proc WHERE proname = 'make_partition'";
    let db = support::connect(&owner).await;
    let migrated = node(world.folder.path(), &owner, &["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    assert_eq!(number(&db, rights).await, 0, "make_partition is everyone's");
    let grant = "GRANT EXECUTE ON FUNCTION make_partition TO PUBLIC";
    db.batch_execute(grant).await.unwrap();
    make_roles(&owner);
    assert_eq!(number(&db, rights).await, 0, "make_partition is everyone's");

    world.produce_keyed(checks("a", start, 40..90));
    let mut consumer = consume_from(&mut world, &owner);
    stores_all(&mut world, &mut consumer, owner).await;
    let (code, told) = audit(&world, &world.database_url, start, start + 90 * MINUTE);
    assert_eq!((code, &told["total"]["stored"]), (Some(0), &90.into()));
    let web = support::connect(&world.database_url.replace("keeper@", "sitewatch_web@")).await;
    assert_eq!(number(&web, "SELECT count(*) FROM checks").await, 90);
}

/// A consumer may not migrate what was restored: it says who can, waits, and goes on when that is done.
#[actix_rt::test]
async fn a_dump_of_an_earlier_version_is_migrated_by_its_owner_while_the_consumer_waits() {
    let (mut world, start) = (World::new("old_dump").await, start());
    world.create_topic(1).await;
    let earlier = "
        INSERT INTO site (name, url) VALUES ('a', 'http://a/'); INSERT INTO location (name) VALUES ('here');
        INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, payload) VALUES ('t', 0, 7, 'malformed', 'x', 'y')";
    let schema = include_str!("../../schema/version-8.sql");
    for part in [schema, earlier] {
        world.db.batch_execute(part).await.unwrap();
    }
    let stored_before = format!(
        "INSERT INTO kafka_offset (topic, partition, next) VALUES ('{}', 0, 1)",
        world.topic
    );
    world.db.batch_execute(&stored_before).await.unwrap();
    let backup = dump(&world, &world.database_url);
    world.produce_keyed([announcement("a", start)]);
    world.produce_keyed(checks("a", start, 0..40));

    let cluster = Cluster::new("old_dump").await;
    let owner = restore_for_keeper(&backup, &cluster).await;
    let admin = support::connect(&owner.replace("keeper@", "sitewatch@")).await;
    let login = "CREATE ROLE sitewatch_consumer LOGIN";
    admin.batch_execute(login).await.unwrap();
    let mut consumer = consume_from(&mut world, &owner);
    consumer.wait_for_log("permission denied").await;
    let migrated = node(world.folder.path(), &owner, &["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    make_roles(&owner);
    // The first message, the announcement, was stored before the dump, says the offset.
    stores_all(&mut world, &mut consumer, owner).await;
    assert_eq!(
        number(&world.db, "SELECT count(*) FROM dead_letter").await,
        1
    );
}
