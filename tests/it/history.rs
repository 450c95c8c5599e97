//! What is kept for years: partitions and rollups that come and go by themselves while the calendar goes on, on a real PostgreSQL.

use std::{
    collections::BTreeMap,
    process::{Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use crate::support::{World, message};
use sitewatch_actors::{
    database::Clocks,
    housekeeping::{Done, Keeper},
    model::Slot,
    time::wall_clock,
};
use sitewatch_config::{PartitionWidth, PostgresSettings, Retention, Sources, load_any};
pub(crate) use sitewatch_node::SCHEMA;
use slog::{Discard, Logger, o};

const DAY: i64 = 86_400_000_000;

/// 2027-01-01, a Friday.
const START: i64 = 1_798_761_600_000_000;

/// A site that is checked each minute is announced, so the number of checks is known: a month is the best width.
const ANNOUNCED: &str = "
    INSERT INTO site (name, url) VALUES ('a', 'http://a/'); INSERT INTO location (name) VALUES ('here');
    INSERT INTO site_location SELECT n, 1 FROM generate_series(1, 20) AS n;
    INSERT INTO site_revision (site_id, location_id, since, interval_us, phase_us, check_limit_us, config_hash, run)
    VALUES (1, 1, '2027-01-01', 60000000, 0, 10000000, '', '2027-01-01')";

/// Rows of the hour from `$1` on, noted for the rollups as a writer notes them.
const ROWS: &str = "
    WITH added AS (
        INSERT INTO check_result (slot, site_id, location_id, lateness_ms, outcome, error, total_us, ttfb_bucket)
        SELECT $1::timestamptz + n * interval '1 minute', 1, 1, 0, n / 50, 0, 10000 + 977 * n, n FROM generate_series(0, 59) AS n
        RETURNING slot),
    noted AS (
        INSERT INTO rollup_dirty (period, start, location_id, site_ids)
        SELECT 'hour', date_bin('1 hour', $1, '2000-01-01 00:00+00'), 1, '{1}' FROM rollup_state WHERE rolled_until > $1)
    INSERT INTO check_detail (slot, site_id, location_id, detail) SELECT slot, 1, 1, 'x' FROM added LIMIT 3";

const WRONG: &str = include_str!("../support/wrong_rollups.sql");

const DIRTY: &str = "SELECT count(*) FROM rollup_dirty WHERE period = 'hour'";

/// Partitions that begin later than `$1`: how many, and the widest, in days.
const AHEAD: &str = "
    SELECT count(*), coalesce(max((bounds[2]::timestamptz - bounds[1]::timestamptz)), '0')
      FROM (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), '\\(''(.+?)''\\) TO \\(''(.+?)''\\)') AS bounds
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'check_result'::regclass) AS partition
     WHERE bounds[1]::timestamptz > $1";

/// Tables that were partitions and are still there.
const LEFT_BEHIND: &str = "
    SELECT count(*) FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relname ~ '^(check|rollup)_(result|detail|hour|day|month_to_date)_'";

const PARTITIONS: &str = "
    SELECT count(*) FROM pg_inherits WHERE inhparent IN ('check_result'::regclass, 'check_detail'::regclass)";

const NOTED: &str = "SELECT count(*) FROM partition_drop";

fn slot(day: i64) -> Slot {
    Slot::from_micros(START + day * DAY)
}

fn days(number: u64) -> Duration {
    Duration::from_secs(number * 86_400)
}

