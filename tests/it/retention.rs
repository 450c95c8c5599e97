//! What is too old is taken away by the database's time and by what is stored, never by the clock of a process, and never at once.

use std::{process::Output, time::Duration};

use sitewatch_actors::{database::Clocks, housekeeping::Keeper, model::Slot, time::wall_clock};
use sitewatch_config::PostgresSettings;
use slog::{Discard, Logger, o};

use crate::{
    history::{SCHEMA, migrated},
    support::World,
};

const DAY: Duration = Duration::from_secs(86_400);

/// Rows of one site, by how many days ago.
const OLD: &str = "SELECT count(*) FROM check_result WHERE slot < now() - interval '90 days'";
const ALL: &str = "SELECT count(*) FROM check_result";
/// What reports tell of the time before.
const TOLD: &str =
    "SELECT sum(up)::int8 FROM site_stats(now() - interval '200 days', now() - interval '90 days')";
const NOTED: &str = "SELECT count(*) FROM partition_drop";
/// Tables that are no partition any more.
const LONE: &str = "
    SELECT count(*) FROM pg_class c WHERE c.relkind = 'r' AND c.relname ~ '^(check_result|check_detail)_[0-9]'
       AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)";

/// A site with a row in each hour of today, of 100 and of 110 days ago, all of it rolled up.
async fn with_rows(name: &str) -> (World, PostgresSettings, Keeper) {
    let (world, mut settings) = migrated(name).await;
    let rows = "
        INSERT INTO site (name, url) VALUES ('a', 'http://a/');
        INSERT INTO location (name) VALUES ('here');
        INSERT INTO site_location (site_id, location_id) VALUES (1, 1);
        SELECT make_partition(parent, day, day + interval '1 day')
          FROM unnest(ARRAY['check_result', 'check_detail']) AS parent, unnest(ARRAY[0, 1, 100, 110]) AS ago
         CROSS JOIN LATERAL (SELECT date_bin('1 day', now(), '2000-01-01 00:00+00') - ago * interval '1 day' AS day) AS d;
        INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error)
        SELECT date_bin('1 hour', now(), '2000-01-01 00:00+00') - ago * interval '1 day' - hour * interval '1 hour', 1, 1, 1000, 0, 200, 0, 0
          FROM unnest(ARRAY[0, 100, 110]) AS ago, generate_series(0, 12) AS hour
         WHERE date_bin('1 hour', now(), '2000-01-01 00:00+00') - hour * interval '1 hour' >= date_bin('1 day', now(), '2000-01-01 00:00+00')";
    world.db.batch_execute(rows).await.unwrap();
    settings.max_slot_age = 30 * DAY;
    let mut first = keeper(&settings).await;
    pass(&mut first, Clocks::agreeing(wall_clock())).await;
    settings.retention.raw = Some(90 * DAY);
    let housekeeper = keeper(&settings).await;
    (world, settings, housekeeper)
}

async fn keeper(settings: &PostgresSettings) -> Keeper {
    let log = Logger::root(Discard, o!());
    Keeper::open(settings.clone(), SCHEMA, log).await.unwrap()
}

/// All that is to be done. Returns how many partitions are gone.
async fn pass(keeper: &mut Keeper, clocks: Clocks) -> u64 {
    let mut gone = 0;
    loop {
        let done = keeper.pass(clocks).await.unwrap().unwrap();
        gone += done.dropped;
        if !done.more {
            return gone;
        }
    }
}

fn after(time: Slot, by: Duration) -> Slot {
    Slot::from_micros(time.as_micros() + i64::try_from(by.as_micros()).unwrap())
}

#[actix_rt::test]
async fn one_partition_of_a_class_goes_in_a_pass_and_is_dropped_a_week_later() {
    let (world, _, mut housekeeper) = with_rows("grace").await;
    let conflicts = "
        INSERT INTO check_conflict (site_id, location_id, hour, number, slot, stored, refused)
        SELECT 1, 1, date_bin('1 hour', slot, '2000-01-01 00:00+00'), 1, slot, '{}', '{}' FROM check_result";
    world.db.batch_execute(conflicts).await.unwrap();
    let (old, all) = (world.number(OLD).await, world.number(ALL).await);
    assert!(old > 0 && all > old, "{old} of {all}");
    let now = wall_clock();
    let one = housekeeper
        .pass(Clocks::agreeing(now))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        one.dropped, 2,
        "that of the results and that of their details"
    );
    assert_eq!(pass(&mut housekeeper, Clocks::agreeing(now)).await, 2);
    assert_eq!((world.number(OLD).await, world.number(LONE).await), (0, 4));
    assert_eq!(world.number(ALL).await, all - old);
    let conflicts = "SELECT count(*) FROM check_conflict";
    assert_eq!(world.number(conflicts).await, all - old);
    // Not by a time at which nothing is stored yet, and not before the week is over.
    for days in [6, 8] {
        pass(&mut housekeeper, Clocks::agreeing(after(now, days * DAY))).await;
        assert_eq!(world.number(LONE).await, 4, "{days} days later");
    }
    let goes_on = "
        SELECT make_partition('check_result', day, day + interval '1 day')
          FROM unnest(ARRAY[5, 8]) AS ago
         CROSS JOIN LATERAL (SELECT date_bin('1 day', now(), '2000-01-01 00:00+00') + ago * interval '1 day' AS day) AS d
         WHERE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'check_result_' || to_char(day AT TIME ZONE 'UTC', 'YYYYMMDDHH24'));
        INSERT INTO check_result (slot, site_id, location_id, lateness_ms, outcome, error)
        SELECT now() + ago * interval '1 day', 1, 1, 0, 0, 0 FROM unnest(ARRAY[5, 8]) AS ago";
    world.db.batch_execute(goes_on).await.unwrap();
    pass(&mut housekeeper, Clocks::agreeing(after(now, 8 * DAY))).await;
    assert_eq!(
        (world.number(LONE).await, world.number(NOTED).await),
        (0, 0)
    );
}

