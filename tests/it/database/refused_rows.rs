//! Rows that PostgreSQL refuses, and what finding them costs.

use super::{ROWS, migrated};
use crate::support::message;

#[actix_rt::test]
async fn bad_rows_cost_their_number_times_the_logarithm_of_the_batch() {
    for bad in [1_i64, 3, 50] {
        let world = migrated(&format!("bisect_{bad}")).await;
        // What a sequence counts is not undone with the tries that fail.
        world
            .db
            .batch_execute(
                "ALTER TABLE check_result ADD CONSTRAINT somebodys CHECK (status <> 599);
                 CREATE SEQUENCE tries;
                 CREATE FUNCTION count_try() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''tries''); RETURN NULL; END';
                 CREATE TRIGGER count_try BEFORE INSERT ON check_result FOR EACH STATEMENT EXECUTE FUNCTION count_try()",
            )
            .await
            .unwrap();
        let rows = (0..5000).map(|n| {
            let mut row = message("a", n);
            if n % (5000 / bad) == 7 {
                row["status"] = 599.into();
            }
            row.to_string().into_bytes()
        });
        world.produce(rows);
        let one_batch = "postgres: { batch: { max_rows: 5000, max_age: 3s } }\n";
        let _consumer = world.node("consumer", one_batch);
        world.wait_for("rows", ROWS, 5000 - bad).await;
        let letters = "SELECT count(*) FROM dead_letter WHERE reason = 'refused'";
        assert_eq!(world.number(letters).await, bad);
        let tries = world.number("SELECT last_value FROM tries").await;
        // The straight way, the whole once more, and two halves on each of the 13 levels above a bad row. The consumer may
        // have made a few batches of the 5000 rows.
        let most = 2 * 5 + bad * 2 * 13;
        println!("{bad} bad rows of 5000: {tries} tries, at most {most}");
        assert!(
            (bad..=most).contains(&tries),
            "{tries} tries, at most {most}"
        );
    }
}
