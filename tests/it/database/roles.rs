//! The rights of the roles of `scripts/roles.sql`.

use std::process::Command;

use super::{QUICK, ROWS, make_roles, migrate, migrated, number, payloads};
use crate::support::{connect, message};

#[actix_rt::test]
async fn each_role_has_what_it_needs_and_no_more() {
    let world = migrated("roles").await;
    let (consumer_role, web_role) = (format!("{}_c", world.topic), format!("{}_w", world.topic));
    for _ in 0..2 {
        make_roles(&world, &consumer_role, &web_role);
    }
    // As it is from PostgreSQL 15 on.
    let own_tables = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    let rule = "ALTER TABLE check_result ADD CONSTRAINT somebodys CHECK (status <> 599)";
    for statement in [own_tables, rule] {
        world.db.batch_execute(statement).await.unwrap();
    }
    let (_, host) = world.database_url.split_once('@').unwrap();
    let as_role = |role: &str| format!("postgres://{role}@{host}");

    // The schema is old: the consumer says so, and goes on when the owner has mended it.
    let old = "DELETE FROM schema_version WHERE version > 2; INSERT INTO schema_version VALUES (2) ON CONFLICT DO NOTHING";
    world.db.batch_execute(old).await.unwrap();
    let url = as_role(&consumer_role);
    let mut consumer = world.node_with("consumer", QUICK, &[("POSTGRES_URL", &url)]);
    consumer
        .wait_for_log("run `sitewatch-node migrate` as the owner")
        .await;
    assert!(
        consumer
            .log()
            .contains("has version 2, this program needs 10"),
        "{}",
        consumer.log()
    );
    migrate(&world.database_url);

    // New rows, twice the same, unreadable and refused ones, and slots that need partitions.
    let mut refused = message("a", 200);
    refused["status"] = 599.into();
    let first: Vec<_> = payloads("a", 0..100).collect();
    world.produce(first.clone());
    world.produce(first);
    world.produce([b"{".to_vec(), refused.to_string().into_bytes()]);
    // One that was missed and then checked, and two that say different things.
    let mut missed = message("a", 300);
    (missed["outcome"], missed["error"]) = ("unknown".into(), "missed".into());
    missed["error_detail"] = "the slot passed".into();
    let (checked, mut other) = (message("a", 300), message("a", 300));
    other["total_us"] = 1.into();
    for message in [missed, checked, other] {
        world.produce([message.to_string().into_bytes()]);
    }
    world.produce(payloads("a", -3_000_000..-2_999_990));
    world.wait_for("rows", ROWS, 111).await;
    let conflicts = "SELECT coalesce(sum(number), 0)::int8 FROM check_conflict";
    world.wait_for("a conflict", conflicts, 1).await;
    world
        .wait_for("dead letters", "SELECT count(*) FROM dead_letter", 2)
        .await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let owners = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE pg_get_userbyid(c.relowner) <> 'sitewatch'";
    assert_eq!(
        world.number(owners).await,
        0,
        "the partitions are the owner's"
    );

    // It keeps house, but what is to be dropped, also what somebody has begun to drop, is the owner's.
    let work = "
        INSERT INTO partition_drop (name, parent, reason) VALUES ('check_result_gone', 'check_result', 'retention');
        DELETE FROM rollup_hour; DELETE FROM rollup_day; DELETE FROM rollup_dirty; DELETE FROM rollup_month_to_date;
        UPDATE rollup_state SET rolled_until = '1970-01-01 00:00+00';
        INSERT INTO site_revision (site_id, location_id, since, cron, check_limit_us, config_hash, run)
        SELECT site_id, 1, now() - interval '2 days', '0 * * * * UTC', 1, '', now() FROM site;
        INSERT INTO maintenance (name, from_time, cron, lasts) VALUES ('nightly', now(), '0 3 * * * UTC', '1 hour');
        INSERT INTO incident_late SELECT '2020-01-01', 1, array_agg(site_id) FROM site";
    world.db.batch_execute(work).await.unwrap();
    let keep = "postgres: { max_slot_age: 2d, retention: { raw: 3d } }\n";
    let mut consumer = world.node_with("consumer", keep, &[("POSTGRES_URL", &url)]);
    consumer
        .wait_for_log("only the owner of the tables can: run `sitewatch-node housekeep`")
        .await;
    let kept = "
        SELECT (EXISTS (SELECT FROM rollup_hour) AND EXISTS (SELECT FROM rollup_day) AND EXISTS (SELECT FROM rollup_month_to_date)
                AND EXISTS (SELECT FROM calendar_day) AND EXISTS (SELECT FROM maintenance_span)
                AND NOT EXISTS (SELECT FROM incident_late) AND NOT EXISTS (SELECT FROM incident_again))::int4::int8";
    world.wait_for("all the rest", kept, 1).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    assert!(
        !consumer.log().contains("housekeeping does not work"),
        "{}",
        consumer.log()
    );
    assert_eq!(world.number(ROWS).await, 111);

    // Who may only read can ask all that there is to be asked.
    std::fs::write(
        world.folder.path().join("rules.yaml"),
        "failure_threshold: 1",
    )
    .unwrap();
    for question in [
        &["report"][..],
        &["export", "--format", "csv", "--from", "-60d"],
        &["rejudge", "--rules", "rules.yaml", "--from", "-60d"],
        &["maintenance", "list"],
    ] {
        let asked = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
            .args(question)
            .env("POSTGRES_URL", as_role(&web_role))
            .current_dir(world.folder.path())
            .output()
            .unwrap();
        assert!(asked.status.success(), "{question:?}: {asked:?}");
    }
    let web = connect(&as_role(&web_role)).await;
    for (question, answer) in [
        ("SELECT count(*) FROM checks", 111),
        ("SELECT count(*) FROM sla_status()", 0),
        (
            "SELECT checks FROM uptime('a', now() - interval '90 days', now())",
            111,
        ),
        ("SELECT count(*) FROM incidents CROSS JOIN incident_span", 0),
    ] {
        assert_eq!(number(&web, question).await, answer, "{question}");
    }
    let consumer = connect(&as_role(&consumer_role)).await;
    for (db, forbidden) in [
        (&web, "INSERT INTO location (name) VALUES ('x')"),
        (&web, "SELECT payload FROM dead_letter"),
        (
            &web,
            "SELECT make_partition('check_result', '2001-01-01', '2001-01-02')",
        ),
        (&consumer, "DELETE FROM check_result"),
        (&consumer, "UPDATE site SET first_seen = now()"),
        (&consumer, "CREATE TABLE x ()"),
        (
            &consumer,
            "SELECT make_partition('site', '2001-01-01', '2001-01-02')",
        ),
        (
            &consumer,
            "SELECT make_partition('check_result; DROP TABLE site', '2001-01-01', '2001-01-02')",
        ),
    ] {
        let error = db.batch_execute(forbidden).await.expect_err(forbidden);
        let code = error.code().map(|state| state.code().to_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}: {error}");
    }
    // A table of the caller's can't stand in for the real one.
    consumer
        .batch_execute(
            "CREATE TEMP TABLE check_result (slot timestamptz) PARTITION BY RANGE (slot);
            SELECT make_partition('check_result', '2001-01-01', '2001-01-02')",
        )
        .await
        .unwrap();
    let made = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.check_result'::regclass AND inhrelid = 'check_result_2001010100'::regclass";
    assert_eq!(world.number(made).await, 1);

    let granted = "SELECT string_agg(name || ' ' || what, E'\\n' ORDER BY name, what) FROM (
        SELECT c.relname AS name, string_agg(left(p, 1), '' ORDER BY p) AS what
          FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND has_table_privilege($1, c.oid, p)
         GROUP BY c.relname) AS granted";
    for (role, expected) in [
        (
            &consumer_role,
            "calendar_day IS\ncheck_conflict DIS\ncheck_detail DIS\ncheck_result IS\ndead_letter I\ndue_span S\nerror_kind S\nincident DISU\nincident_again DISU\nincident_late DIS\nkafka_gap I\nkafka_offset ISU\nlocation IS\nmaintenance S\nmaintenance_span I\noutcome S\npartition_drop S\nrollup_day ISU\nrollup_dirty DIS\nrollup_hour ISU\nrollup_month_to_date ISU\nrollup_state SU\nschema_version S\nsite IS\nsite_alias DISU\nsite_location ISU\nsite_revision ISU",
        ),
        (
            &web_role,
            "calendar_day S\ncheck_conflict S\ncheck_detail S\ncheck_result S\nchecks S\ndue_span S\nerror_kind S\nincident S\nincident_again S\nincident_late S\nincident_span S\nincidents S\nkafka_gap S\nkafka_offset S\nlocation S\nmaintenance S\nmaintenance_span S\noutcome S\nrollup_day S\nrollup_dirty S\nrollup_hour S\nrollup_month_to_date S\nrollup_state S\nschema_version S\nsite S\nsite_alias S\nsite_location S\nsite_revision S\nsites S",
        ),
    ] {
        let row = world.db.query_one(granted, &[role]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected, "{role}");
    }
    drop((web, consumer));
    let clean =
        format!("DROP OWNED BY {consumer_role}, {web_role}; DROP ROLE {consumer_role}, {web_role}");
    world.db.batch_execute(&clean).await.unwrap();
}