/// A world that has the tables, and the settings of its database.
pub(crate) async fn migrated(name: &str) -> (World, PostgresSettings) {
    let world = World::new(name).await;
    let done = housekeeping(&world, &["migrate"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let env = [("POSTGRES_URL".to_owned(), world.database_url.clone())];
    let sources = Sources {
        env: BTreeMap::from(env),
        working_dir: world.folder.path().to_owned(),
        ..Sources::default()
    };
    let settings = load_any(&sources).unwrap().postgres;
    (world, settings)
}

/// The program, with a retention of 90 days.
fn housekeeping(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.program(arguments);
    command
        .env("SITEWATCH__POSTGRES__MAX_SLOT_AGE", "30d")
        .env("SITEWATCH__POSTGRES__RETENTION__RAW", "90d")
        .env("SITEWATCH__POSTGRES__RETENTION__GRACE", "0s")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn keeper(settings: &PostgresSettings) -> Keeper {
    let log = Logger::root(Discard, o!());
    Keeper::open(settings.clone(), SCHEMA, log).await.unwrap()
}

/// All that is to be done now. Gives how many partitions were dropped.
async fn pass(keeper: &mut Keeper, now: Slot) -> u64 {
    let mut dropped = 0;
    loop {
        let done: Done = keeper.pass(Clocks::agreeing(now)).await.unwrap().unwrap();
        dropped += done.dropped;
        if !done.more {
            return dropped;
        }
    }
}

/// Partitions of long ago with rows, one of each table: 2020-02-15.
async fn make_old(world: &World) {
    for table in ["check_result", "check_detail"] {
        let make = format!("SELECT make_partition('{table}', '2020-02-15', '2020-02-16')");
        world.db.batch_execute(&make).await.unwrap();
    }
    let day = Slot::from_micros(1_581_724_800_000_000).to_system_time();
    world.db.execute(ROWS, &[&day]).await.unwrap();
}

#[actix_rt::test]
async fn for_two_hundred_days_partitions_come_and_go_by_themselves() {
    let (world, mut settings) = migrated("calendar").await;
    world.db.batch_execute(ANNOUNCED).await.unwrap();
    settings.max_slot_age = days(30);
    settings.retention = Retention {
        raw: Some(days(45)),
        hourly: Some(days(100)),
        daily: None,
        grace: Duration::ZERO,
    };
    let mut housekeeper = keeper(&settings).await;
    let (mut dropped, mut width) = (0, 31);
    // With the end of a year and a 29 February in them.
    let begin = 318;
    for day in begin..begin + 200 {
        let new_width = match day - begin {
            65 => Some((PartitionWidth::Week, 7)),
            130 => Some((PartitionWidth::Day, 1)),
            _ => None,
        };
        if let Some((partitions, days)) = new_width {
            (settings.partition_width, width) = (Some(partitions), days);
            housekeeper = keeper(&settings).await;
        }
        let now = slot(day);
        dropped += pass(&mut housekeeper, now).await;

        // Writers find what they need: for the present, and for what comes late.
        for of_day in [day, day - 29] {
            let of_day = slot(of_day).to_system_time()
                + Duration::from_secs(if of_day == day { 0 } else { 43_200 });
            if of_day >= slot(begin).to_system_time() {
                world.db.execute(ROWS, &[&of_day]).await.unwrap();
            }
        }
        // Two days are in the way of a new width: into them something may come already.
        let settled = Slot::from_micros(START + (day + 2) * DAY).to_system_time();
        let ahead = world
            .db
            .query_one(AHEAD, &[&now.to_system_time()])
            .await
            .unwrap();
        assert!(ahead.get::<_, i64>(0) >= 7, "day {day}: {ahead:?}");
        let wide =
            format!("SELECT widest <= interval '{width} days' FROM ({AHEAD}) AS a(number, widest)");
        let wide = world.db.query_one(&wide, &[&settled]).await.unwrap();
        assert!(wide.get::<_, bool>(0), "day {day}: wider than {width} days");

        let oldest = slot(day - 45).to_system_time();
        let count = "SELECT count(*) FILTER (WHERE slot >= $1), count(*) FILTER (WHERE slot < $1 - interval '31 days') FROM check_result";
        let count = world.db.query_one(count, &[&oldest]).await.unwrap();
        let (first, last_late) = ((day - 45).max(begin), day - 29);
        let late = (last_late - first + 1).max(0);
        let wanted = 60 * ((day - first + 1) + late);
        assert_eq!(
            count.get::<_, i64>(0),
            wanted,
            "day {day}: rows of the last 45 days"
        );
        assert_eq!(
            count.get::<_, i64>(1),
            0,
            "day {day}: rows that are too old"
        );
        if day % 20 == 0 {
            pass(&mut housekeeper, now).await;
            assert_eq!(world.number(DIRTY).await, 0, "day {day}");
            assert_eq!(world.number(WRONG).await, 0, "day {day}");
        }
    }
    // Ten minutes into the day, the one before is over.
    let end = Slot::from_micros(slot(begin + 200).as_micros() + 600_000_000);
    dropped += pass(&mut housekeeper, end).await;
    assert!(dropped > 75, "{dropped}");
    assert_eq!(
        world.number(LEFT_BEHIND).await + world.number(NOTED).await,
        0
    );
    // Days are kept for ever, and each row is in one: also those whose checks and hours are gone.
    let by_outcome = "SELECT sum(up), sum(degraded), sum(down + unknown) FROM rollup_day";
    let by_outcome = &world.query(by_outcome).await[0];
    assert_eq!(by_outcome.get::<_, i64>(0), 50 * (200 + 171));
    assert_eq!(by_outcome.get::<_, i64>(1), 10 * (200 + 171));
    assert_eq!(by_outcome.get::<_, i64>(2), 0);
    let hours =
        "SELECT count(*) FROM rollup_hour WHERE hour < $1::timestamptz - interval '31 days'";
    let oldest = slot(begin + 100).to_system_time();
    let hours = world.db.query_one(hours, &[&oldest]).await.unwrap();
    assert_eq!(hours.get::<_, i64>(0), 0);
    let details =
        "SELECT count(*) FROM check_detail WHERE slot < $1::timestamptz - interval '31 days'";
    let oldest = slot(begin + 200 - 45).to_system_time();
    let details = world.db.query_one(details, &[&oldest]).await.unwrap();
    assert_eq!(details.get::<_, i64>(0), 0);
}

#[actix_rt::test]
async fn rollups_are_what_the_checks_say_whatever_comes_late_and_crashes() {
    let (world, _) = migrated("rollups").await;
    world.create_topic(2).await;
    let done = housekeeping(&world, &["housekeep"]).output().unwrap();
    assert!(done.status.success(), "{}", told(&done));
    let mut consumer = world.node("consumer", "postgres: { batch: { max_age: 20ms } }\n");
    let mut crashes = 0;
    for round in 0..12 {
        // Late by eleven hours to one, some of them twice, while hours are computed and the housekeeper crashes.
        let messages = (0..400).map(|n| {
            let site = ["a", "b", "c"][n as usize % 3];
            let mut message = message(site, (n * 97 + round * 13) % 36_000);
            message["total_us"] = (1000 + n * n * 7).into();
            message["ttfb_us"] = (900 + n * n * 5).into();
            message["outcome"] = ["up", "up", "degraded", "down", "unknown"][n as usize % 5].into();
            (site.to_owned(), message.to_string().into_bytes())
        });
        world.produce_keyed(messages);
        let crashed = housekeeping(&world, &["housekeep"])
            .env(
                "FAILPOINTS",
                "housekeeping::rollup=5*off->30%panic(injected)",
            )
            .output()
            .unwrap();
        crashes += i32::from(!crashed.status.success());
    }
    assert!(crashes > 2, "{crashes}");
    world
        .wait_for(
            "rows",
            "SELECT next FROM (SELECT sum(next)::int8 AS next FROM kafka_offset) AS o",
            4800,
        )
        .await;
    let done = housekeeping(&world, &["housekeep"]).output().unwrap();
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(world.number(DIRTY).await, 0);
    assert_eq!(world.number(WRONG).await, 0);
    let hours = "SELECT count(*) FROM rollup_hour WHERE degraded > 0 AND down > 0 AND unknown > 0 AND ttfb_hist > 0";
    assert!(
        world.number(hours).await >= 10,
        "{}",
        world.number(hours).await
    );
    // The judge can see.
    world
        .db
        .batch_execute("BEGIN; UPDATE rollup_hour SET up = up + 1 WHERE site_id = 1")
        .await
        .unwrap();
    assert!(world.number(WRONG).await > 0);
    world
        .db
        .batch_execute("ROLLBACK; BEGIN; DELETE FROM rollup_hour WHERE degraded > 1")
        .await
        .unwrap();
    assert!(world.number(WRONG).await > 0);
    world.db.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}

#[actix_rt::test]
async fn a_range_has_the_same_answer_from_rollups_as_from_checks() {
    let (world, settings) = migrated("ranges").await;
    world.db.batch_execute(ANNOUNCED).await.unwrap();
    let mut housekeeper = keeper(&settings).await;
    // 15 February: less is computed than in a world that began in January.
    pass(&mut housekeeper, slot(45)).await;
    compare_all(&world).await;
    // From 20 February to 6 April. Two sites, a third one for some days of March, and two days without any check. For whoever has this
    // time zone there is a day of 23 hours in it: days are those of UTC all the same.
    let some = "
        SET TIME ZONE 'America/New_York';
        INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error, ttfb_bucket)
        SELECT slot, site, 1, (1000 * exp(5 * random()))::int4, 0, (random() * 3)::int2, 0, (random() * 200)::int2
          FROM (SELECT '2027-02-20 00:00+00'::timestamptz + random() * interval '1098 hours' AS slot, 1 + n % 3 AS site
                  FROM generate_series(1, 9000) AS n) AS drawn
         WHERE (site < 3 OR slot BETWEEN '2027-03-09 05:00+00' AND '2027-03-12 07:00+00')
           AND slot NOT BETWEEN '2027-03-22 00:00+00' AND '2027-03-24 00:00+00'";
    world.db.batch_execute(some).await.unwrap();
    let now = Slot::from_micros(START + 95 * DAY + 17 * DAY / 24);
    pass(&mut housekeeper, now).await;
    let mut random = fastrand::Rng::with_seed(1);
    assert_eq!(wrong_ranges(&world, &mut random).await, 0);

    // Late ones, in all hours of two days, that are noted and not computed yet.
    let late = "
        WITH added AS (
            INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
            SELECT '2027-03-04 12:34:56+00'::timestamptz + random() * interval '48 hours', 1, 1, 5000, 0, 0, 0 FROM generate_series(1, 200)
            RETURNING slot)
        INSERT INTO rollup_dirty (period, start, location_id, site_ids)
        SELECT DISTINCT 'hour', date_bin('1 hour', slot, '2000-01-01 00:00+00'), 1, '{1}'::int4[] FROM added";
    world.db.batch_execute(late).await.unwrap();
    assert_eq!(wrong_ranges(&world, &mut random).await, 0);
    pass(&mut housekeeper, now).await;
    assert_eq!(world.number(WRONG).await, 0);
    assert_eq!(wrong_ranges(&world, &mut random).await, 0);

    // What makes days anew and does not know of months to date, as an older program: they are not what is read.
    let anew = "
        UPDATE rollup_day SET up = up WHERE site_id = 2 AND day = '2027-03-10 00:00+00';
        UPDATE rollup_month_to_date SET up = up + 7 WHERE site_id = 2 AND day >= '2027-03-10 00:00+00' AND day < '2027-04-01 00:00+00'";
    world.db.batch_execute(anew).await.unwrap();
    assert_eq!(wrong_ranges(&world, &mut random).await, 0);
    pass(&mut housekeeper, now).await;
    assert_eq!(world.number(WRONG).await, 0);

    // Of hours that are dropped nothing can be computed any more: what there is of them is what counts, noted or not.
    let dropped = "
        CREATE TABLE kept AS SELECT * FROM check_result WHERE slot < '2027-03-01 00:00+00';
        DELETE FROM check_result WHERE slot < '2027-03-01 00:00+00';
        UPDATE rollup_state SET raw_since = '2027-03-01 00:00+00';
        INSERT INTO rollup_dirty (period, start) SELECT 'hour', hour FROM generate_series('2027-02-22 05:00+00'::timestamptz, '2027-02-24 05:00+00', '1 hour') AS hour";
    world.db.batch_execute(dropped).await.unwrap();
    let of_them = "
        SELECT (SELECT sum(up + degraded + down + unknown) FROM site_stats('2027-02-22 03:00+00', '2027-02-26 07:00+00'))::int8
             - (SELECT count(*) FROM kept WHERE slot >= '2027-02-22 03:00+00' AND slot < '2027-02-26 07:00+00')";
    assert_eq!(world.number(of_them).await, 0);
    let back = "
        INSERT INTO check_result SELECT * FROM kept;
        UPDATE rollup_state SET raw_since = '1970-01-01 00:00+00'; DELETE FROM rollup_dirty;
        INSERT INTO maintenance (name, from_time) VALUES ('x', '2027-03-05 00:00+00');
        INSERT INTO maintenance_span VALUES (1, '[2027-03-05 00:00+00, 2027-03-05 01:00+00)')";
    world.db.batch_execute(back).await.unwrap();

    // Days without a check, beside one that is noted; and no time at all.
    let noted = "INSERT INTO rollup_dirty (period, start) VALUES ('hour', '2027-03-21 05:00+00')";
    world.db.batch_execute(noted).await.unwrap();
    for nothing in [
        "site_stats('2027-03-22 00:00+00', '2027-03-24 00:00+00')",
        "site_stats_in('{[2027-03-05 00:00+00,2027-03-05 00:00+00]}')",
        "site_stats_in('{}')",
        "site_stats_in(NULL)",
        "site_stats('2027-03-05', '2027-03-04')",
        "site_stats(NULL, '2027-03-04')",
        "uptimes('2027-03-05', NULL)",
        "site_maintenance('2027-03-05', '2027-03-04')",
        "uptimes('2027-03-05', '2027-03-04') WHERE up + degraded + down + unknown + expected > 0",
    ] {
        let rows = world
            .db
            .query(&format!("SELECT * FROM {nothing}"), &[])
            .await
            .unwrap();
        assert_eq!(rows.len(), 0, "{nothing}");
    }

    // All that there is.
    for all in ["'-infinity', 'infinity'", "'0001-01-01', '2100-01-01'"] {
        let number = format!(
            "SELECT sum(up + degraded + down + unknown)::int8 - (SELECT count(*) FROM check_result) FROM site_stats({all})"
        );
        assert_eq!(world.number(&number).await, 0, "{all}");
    }

    // They are what is read else.
    let wrong = "UPDATE rollup_month_to_date SET up = up + 7 WHERE day = '2027-03-31 00:00+00'";
    world.db.batch_execute(wrong).await.unwrap();
    assert!(wrong_ranges(&world, &mut random).await > 10);
    assert!(world.number(WRONG).await > 0);
}

#[actix_rt::test]
async fn no_hour_is_dropped_before_its_day_is_computed_however_long_history_is() {
    let (world, mut settings) = migrated("long").await;
    world.db.batch_execute(ANNOUNCED).await.unwrap();
    let old = "
        SELECT make_partition(parent, month, month + interval '1 month')
          FROM unnest('{check_result, check_detail}'::text[]) AS parent, generate_series('2027-01-01 00:00+00'::timestamptz, '2027-02-01', '1 month') AS month;
        INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
        SELECT slot, 1, 1, 1000, 0, 0, 0 FROM generate_series('2027-01-01 00:10+00'::timestamptz, '2027-02-28 23:59+00', '1 hour') AS slot;
        -- And one of today, by which it is known that all of that is old.
        SELECT make_partition(parent, '2027-07-01 00:00+00', '2027-08-01 00:00+00') FROM unnest('{check_result, check_detail}'::text[]) AS parent;
        INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
        VALUES ('2027-07-19 23:00+00', 1, 1, 1000, 0, 0, 0)";
    world
        .db
        .batch_execute(&format!("SET TIME ZONE 'UTC'; {old}"))
        .await
        .unwrap();
    settings.partition_width = Some(PartitionWidth::Month);
    settings.retention.raw = Some(days(10));
    settings.retention.hourly = Some(days(20));
    // A pass ends before its work, also between a day and the next.
    let dropped = pass(&mut keeper(&settings).await, slot(200)).await;
    assert_eq!(dropped, 3 * 2);
    let computed = "SELECT sum(up)::int8 FROM rollup_day WHERE day < '2027-03-01 00:00+00'";
    assert_eq!(world.number(computed).await, 59 * 24);
}

/// All that there is, which begins long after the range does.
async fn compare_all(world: &World) {
    for all in ["'-infinity', 'infinity'", "'0001-01-01', '2100-01-01'"] {
        let more = format!(
            "SELECT coalesce(sum(up + degraded + down + unknown), 0)::int8 - (SELECT count(*) FROM check_result) FROM site_stats({all})"
        );
        assert_eq!(world.number(&more).await, 0, "{all}");
    }
}

/// How many of 150 questions have another answer than their checks: of up to four ranges, long ones, short ones, whole hours and whole
/// days, around the rows.
async fn wrong_ranges(world: &World, random: &mut fastrand::Rng) -> usize {
    let compare = "
        WITH ranges AS (SELECT $1::text::tstzmultirange AS ranges),
        told AS (SELECT s.* FROM ranges, site_stats_in(ranges) AS s),
        checks AS (
            SELECT site_id, location_id, sum((outcome = 0)::int4), sum((outcome = 1)::int4), sum((outcome = 2)::int4),
                   sum((outcome = 3)::int4), round(hist_value(hist_bucket(min(total_us) FILTER (WHERE outcome < 2))))::int4,
                   round(hist_value(hist_bucket(max(total_us) FILTER (WHERE outcome < 2))))::int4,
                   (sum(total_us) FILTER (WHERE outcome < 2))::numeric, sum(10::numeric ^ (8 * hist_bucket(total_us))) FILTER (WHERE outcome < 2),
                   sum(10::numeric ^ (8 * ttfb_bucket)) FILTER (WHERE outcome < 2)
              FROM check_result, ranges WHERE slot <@ ranges GROUP BY 1, 2)
        SELECT (SELECT count(*) FROM told), (SELECT count(*) FROM ((TABLE told EXCEPT TABLE checks) UNION ALL (TABLE checks EXCEPT TABLE told)) AS d)";
    let (mut answers, mut wrong) = (0, 0);
    for round in 0..150 {
        let grain = [1, 3_600_000_000, DAY][round % 3];
        let mut draw = |most: i64| random.i64(0..most) / grain * grain;
        let ranges: Vec<String> = (0..=round / 9 % 4)
            .map(|_| {
                let from = START + 48 * DAY + draw(50 * DAY);
                let to = from + draw([DAY / 20, 3 * DAY, 50 * DAY][round / 3 % 3].max(grain + 1));
                format!("[{},{})", Slot::from_micros(from), Slot::from_micros(to))
            })
            .collect();
        let ranges = format!("{{{}}}", ranges.join(","));
        let row = world.db.query_one(compare, &[&ranges]).await.unwrap();
        if row.get::<_, i64>(1) > 0 {
            wrong += 1;
            println!("{ranges}");
        }
        answers += row.get::<_, i64>(0);
    }
    assert!(answers > 100, "{answers}");
    wrong
}

#[actix_rt::test]
async fn a_question_looks_only_into_the_partitions_of_its_range() {
    let (world, mut settings) = migrated("pruning").await;
    world.db.batch_execute(ANNOUNCED).await.unwrap();
    settings.partition_width = Some(PartitionWidth::Month);
    let mut housekeeper = keeper(&settings).await;
    pass(&mut housekeeper, slot(31)).await;
    let some = "
        INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
        SELECT slot, site, 1, 1000, 0, 0, 0
          FROM generate_series('2027-02-01 00:10+00'::timestamptz, '2027-04-15 00:00+00', '1 hour') AS slot, generate_series(1, 20) AS site";
    world.db.batch_execute(some).await.unwrap();
    pass(&mut housekeeper, slot(95)).await;
    world.db.batch_execute("ANALYZE").await.unwrap();
    // check_detail is rare: where it is small, reading all of it is cheaper than looking into a part once for each check.
    let scans = "
        SELECT relname::text, pg_stat_get_xact_numscans(oid) FROM pg_class
         WHERE relname ~ '^(check_result|rollup_hour|rollup_day|rollup_month_to_date)_2027'";
    for (question, months, least) in [
        (
            "checks WHERE site = 'a' AND slot >= '2027-03-10' AND slot < '2027-03-11'",
            "03",
            24,
        ),
        (
            "rollup_day WHERE site_id = 3 AND day >= '2027-02-01' AND day < '2027-03-01'",
            "02",
            28,
        ),
        (
            "site_stats('2027-02-10 05:30', '2027-03-10 07:10')",
            "02 03",
            20,
        ),
        (
            "site_stats('2027-02-10 05:30', '2027-03-10 07:10', '{3}')",
            "02 03",
            1,
        ),
        // What was checked since the last rollup: day 95 is 6 April.
        ("site_stats('2027-04-01', '2027-05-01', '{3}')", "04", 1),
    ] {
        // The server counts what this session looks into.
        world.db.batch_execute("BEGIN").await.unwrap();
        let before = world.db.query(scans, &[]).await.unwrap();
        let question = format!("SELECT * FROM {question}");
        let rows = world.db.query(&question, &[]).await.unwrap();
        let after = world.db.query(scans, &[]).await.unwrap();
        world.db.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(rows.len(), least, "{question}");
        let scanned = |rows: &[tokio_postgres::Row]| -> BTreeMap<String, i64> {
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        };
        let (before, after) = (scanned(&before), scanned(&after));
        let looked: Vec<&str> = after
            .iter()
            .filter(|(name, scans)| before[*name] < **scans)
            .map(|(name, _)| &name.split("_2027").last().unwrap()[..2])
            .collect();
        assert!(!looked.is_empty(), "{question}");
        assert!(
            looked.iter().all(|month| months.contains(month)),
            "{question}: {looked:?}"
        );
    }
}

#[actix_rt::test]
async fn a_percentile_of_merged_histograms_is_right_to_two_percent() {
    let (world, _) = migrated("percentiles").await;
    let distributions = "
        CREATE TABLE sample AS
        SELECT d AS distribution, n % 7 AS hour,
               (CASE d WHEN 0 THEN exp(ln(50000) + 0.4 * sqrt(-2 * ln(random() + 1e-9)) * cos(6.2832 * random()))
                       WHEN 1 THEN 100 + 30000000 * random() WHEN 2 THEN 20000 + (n % 100) / 99 * 5000000
                       WHEN 3 THEN 1500000000 * random() ELSE 4321 END)::int4 AS us
          FROM generate_series(0, 4) AS d, generate_series(1, 5000) AS n";
    world.db.batch_execute(distributions).await.unwrap();
    let compare = "
        WITH hours AS (SELECT distribution, sum(hist_of(hist_bucket(us))) AS hist, max(us) AS longest FROM sample GROUP BY distribution, hour),
             merged AS (SELECT distribution, sum(hist) AS hist, max(longest) AS longest FROM hours GROUP BY 1)
        SELECT distribution, p, hist_percentile(hist, p, longest), hist_percentile(hist, p), hist_count(hist),
               (SELECT percentile_disc(p) WITHIN GROUP (ORDER BY us) / 1000.0::float8 FROM sample s WHERE s.distribution = m.distribution)
          FROM merged m, unnest('{0, 0.001, 0.5, 0.9, 0.95, 0.99, 0.9999, 1}'::float8[]) AS p";
    let rows = world.db.query(compare, &[]).await.unwrap();
    assert_eq!(rows.len(), 40);
    for row in rows {
        assert_eq!(row.get::<_, i64>(4), 5000);
        let exact: f64 = row.get(5);
        for n in [2, 3] {
            let told: f64 = row.get(n);
            assert!(
                (told / exact - 1.0).abs() <= 0.0201,
                "{row:?}: {told} for {exact}"
            );
        }
    }
    // So many that one histogram does not hold them: half and one of the lower ones, half of the upper ones, and one.
    let many = "
        SELECT p, hist_percentile_of(ARRAY[hist_of(100) * 60000000, hist_of(101) * 1, NULL, hist_of(200) * 60000000, hist_of(300)], p) * 1000
          FROM unnest('{0, 0.4999, 0.5, 0.50000001, 0.99999998, 1}'::float8[]) AS p";
    let buckets = [100, 100, 101, 200, 200, 300];
    for (row, bucket) in std::iter::zip(world.query(many).await, buckets) {
        let value = format!("SELECT round(hist_value({bucket}))::int8");
        let told = row.get::<_, f64>(1).round() as i64;
        assert_eq!(told, world.number(&value).await, "{row:?}");
    }
    let few = "
        SELECT (hist_percentile_of(ARRAY[hist_of(100), hist_of(101), hist_of(103)], 0.5) = hist_percentile(hist_of(101), 0.5)
                AND hist_percentile_of(NULL, 0.5) IS NULL AND hist_percentile_of('{}', 0.5) IS NULL)::int4::int8";
    assert_eq!(world.number(few).await, 1);
    // Of more checks of a site than that nothing is said, rather than something wrong.
    let too_many = "
        SELECT make_partition('rollup_hour', '2027-01-01 00:00+00', '2027-02-01 00:00+00');
        UPDATE rollup_state SET rolled_until = '2027-01-02 00:00+00';
        INSERT INTO site_location VALUES (1, 1), (1, 2);
        INSERT INTO rollup_hour (hour, site_id, location_id, up, degraded, down, unknown, total_sum_us, total_hist)
        SELECT '2027-01-01 05:00+00', 1, place, 50000000, 0, 0, 0, 7, 50000000 * hist_of(100) FROM (VALUES (1), (2)) AS p (place)";
    world.db.batch_execute(too_many).await.unwrap();
    let none = "SELECT up, total_sum_us::int8, total_hist IS NULL FROM site_stats_in('{[2027-01-01 00:00+00,2027-01-02 00:00+00)}', NULL, false, false)";
    let row = &world.query(none).await[0];
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get(2)),
        (100_000_000, 14, true)
    );
    let none = "SELECT (hist_percentile(NULL, 0.5) IS NULL AND hist_percentile(0, 0.5) IS NULL)::int4::int8";
    assert_eq!(world.number(none).await, 1);
}

