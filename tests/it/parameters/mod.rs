//! Other people's PostgreSQL: a role or a database on which every session parameter is set otherwise than usual. All that the program
//! stores and tells is the same as under an ordinary role.

mod life;
mod odd;

use std::process::Command;

use serde_json::Value;

use self::{
    life::{Life, STORED, messages},
    odd::{SHADOWS, odd_parameters, set},
};
use crate::support::World;

/// Everything that the program does with a database, by the session that `url` gives.
async fn live(world: &World, url: String, messages: &[Vec<u8>]) -> Vec<(String, String)> {
    let mut life = Life::of(world, url);
    life.run(&["migrate"]);
    life.stores(messages).await;
    life.run(&["housekeep"]);
    let first: Value = serde_json::from_slice(&messages[1]).unwrap();
    let last: Value = serde_json::from_slice(&messages[messages.len() - 4]).unwrap();
    life.is_asked(
        first["slot"].as_str().unwrap(),
        last["slot"].as_str().unwrap(),
    )
    .await;
    life.maintains().await;
    life.handles_letters().await;
    world
        .db
        .batch_execute("SET timezone = 'UTC'; SET search_path = public")
        .await
        .unwrap();
    let stored: String = world.db.query_one(STORED, &[]).await.unwrap().get(0);
    life.told.push(("stored".to_owned(), stored));
    life.told
}

/// A database that belongs to a role of its own, and the URL to come in as it.
async fn with_role(name: &str, attributes: &str) -> (World, String) {
    let world = World::new(name).await;
    let role = world.topic.clone();
    let make =
        format!("CREATE ROLE {role} LOGIN {attributes}; ALTER DATABASE {role} OWNER TO {role}");
    world.db.batch_execute(&make).await.unwrap();
    world.db.batch_execute(SHADOWS).await.unwrap();
    let url = world
        .database_url
        .replace("//sitewatch:sitewatch@", &format!("//{role}@"));
    assert_ne!(url, world.database_url);
    (world, url)
}

fn assert_same(found: &[(String, String)], wanted: &[(String, String)], who: &str) {
    for ((what, found), (_, wanted)) in found.iter().zip(wanted) {
        assert!(
            found == wanted,
            "{who}: {what}\nfound\n{found}\nas under an ordinary role\n{wanted}"
        );
    }
    assert_eq!(found.len(), wanted.len());
}

#[actix_rt::test]
async fn whatever_a_role_or_database_sets_the_same_is_stored_and_told() {
    let messages = messages();
    let (ordinary, url) = with_role("ordinary", "").await;
    let wanted = live(&ordinary, url, &messages).await;
    for (name, attributes, whose, contexts) in [
        ("odd_role", "", "ROLE", &["user"][..]),
        ("odd_super", "SUPERUSER", "ROLE", &["user", "superuser"]),
        ("odd_database", "", "DATABASE", &["user"]),
    ] {
        let (world, url) = with_role(name, attributes).await;
        if attributes == "SUPERUSER" {
            // Who may make tables everywhere would make them in the first schema of the path.
            Life::of(&world, url.clone()).run(&["migrate"]);
        }
        // Either of these: a statement of 1 ms that ends the session leaves nobody the time to say anything.
        let not_both = match whose {
            "DATABASE" => "statement_timeout",
            _ => "exit_on_error",
        };
        let mut parameters = odd_parameters(&world, contexts).await;
        parameters.retain(|(name, _)| name != not_both);
        println!("{name}: {} parameters", parameters.len());
        set(&world, &format!("{whose} {}", world.topic), &parameters).await;
        let found = live(&world, url, &messages).await;
        assert_same(&found, &wanted, name);
    }
}

#[actix_rt::test]
async fn the_schema_that_a_user_has_chosen_is_kept() {
    let (world, url) = with_role("chosen_schema", "").await;
    let role = &world.topic;
    let chosen = format!(
        "CREATE SCHEMA mine AUTHORIZATION {role}; CREATE SCHEMA theirs AUTHORIZATION {role}"
    );
    world.db.batch_execute(&chosen).await.unwrap();
    let mut life = Life::of(&world, url.clone());
    life.url = format!("{url}?options=-csearch_path%3Dmine%2Cpublic");
    life.run(&["migrate"]);
    let place =
        "SELECT count(*) FROM pg_tables WHERE tablename = 'check_result' AND schemaname = 'mine'";
    assert_eq!(
        world
            .db
            .query_one(place, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    // Whatever comes before it on the path: the tables are where they are.
    life.url = format!("{url}?options=-csearch_path%3Dtheirs%2Cmine");
    life.run(&["migrate"]);
    assert!(
        life.run(&["dead-letter", "list"])
            .contains("no dead letters")
    );
    let everywhere = "SELECT count(*) FROM pg_tables WHERE tablename = 'check_result'";
    assert_eq!(
        world
            .db
            .query_one(everywhere, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    // By the role, too, and a path that leads nowhere is named.
    world
        .db
        .batch_execute(&format!("ALTER ROLE {role} SET search_path = mine"))
        .await
        .unwrap();
    life.url.clone_from(&url);
    life.run(&["housekeep"]);
    for (path, code) in [("nowhere", 78), ("", 78)] {
        life.url = format!("{url}?options=-csearch_path%3D{path}");
        let output = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
            .arg("migrate")
            .env("POSTGRES_URL", &life.url)
            .current_dir(world.folder.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(code) && told.contains("search_path is"),
            "{path:?}: {told}"
        );
    }
}

#[actix_rt::test]
async fn what_only_a_superuser_may_change_is_named() {
    let (world, url) = with_role("not_to_change", "").await;
    let off = format!(
        "ALTER ROLE {} SET session_replication_role = replica",
        world.topic
    );
    world.db.batch_execute(&off).await.unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .arg("migrate")
        .env("POSTGRES_URL", &url)
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(
        told.contains("session_replication_role is replica, origin is needed"),
        "{told}"
    );
}

#[actix_rt::test]
async fn a_commit_is_durable_unless_standbys_are_meant() {
    let (world, url) = with_role("durable", "").await;
    for (set, wanted) in [
        ("off", "on"),
        ("local", "local"),
        ("remote_apply", "remote_apply"),
    ] {
        let alter = format!("ALTER ROLE {} SET synchronous_commit = {set}", world.topic);
        world.db.batch_execute(&alter).await.unwrap();
        let settings = sitewatch_config::PostgresSettings {
            url: Some(url.parse().unwrap()),
            ..Default::default()
        };
        let client = sitewatch_actors::database::ask(&settings, &[])
            .await
            .unwrap();
        let found: String = client
            .query_one("SHOW synchronous_commit", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(found, wanted, "{set}");
    }
}
