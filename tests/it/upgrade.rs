//! Databases of earlier versions: brought up to date with what is in them, and used by programs of two versions at once.

use std::{collections::BTreeSet, process::Command};

use crate::support::{World, message};

/// As it was when the version was new: what each has changed since is in the git history of schema.sql.
const VERSIONS: [(i32, &str); 8] = [
    (1, include_str!("../schema/version-1.sql")),
    (2, include_str!("../schema/version-2.sql")),
    (3, include_str!("../schema/version-3.sql")),
    (5, include_str!("../schema/version-5.sql")),
    (6, include_str!("../schema/version-6.sql")),
    (7, include_str!("../schema/version-7.sql")),
    (8, include_str!("../schema/version-8.sql")),
    (9, include_str!("../schema/version-9.sql")),
];

/// What is in a database of any version: a check that is up, three that were not, and their partition.
const DATA: &str = "
    INSERT INTO site (name, url) VALUES ('old', 'http://old/');
    INSERT INTO location (name) VALUES ('there');
    CREATE TABLE check_result_old PARTITION OF check_result FOR VALUES FROM ('2026-01-01') TO ('2026-01-08');
    CREATE TABLE check_detail_old PARTITION OF check_detail FOR VALUES FROM ('2026-01-01') TO ('2026-01-08');
    INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error)
    VALUES ('2026-01-02 03:04:05', 1, 1, 1234, 0, 200, 0, NULL), ('2026-01-02 03:05:05', 1, 1, 99, 1, NULL, 2, 3),
           ('2026-01-02 03:06:05', 1, 1, 98, 1, NULL, 2, 3), ('2026-01-02 03:07:05', 1, 1, 98, 1, NULL, 2, 3);
    INSERT INTO check_detail (slot, site_id, location_id, detail) VALUES ('2026-01-02 03:05:05', 1, 1, 'refused');
    INSERT INTO kafka_offset (topic, partition, next) VALUES ('t', 0, 42);
    INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, payload) VALUES ('t', 0, 7, 'malformed', 'x', 'y')";

/// What a program of a version with rollups has computed, and what one with incidents has noted.
const ROLLED: &str = "
    SELECT make_partition('rollup_day', '2025-12-01', '2026-01-01');
    INSERT INTO rollup_day (day, site_id, location_id, up, degraded, down, unknown) VALUES ('2025-12-30', 1, 1, 5, 0, 0, 0),
        ('2025-12-31', 1, 1, 6, 0, 0, 0)";
const JUDGED: &str = "INSERT INTO incident_late VALUES ('2026-01-02 03:05:05', 1, '{1}')";

/// Windows that a program before version 9 has expanded, without the hour that comes twice.
const EXPANDED: &str = "
    INSERT INTO maintenance (name, from_time, cron, lasts, expanded_until)
    VALUES ('each hour', '2026-10-24', '0 * * * * Europe/Berlin', '5 minutes', now() + interval '1 year')";

/// All that makes a schema: columns, keys, indexes, checks, views, triggers, functions. Partitions are not compared, nor is the order of
/// columns, which a database keeps as they came.
const CATALOGUE: &str = "
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT format('%s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                      CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(d.adbin, d.adrelid)) AS line
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
        UNION ALL
        SELECT replace(pg_get_indexdef(i.indexrelid), 'ONLY ', '') FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
        UNION ALL
        SELECT format('%s %s', c.relname, pg_get_constraintdef(k.oid)) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
         WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
        UNION ALL
        SELECT pg_get_viewdef(c.oid) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'
        UNION ALL
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND NOT c.relispartition
        UNION ALL
        SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
    ) AS schema";

async fn catalogue(world: &World) -> String {
    world.db.query_one(CATALOGUE, &[]).await.unwrap().get(0)
}