#[actix_rt::test]
async fn before_any_site_is_announced_no_width_is_guessed_for_long() {
    let (world, settings) = migrated("unknown_load").await;
    let mut housekeeper = keeper(&settings).await;
    housekeeper.pass(Clocks::agreeing(slot(0))).await.unwrap();
    let now = slot(0).to_system_time();
    let ahead = world.db.query_one(AHEAD, &[&now]).await.unwrap();
    assert_eq!(ahead.get::<_, i64>(0), 1, "{ahead:?}");
    world.db.batch_execute(ANNOUNCED).await.unwrap();
    housekeeper.pass(Clocks::agreeing(slot(0))).await.unwrap();
    let months = format!("SELECT number, widest = '31 days' FROM ({AHEAD}) AS a(number, widest)");
    let ahead = world.db.query_one(&months, &[&now]).await.unwrap();
    assert_eq!((ahead.get(0), ahead.get(1)), (7i64, true));
}

#[actix_rt::test]
async fn a_drop_that_is_interrupted_anywhere_is_gone_on_with() {
    for (n, place) in ["noted", "detached", "dropped"].into_iter().enumerate() {
        let (world, _) = migrated(place).await;
        make_old(&world).await;
        let crash = format!("housekeeping::{place}=panic(injected)");
        let crashed = housekeeping(&world, &["housekeep"])
            .env("FAILPOINTS", crash)
            .output()
            .unwrap();
        assert!(!crashed.status.success(), "{crashed:?}");
        assert_eq!(world.number(NOTED).await, 1, "{place}");
        assert_eq!(
            world.number(LEFT_BEHIND).await,
            i64::from(n == 1),
            "{place}"
        );
        let done = housekeeping(&world, &["housekeep"]).output().unwrap();
        assert!(done.status.success(), "{}", told(&done));
        let left = world.number(NOTED).await + world.number(LEFT_BEHIND).await;
        assert_eq!(left, 0, "{place}: {}", told(&done));
        let old = "SELECT count(*) FROM check_result WHERE slot < '2021-01-01'";
        assert_eq!(world.number(old).await, 0, "{place}");
    }
}