#[actix_rt::test]
async fn what_is_not_too_old_after_all_comes_back() {
    let (world, mut settings, mut housekeeper) = with_rows("comes_back").await;
    let (all, told) = (world.number(ALL).await, world.number(TOLD).await);
    let now = Clocks::agreeing(wall_clock());
    assert_eq!(pass(&mut housekeeper, now).await, 4);
    assert_eq!(
        (world.number(OLD).await, world.number(TOLD).await),
        (0, told),
        "rollups still tell of it"
    );
    drop(housekeeper);
    // More is kept now.
    settings.retention.raw = Some(105 * DAY);
    let mut housekeeper = keeper(&settings).await;
    pass(&mut housekeeper, now).await;
    assert_eq!(world.number(LONE).await, 2, "what is older than 105 days");
    drop(housekeeper);
    settings.retention.raw = None;
    let mut housekeeper = keeper(&settings).await;
    pass(&mut housekeeper, now).await;
    assert_eq!(
        (
            world.number(ALL).await,
            world.number(LONE).await,
            world.number(NOTED).await
        ),
        (all, 0, 0)
    );
    // What comes late is computed again, as if nothing had been.
    let late = "
        INSERT INTO check_result (slot, site_id, location_id, lateness_ms, outcome, error, total_us)
        SELECT min(slot) + interval '1 second', 1, 1, 0, 0, 0, 5 FROM check_result;
        INSERT INTO rollup_dirty (period, start) SELECT 'hour', date_bin('1 hour', min(slot), '2000-01-01 00:00+00') FROM check_result";
    world.db.batch_execute(late).await.unwrap();
    pass(&mut housekeeper, now).await;
    assert_eq!(world.number(TOLD).await, told + 1);
}

#[actix_rt::test]
async fn no_clock_alone_takes_anything_away() {
    let (world, _, mut housekeeper) = with_rows("clocks").await;
    let (all, old) = (world.number(ALL).await, world.number(OLD).await);
    let (now, later) = (wall_clock(), after(wall_clock(), 400 * DAY));
    // Rows of 100 days ago are too old: they don't go either while it is not known what time it is.
    for (database, process) in [(now, later), (later, now)] {
        let clocks = Clocks { database, process };
        let done = housekeeper.pass(clocks).await.unwrap().unwrap();
        assert!(!done.clocks_agree);
        assert_eq!(done.dropped, 0);
        assert_eq!(world.number(ALL).await, all);
    }
    // On one machine both are wrong, and nothing is stored of that time.
    pass(&mut housekeeper, Clocks::agreeing(later)).await;
    assert_eq!(
        world.number(ALL).await,
        all - old,
        "what is too old by any clock"
    );
    assert_eq!(world.number(LONE).await, 4);
    // A clock that was set right again does not keep it for 400 days and a week.
    let now = Clocks::agreeing(wall_clock());
    pass(&mut housekeeper, now).await;
    let marked = "SELECT count(*) FROM partition_drop WHERE detached_at <= now()";
    assert_eq!(world.number(marked).await, 4);
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The command, and the actor in each consumer, on a machine whose clock is 400 days ahead.
#[actix_rt::test]
async fn a_wrong_clock_of_a_process_is_told_and_takes_nothing_away() {
    let (world, _, housekeeper) = with_rows("wrong_clock").await;
    drop(housekeeper);
    let all = world.number(ALL).await;
    let ahead = [
        ("FAILPOINTS", "wall_clock::ahead=return(34560000)"),
        ("SITEWATCH__POSTGRES__MAX_SLOT_AGE", "30d"),
        ("SITEWATCH__POSTGRES__RETENTION__RAW", "90d"),
        ("SITEWATCH__POSTGRES__RETENTION__GRACE", "0s"),
    ];
    let mut command = world.program(&["housekeep"]);
    let done = command.envs(ahead).output().unwrap();
    assert_eq!(done.status.code(), Some(69), "{}", told(&done));
    let words = "nothing was dropped: this machine's clock (";
    assert!(told(&done).contains(words), "{}", told(&done));
    assert_eq!(world.number(ALL).await, all);

    world.create_topic(1).await;
    let mut consumer = world.node_with("consumer", "", &ahead);
    consumer
        .wait_for_log("nothing is dropped: this machine's clock and the database's differ by more than an hour")
        .await;
    assert_eq!(world.number(ALL).await, all);
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());
}