#[actix_rt::test]
async fn a_database_of_each_earlier_version_becomes_what_a_new_one_is_and_keeps_its_rows() {
    let new = World::new("upgrade_new").await;
    new.done(&["migrate"]);
    let wanted = catalogue(&new).await;
    for (version, schema) in VERSIONS {
        let world = World::new(&format!("upgrade_{version}")).await;
        world.db.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
        world.db.batch_execute(schema).await.unwrap();
        world.db.batch_execute(DATA).await.unwrap();
        let has_windows = (6..9).contains(&version);
        let data = [
            (version >= 5, ROLLED),
            (version >= 6, JUDGED),
            (has_windows, EXPANDED),
        ];
        for (is_there, data) in data {
            if is_there {
                world.db.batch_execute(data).await.unwrap();
            }
        }
        for _ in 0..2 {
            world.done(&["migrate"]);
            let found = catalogue(&world).await;
            assert_eq!(found, wanted, "version {version}");
        }
        let checks = "SELECT count(*) FROM checks WHERE site = 'old' AND location = 'there' AND total_ms IN (1.234, 0.099)
                         AND ((outcome = 'up' AND error IS NULL) OR (error = 'connect_refused' AND detail = 'refused'))";
        assert_eq!(world.number(checks).await, 2, "version {version}");
        let kept = "SELECT (SELECT next FROM kafka_offset) + (SELECT count(*) FROM dead_letter)";
        assert_eq!(world.number(kept).await, 43, "version {version}");

        // New ones come in beside them, and all have rollups.
        world.create_topic(1).await;
        world.produce((0..100).map(|n| message("new", n).to_string().into_bytes()));
        let mut consumer = world.node("consumer", "postgres: { batch: { max_age: 50ms } }\n");
        world
            .wait_for("rows", "SELECT count(*) FROM checks", 104)
            .await;
        assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
        world.done(&["housekeep"]);
        let rolled = "SELECT sum(up + 2 * down)::int8 FROM rollup_day WHERE day = '2026-01-02'";
        assert_eq!(world.number(rolled).await, 7, "version {version}");
        if version >= 5 {
            let to_date = "SELECT sum(up)::int8 FROM rollup_month_to_date WHERE day < '2026-01-01'";
            assert_eq!(world.number(to_date).await, 5 + 11, "version {version}");
        }
        if has_windows {
            let windows = "SELECT count(*) FROM maintenance_span WHERE lower(span) IN ('2026-10-25 00:00+00', '2026-10-25 01:00+00')";
            let twice = "the hour that comes twice";
            assert_eq!(world.number(windows).await, 2, "version {version}: {twice}");
        }
        let incidents = "SELECT count(*) FROM incidents WHERE site = 'old' AND error = 'connect_refused' AND detail = 'refused'
                            AND open AND began = '2026-01-02 03:05:05'";
        assert_eq!(world.number(incidents).await, 1, "version {version}");
    }
}

#[actix_rt::test]
async fn views_of_users_on_site_stats_stay() {
    let world = World::new("upgrade_view").await;
    let view = "CREATE VIEW ours AS SELECT site_id, sum(up)::int8 AS up FROM site_stats('2026-01-01', '2026-02-01') GROUP BY 1";
    world.db.batch_execute(VERSIONS[4].1).await.unwrap();
    world.db.batch_execute(DATA).await.unwrap();
    world.db.batch_execute(view).await.unwrap();
    world.done(&["migrate"]);
    assert_eq!(world.number("SELECT up FROM ours").await, 1);
}

#[actix_rt::test]
async fn an_upgrade_and_a_writer_do_not_wait_for_each_other() {
    let world = World::new("upgrade_busy").await;
    world.db.batch_execute(VERSIONS[5].1).await.unwrap();
    world.db.batch_execute(DATA).await.unwrap();
    // What a writer does, with an upgrade in its middle.
    let writer = crate::support::connect(&world.database_url).await;
    let begin = "BEGIN; SELECT pg_advisory_xact_lock_shared(x'736974650004'::int8); UPDATE kafka_offset SET next = 43";
    writer.batch_execute(begin).await.unwrap();
    let mut upgrade = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"))
        .arg("migrate")
        .env("POSTGRES_URL", &world.database_url)
        .current_dir(world.folder.path())
        .spawn()
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    world.wait_for("the upgrade to wait", waiting, 1).await;
    let end = "INSERT INTO site (name, url) VALUES ('new', 'http://new/'); INSERT INTO site_location VALUES (1, 1); INSERT INTO site_revision
        (site_id, location_id, since, check_limit_us, config_hash, run) VALUES (1, 1, '2026-01-01', 1, '', '2026-01-01'); COMMIT";
    writer.batch_execute(end).await.unwrap();
    assert!(upgrade.wait().unwrap().success());
    let versions = "SELECT max(version)::int8 FROM schema_version";
    assert_eq!(world.number(versions).await, 10);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(world.number(deadlocks).await, 0);
}