#[actix_rt::test]
async fn writers_go_on_while_a_reader_holds_up_a_drop_and_a_killed_one_is_finished() {
    let (mut world, mut settings) = migrated("held_up").await;
    make_old(&world).await;
    let made = housekeeping(&world, &["housekeep"])
        .env("SITEWATCH__POSTGRES__RETENTION__RAW", "forever")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", told(&made));
    // A report that takes long reads the partition that is to go.
    let read = "BEGIN; SELECT count(*) FROM check_result WHERE slot < '2021-01-01'";
    world.db.batch_execute(read).await.unwrap();
    let new = crate::support::connect(&world.database_url).await;
    let reader = std::mem::replace(&mut world.db, new);
    let mut waiting = housekeeping(&world, &["housekeep"]).spawn().unwrap();
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    world.wait_for("a detach that waits", pending, 1).await;

    let begin = Instant::now();
    for minute in 0..20 {
        let at = SystemTime::now() + Duration::from_secs(minute * 60);
        let row = "INSERT INTO check_result (slot, site_id, location_id, lateness_ms, outcome) VALUES ($1, 1, 1, 0, 0)";
        world
            .db
            .batch_execute("SET lock_timeout = '1s'")
            .await
            .unwrap();
        world.db.execute(row, &[&at]).await.unwrap();
    }
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    let makes = "SET lock_timeout = '1s'; SELECT make_partition('check_result', '2040-01-01', '2040-01-02')";
    world.db.batch_execute(makes).await.unwrap();

    waiting.kill().unwrap();
    waiting.wait().unwrap();
    // Nor does the rest of the housekeeping wait for it: hours are computed, and what was begun is only put off.
    settings.lock_timeout = Duration::from_millis(200);
    settings.retention.raw = Some(days(90));
    settings.retention.grace = Duration::ZERO;
    let gone = "SELECT 1 - count(*) FROM pg_stat_activity WHERE query LIKE '%DETACH%' AND pid <> pg_backend_pid()";
    world.wait_for("the end of its session", gone, 1).await;
    let mut housekeeper = keeper(&settings).await;
    let rolled = "SELECT (rolled_until > now() - interval '2 hours')::int4::int8 FROM rollup_state";
    world
        .db
        .batch_execute("UPDATE rollup_state SET rolled_until = now() - interval '1 day'")
        .await
        .unwrap();
    assert_eq!(pass(&mut housekeeper, wall_clock()).await, 0);
    assert_eq!(
        (world.number(rolled).await, world.number(pending).await),
        (1, 1)
    );
    drop(housekeeper);
    // The command waits for a minute, and does not say that it is done.
    let waited = housekeeping(&world, &["housekeep"])
        .env("SITEWATCH__POSTGRES__LOCK_TIMEOUT", "200ms")
        .output()
        .unwrap();
    assert!(
        waited.status.code() == Some(69) && told(&waited).contains("is read all the time"),
        "{}",
        told(&waited)
    );
    reader.batch_execute("COMMIT").await.unwrap();
    let done = housekeeping(&world, &["housekeep"]).output().unwrap();
    assert!(done.status.success(), "{}", told(&done));
    let left =
        world.number(pending).await + world.number(NOTED).await + world.number(LEFT_BEHIND).await;
    assert_eq!(left, 0, "{}", told(&done));
}

#[actix_rt::test]
async fn what_somebody_detached_to_keep_it_is_kept() {
    let (world, _) = migrated("kept").await;
    make_old(&world).await;
    let detach = "ALTER TABLE check_result DETACH PARTITION check_result_2020021500";
    world.db.batch_execute(detach).await.unwrap();
    let done = housekeeping(&world, &["housekeep"]).output().unwrap();
    assert!(done.status.success(), "{}", told(&done));
    assert!(told(&done).contains("dropped: 1"), "{}", told(&done));
    assert_eq!(
        world
            .number("SELECT count(*) FROM check_result_2020021500")
            .await,
        60
    );
}

#[actix_rt::test]
async fn a_consumer_keeps_house_by_itself_also_after_a_panic_and_a_reload() {
    let world = World::new("keeps_house").await;
    world.create_topic(1).await;
    let done = housekeeping(&world, &["migrate"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    make_old(&world).await;
    let panics = [("FAILPOINTS", "housekeeping::work=1*panic(boom)->off")];
    let mut consumer = world.node_with("consumer", "postgres: {}\n", &panics);
    world.produce((0..100).map(|n| message("a", n).to_string().into_bytes()));
    world
        .wait_for(
            "rows",
            "SELECT count(*) FROM check_result WHERE slot > '2021-01-01'",
            100,
        )
        .await;
    world.wait_for("partitions", PARTITIONS, 4).await;
    assert!(consumer.log().contains("boom"), "{}", consumer.log());
    let old = "SELECT count(*) FROM check_result WHERE slot < '2021-01-01'";
    assert_eq!(
        world.number(old).await,
        60,
        "nothing is dropped that nobody said"
    );

    let keep = "postgres: { max_slot_age: 30d, retention: { raw: 90d } }\n";
    std::fs::write(&consumer.file, keep).unwrap();
    consumer.signal("HUP");
    consumer.wait_for_log_times("partition detached", 2).await;
    assert_eq!(world.number(old).await, 0);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