#[actix_rt::test]
async fn a_program_works_on_with_a_newer_schema_that_says_so_and_refuses_another() {
    let world = World::new("upgrade_newer").await;
    world.create_topic(1).await;
    world.done(&["migrate"]);
    // What a later version may do as long as older programs run.
    let later = "ALTER TABLE check_result ADD COLUMN later int4; CREATE OR REPLACE FUNCTION hist_value(bucket int4) RETURNS float8
        LANGUAGE sql IMMUTABLE AS 'SELECT 1.0::float8';
        INSERT INTO schema_version (version, usable_from) SELECT version + 1, version FROM schema_version";
    world.db.batch_execute(later).await.unwrap();
    world.produce((0..100).map(|n| message("a", n).to_string().into_bytes()));
    let mut consumer = world.node("consumer", "postgres: { batch: { max_age: 50ms } }\n");
    world
        .wait_for("rows", "SELECT count(*) FROM check_result", 100)
        .await;
    let told = "the database's schema is newer than this program, which can work with it";
    assert!(consumer.log().contains(told), "{}", consumer.log());
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
    let touched = "SELECT hist_value(100)::int8";
    assert_eq!(
        world.number(touched).await,
        1,
        "the later version's function is left alone"
    );

    let too_new = "UPDATE schema_version SET usable_from = version";
    world.db.batch_execute(too_new).await.unwrap();
    let mut consumer = world.node("consumer", "postgres: {}\n");
    assert_eq!(consumer.wait().code(), Some(78), "{}", consumer.log());
    assert!(
        consumer.log().contains("use a newer sitewatch-node"),
        "{}",
        consumer.log()
    );
}

/// The columns of all tables, with their types.
const COLUMNS: &str = "
    SELECT format('%s.%s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod))
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition";

/// Those of them that must be given a value.
const MUST_BE_GIVEN: &str = " AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''";

async fn columns(world: &World, more: &str) -> BTreeSet<String> {
    let sql = format!("{COLUMNS}{more}");
    let rows = world.db.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Consumers from `usable_from` on go on with today's schema: it has all of their columns, and asks for none that they do not know.
#[actix_rt::test]
async fn the_schema_has_what_consumers_of_earlier_versions_need() {
    let new = World::new("usable_new").await;
    new.done(&["migrate"]);
    let usable_from = new.number("SELECT max(usable_from)::int8 FROM schema_version");
    let usable_from = usable_from.await;
    let (all, must) = (columns(&new, "").await, columns(&new, MUST_BE_GIVEN).await);
    let earlier = VERSIONS.iter().filter(|it| i64::from(it.0) >= usable_from);
    let mut compared = 0;
    for (version, schema) in earlier {
        let world = World::new(&format!("usable_{version}")).await;
        world.db.batch_execute(schema).await.unwrap();
        let needed = columns(&world, "").await;
        let gone: Vec<_> = needed.difference(&all).collect();
        assert!(gone.is_empty(), "version {version}: {gone:?}");
        let table = |column: &String| column.split('.').next().unwrap().to_owned();
        let tables: BTreeSet<_> = needed.iter().map(table).collect();
        let unknown: Vec<_> = must
            .difference(&needed)
            .filter(|column| tables.contains(&table(column)))
            .collect();
        assert!(unknown.is_empty(), "version {version}: {unknown:?}");
        compared += 1;
    }
    assert!(compared > 0);
}
